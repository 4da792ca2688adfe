"""trials.csv gives back what was written into it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go1_sweep.errors import UserError
from go1_sweep.paths import SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.trials_table import TrialRecord, best, read, write

finite = st.floats(allow_nan=False, allow_infinity=False)
printable = st.text().filter(str.isprintable)
tricky = st.sampled_from(["1e-3", "1e-05", "true", "null", "~", "", " ", "a: b", "#", "'", "[1]", "- x", "0x1f", "!t"])
values = st.booleans() | st.integers(-(10**25), 10**25) | finite | printable | tricky
records = st.lists(
    st.builds(
        TrialRecord,
        trial=st.from_regex(r"[0-9]{4}|baseline", fullmatch=True),
        parameters=st.dictionaries(st.sampled_from(["learning_rate", "gamma", "env.a,b", "agent.seed"]), values),
        seed=st.integers(0, 2**31 - 1),
        state=st.sampled_from(["running", "completed", "failed"]),
        why=printable,
        progress=st.builds(
            Progress,
            iterations=st.integers(0, 10**9),
            env_steps=st.integers(0, 10**15),
            train_seconds=st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
            score=st.none() | finite,
        ),
    )
)


@settings(max_examples=100, deadline=None)
@given(records)
def test_what_is_written_is_read_back_with_the_types_of_its_parameters(records):
    with tempfile.TemporaryDirectory() as folder:
        write(SweepPaths(Path(folder)), records, ["gamma"])
        back = read(SweepPaths(Path(folder)))
    assert back == records
    for one, other in zip(back, records, strict=True):
        assert {n: type(v) for n, v in one.parameters.items()} == {n: type(v) for n, v in other.parameters.items()}


def test_before_the_first_trial_there_is_none(tmp_path):
    assert read(SweepPaths(tmp_path)) == []


@pytest.mark.parametrize("content", ["", "trial,state\n0000\n", "\xff", "a,b,c,d,e,f,g,h\n1,2,3,nan,5,6,7,8\n"])
def test_a_table_that_is_none_is_one_sentence(tmp_path, content):
    paths = SweepPaths(tmp_path)
    paths.trials_table.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="is no table of trials"):
        read(paths)


def test_a_completed_trial_without_a_score_is_the_best_only_where_none_has_one():
    def completed(trial: str, score: float | None) -> TrialRecord:
        return TrialRecord(trial, {}, 0, "completed", progress=Progress(score=score))

    silent, weak, strong = completed("0", None), completed("1", -2.0), completed("2", -1.0)
    assert best([silent, weak, strong], "max") is strong
    assert best([silent, weak, strong], "min") is weak
    assert best([silent], "max") is silent
    assert best([TrialRecord("3", {}, 0)], "max") is None
