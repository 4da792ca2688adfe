"""JSON as the standard has it, from files that may be damaged."""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST = 2**63
"""Of the whole numbers."""


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none; or it has a number that is NaN, infinite or larger than any that we write, which only
            Python's own reader would take, or is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _refused(constant: str) -> None:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits[:20])
    return number


def _whole(digits: str) -> int:
    number = int(digits)
    if abs(number) >= LARGEST:
        raise ValueError(digits[:20])
    return number
