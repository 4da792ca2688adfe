"""ASHA: which trial goes on past a rung (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020).

The rule is here, free of Ray; ``tune_adapters`` lets Tune ask it. Ray's own ASHAScheduler is not used: it
lets a NaN pass every rung, forgets its rungs when a sweep is resumed, cannot leave a trial out, and
does not say which rung a trial was stopped at, which Optuna must be told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Rung:
    """A budget at which trials are compared, and the scores they had there.

    Attributes:
        budget: in the unit of the spec.
        scores: by trial; each trial is compared once.
    """

    budget: int
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a rung says of a trial that has just reached it."""

    rung: Rung
    goes_on: bool


class Asha:
    """Asynchronous successive halving.

    A trial goes on past a rung if its score is among the best ``1 / reduction_factor`` of those seen
    there so far, the trial included; so the first to come always goes on.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: float, mode: str) -> None:
        self.rungs = [Rung(budget) for budget in sorted(rungs)]
        self._reduction_factor = reduction_factor
        self._sign = 1.0 if mode == "max" else -1.0

    def report(self, trial: str, used: float, score: float | None) -> list[Verdict]:
        """Compare the trial at every rung that it has reached and was not yet compared at, lowest first.

        Without a score (no episode has ended yet) the comparison waits for the next report. Nothing is
        said of the rungs after one that stops the trial.
        """
        verdicts: list[Verdict] = []
        for rung in self.rungs:
            if used < rung.budget or score is None:
                break
            if trial in rung.scores:
                continue
            rung.scores[trial] = score
            verdicts.append(Verdict(rung, self._is_among_the_best(rung, score)))
            if not verdicts[-1].goes_on:
                break
        return verdicts

    def _is_among_the_best(self, rung: Rung, score: float) -> bool:
        places = max(1, math.floor(len(rung.scores) / self._reduction_factor))
        better = sum(self._sign * other > self._sign * score for other in rung.scores.values())
        return better < places
