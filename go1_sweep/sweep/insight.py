"""What a sweep says of its search: which parameter mattered, and how far a rung can be trusted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

ENOUGH = 8
"""Trials, below which a budget is left out: PED-ANOVA looks at the best tenth of them, and at two at least."""


def insight(study: optuna.Study, budgets: Sequence[float]) -> dict[str, Any]:
    """For ``result.json``.

    Args:
        study: of the trials; each has reported its score at the rungs that it reached.
        budgets: of the rungs, rising, and at last a trial's whole budget.

    Returns:
        ``importances``: for each budget that enough trials reached, how much of what set the best apart each
        parameter explains (PED-ANOVA, Watanabe et al. 2023; they sum up to 1).
        ``rungs``: for each rung, how the trials that completed were ranked there (Spearman's correlation of
        both scores), and the place that the best of them had there among all that reached it.
    """
    trials = study.get_trials(deepcopy=False)
    sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
    final = {
        trial.number: trial.value for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None
    }
    importances, rungs = [], []
    for budget in budgets:
        is_rung = budget != budgets[-1]
        scores = final if not is_rung else _at(trials, int(budget))
        if len(scores) >= ENOUGH and (found := _importances(study, trials, scores)):
            importances.append({"budget": budget, "trials": len(scores), "parameters": found})
        if is_rung and scores:
            rungs.append({"budget": budget, "trials": len(scores), **_trust(scores, final, sign)})
    return {"importances": importances, "rungs": rungs}


def _at(trials: Sequence[FrozenTrial], rung: int) -> dict[int, float]:
    return {trial.number: trial.intermediate_values[rung] for trial in trials if rung in trial.intermediate_values}


def _importances(study: optuna.Study, trials: Sequence[FrozenTrial], scores: Mapping[int, float]) -> dict[str, float]:
    """Of a study in which these are all trials, each completed with its score; none where all are alike."""
    if len(set(scores.values())) == 1:
        return {}
    compared = optuna.create_study(direction=study.direction)
    for trial in trials:
        if trial.number in scores:
            compared.add_trial(
                create_trial(params=trial.params, distributions=trial.distributions, value=scores[trial.number])
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental
        found = get_param_importances(compared)
    return {name: round(float(each), 4) for name, each in found.items() if math.isfinite(each)}


def _trust(scores: Mapping[int, float], final: Mapping[int, float], sign: float) -> dict[str, Any]:
    from scipy import stats

    both = [number for number in final if number in scores]
    correlation = math.nan
    if len(both) > 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all alike
            correlation = float(
                cast(Any, stats.spearmanr([scores[n] for n in both], [final[n] for n in both])).statistic
            )
    best = max(both, key=lambda number: sign * final[number], default=None)
    place = None if best is None else 1 + sum(sign * other > sign * scores[best] for other in scores.values())
    return {
        "completed": len(both),
        "rank_correlation": round(correlation, 4) if math.isfinite(correlation) else None,
        "place_of_best": place,
    }
