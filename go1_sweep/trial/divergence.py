"""When a training has diverged: no NaN may come, and the GPU go on for nothing."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterable, Mapping

NAMES = ("mean_reward", "value_loss")
"""The columns of ``logs.csv`` that explode. With a fixed rate of 1e-2 a Go1's mean reward went to -2e10."""

MUST_BE_FINITE = (*NAMES, "surrogate_loss", "entropy")

FACTOR = 1000.0
"""A value that is so many times as large as it usually was is no longer that of a policy that learns.

What was usual is the median over the whole training, and at least 1: a Go1's mean reward grows from -1 to
100, and its value loss stays below 0.1.
"""


def is_nan(error: Exception) -> bool:
    """Whether the error says that a number was none: rsl_rl looks at what the env gives, torch at the policy."""
    return isinstance(error, ValueError) and re.search(r"\bnan\b", str(error), re.IGNORECASE) is not None


class Divergence:
    """Watches a training."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Begin with the rows that ``logs.csv`` has already."""
        self._sizes: dict[str, list[float]] = {name: [] for name in NAMES}
        for row in rows:
            for name in NAMES:
                if row.get(name):
                    self._usual(name, abs(float(row[name])))

    def check(self, row: Mapping[str, float], broken: Iterable[str]) -> str:
        """What is wrong with an iteration; empty: nothing.

        Args:
            row: of ``logs.csv``; a value that is not there is not compared.
            broken: the columns whose value was not finite, and is not in the row.
        """
        for name in MUST_BE_FINITE:
            if name in broken:
                return f"{name} was not finite"
        for name in NAMES:
            if name in row:
                usual = self._usual(name, abs(row[name]))
                if abs(row[name]) > FACTOR * usual:
                    return f"{name} was {row[name]:.3g}, and {usual:.3g} was usual"
        return ""

    def _usual(self, name: str, size: float) -> float:
        """What was usual before this value; infinite for the first one, which an untrained policy gave."""
        sizes = self._sizes[name]
        usual = max(1.0, sizes[(len(sizes) - 1) // 2]) if sizes else math.inf
        bisect.insort(sizes, size)
        return usual
