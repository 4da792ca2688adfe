"""JSON from files that may be damaged."""

from __future__ import annotations

import pytest

from go1_sweep import strict_json


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 400 + ".5", "[" * 100_000, "{"]
)
def test_what_no_program_of_ours_writes_is_refused(text):
    with pytest.raises(ValueError):
        strict_json.loads(text)


def test_numbers_stay_what_they_are():
    assert strict_json.loads("[1, -2.5, 1e300, 9223372036854775807]") == [1, -2.5, 1e300, 9223372036854775807]
