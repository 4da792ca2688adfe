"""A training that explodes is told from one that learns."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import table

from go1_sweep.trial.divergence import Divergence

ROOT = Path(__file__).parents[1]


def first_problem(rewards: list[float], kept: list[dict[str, str]] | None = None) -> tuple[int, str]:
    watch = Divergence(kept or [])
    problems = ((i, watch.check({"mean_reward": reward}, [])) for i, reward in enumerate(rewards, 1))
    return next(((i, problem) for i, problem in problems if problem), (0, ""))


def test_a_go1_at_a_fixed_rate_of_1e_2_is_ended_in_its_third_iteration():
    """The rewards are those of mjlab's flat task with 64 envs."""
    assert first_problem([-0.2129, -164.4, -1907.0, -2368.0]) == (3, "mean_reward was -1.91e+03, and 1 was usual")


def test_growth_by_a_tenth_in_each_iteration_is_noticed():
    at, _ = first_problem([-(1.1**i) for i in range(400)])
    assert 100 < at < 200


@pytest.mark.parametrize("run", ["train_flat_h200", "train_rough_h200"])
def test_the_rewards_of_a_real_training_are_never_taken_for_one(run):
    curve = table(ROOT / "benchmarks" / "results" / run / "curve.csv")
    rewards = [float(row["mean_reward"]) for row in curve]
    assert len(rewards) > 80
    assert first_problem(rewards) == (0, "")


def test_a_task_with_large_rewards_goes_on_after_a_resume():
    kept = [{"mean_reward": str(value)} for value in range(-50, 5000, 50)]
    assert first_problem([5000.0, 20000.0], kept) == (0, "")
    assert first_problem([5000.0, 2e7], kept)[0] == 2


def test_what_is_not_finite_is_named_first():
    assert Divergence([]).check({"mean_reward": 1.0}, ["value_loss"]) == "value_loss was not finite"
