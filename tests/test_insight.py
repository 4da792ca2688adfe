"""What a sweep says of its search, from studies whose truth is known."""

from __future__ import annotations

import random
from typing import Literal

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from go1_sweep.sweep.insight import insight

DISTRIBUTIONS = {
    "schedule": CategoricalDistribution(("adaptive", "fixed")),
    "rate": FloatDistribution(0.0, 1.0),
    "idle": FloatDistribution(0.0, 1.0),
}


def study(scores, direction: Literal["maximize", "minimize"] = "maximize", count: int = 60) -> optuna.Study:
    """Trials with a conditional parameter; ``scores`` gives those at the rungs 2 and 6, and at the end or ``None``."""
    draw = random.Random(1)
    made = optuna.create_study(direction=direction)
    for _ in range(count):
        params = {"schedule": draw.choice(["adaptive", "fixed"]), "idle": draw.random()}
        if params["schedule"] == "fixed":
            params["rate"] = draw.random()
        at_two, at_six, final = scores(params, draw)
        reported = {2: at_two} | ({} if at_six is None else {6: at_six})
        made.add_trial(
            create_trial(
                state=TrialState.PRUNED if final is None else TrialState.COMPLETE,
                value=final,
                params=params,
                distributions={name: DISTRIBUTIONS[name] for name in params},
                intermediate_values=reported,
            )
        )
    return made


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_parameter_that_matters_is_told_from_the_one_that_does_nothing(direction):
    sign = 1 if direction == "maximize" else -1

    def scores(params, draw):
        score = sign * (params.get("rate", 0.0) + 0.01 * draw.random())
        return score, score, score

    found = insight(study(scores, direction), [2, 6, 12])["importances"]
    assert [(each["budget"], each["trials"]) for each in found] == [(2, 60), (6, 60), (12, 60)]
    for each in found:
        assert each["parameters"]["rate"] > 3 * each["parameters"]["idle"]
        assert sum(each["parameters"].values()) == pytest.approx(1, abs=1e-3)


def test_all_trials_count_at_the_rung_that_they_reached_and_a_budget_with_too_few_is_left_out():
    def scores(params, draw):
        score = draw.random()
        return score, score if score > 0.5 else None, score if score > 0.95 else None

    made = study(scores)
    reached = sum(6 in trial.intermediate_values for trial in made.trials)
    found = insight(made, [2, 6, 12])
    assert [(each["budget"], each["trials"]) for each in found["importances"]] == [(2, 60), (6, reached)]
    assert [each["trials"] for each in found["rungs"]] == [60, reached]


def test_a_rung_that_tells_nothing_is_told_from_one_that_tells_all():
    def scores(params, draw):
        final = draw.random()
        return draw.random(), final, final

    misleading, telling = insight(study(scores), [2, 6, 12])["rungs"]
    assert abs(misleading["rank_correlation"]) < 0.4
    assert (telling["rank_correlation"], telling["place_of_best"], telling["completed"]) == (1.0, 1, 60)


def test_where_nothing_completed_or_all_are_alike_nothing_is_said():
    assert insight(study(lambda params, draw: (1.0, None, None)), [2, 6, 12]) == {
        "importances": [],
        "rungs": [{"budget": 2, "trials": 60, "completed": 0, "rank_correlation": None, "place_of_best": None}],
    }
    assert insight(optuna.create_study(), [12.0]) == {"importances": [], "rungs": []}
