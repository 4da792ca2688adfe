"""A space that searches nothing is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from go1_sweep import spec
from go1_sweep.spec_warnings import warnings

RATE: dict[str, Any] = {"log_uniform": [1e-4, 1e-2]}
SCHEDULE = {"choice": ["adaptive", "fixed"]}
WHEN_FIXED, WHEN_ADAPTIVE = {"when": {"schedule": "fixed"}}, {"when": {"schedule": "adaptive"}}
STEPS = {"choice": [24, 48], "when": {"schedule": "fixed"}}


def warned(
    tmp_path: Path,
    parameters: dict[str, Any],
    fixed: dict[str, Any],
    default: str = "adaptive",
    more: dict[str, Any] | None = None,
) -> list[str]:
    file = tmp_path / "sweep.yaml"
    search = {"trials": 1, "parameters": parameters, "fixed": fixed}
    file.write_text(yaml.safe_dump({"task": "flat", "search": search, "budget": {"max": 6}, **(more or {})}))
    return [text.partition(":")[0].rpartition(".")[2] for text in warnings(spec.load(file), {"schedule": default})]


@pytest.mark.parametrize(
    ("parameters", "fixed"),
    [
        ({"learning_rate": RATE}, {}),
        ({"learning_rate": RATE}, {"schedule": "adaptive"}),
        ({"learning_rate": RATE, "schedule": SCHEDULE}, {}),
        ({"learning_rate": {**RATE, **WHEN_ADAPTIVE}, "schedule": SCHEDULE}, {}),
        ({"agent.algorithm.learning_rate": RATE}, {}),
    ],
)
def test_a_rate_that_is_searched_under_the_adaptive_schedule_is_told_to_search_nothing(tmp_path, parameters, fixed):
    assert warned(tmp_path, parameters, fixed) == ["learning_rate"]


@pytest.mark.parametrize(
    ("parameters", "fixed", "default"),
    [
        ({"learning_rate": RATE}, {"schedule": "fixed"}, "adaptive"),
        ({"learning_rate": RATE}, {}, "fixed"),
        ({"learning_rate": RATE}, {"agent.algorithm.schedule": "fixed"}, "adaptive"),
        ({"learning_rate": RATE, "agent.algorithm.schedule": {"choice": ["fixed"]}}, {}, "adaptive"),
        ({"learning_rate": {**RATE, **WHEN_FIXED}, "schedule": SCHEDULE}, {}, "adaptive"),
        (
            {
                "learning_rate": {**RATE, "when": {"num_steps_per_env": 48}},
                "num_steps_per_env": STEPS,
                "schedule": SCHEDULE,
            },
            {},
            "adaptive",
        ),
        ({"desired_kl": {**RATE, **WHEN_ADAPTIVE}, "schedule": SCHEDULE}, {}, "adaptive"),
        ({"entropy_coef": RATE}, {}, "adaptive"),
    ],
)
def test_what_is_searched_where_it_counts_is_not(tmp_path, parameters, fixed, default):
    assert warned(tmp_path, parameters, fixed, default) == []


def test_a_divergence_that_nothing_reads_is_told(tmp_path):
    assert warned(tmp_path, {"desired_kl": RATE}, {"schedule": "fixed"}) == ["desired_kl"]


@pytest.mark.parametrize(
    ("metric", "term", "told"),
    [
        ("mean_reward", "upright", ["metric"]),
        ("track_linear_velocity", "track_linear_velocity", ["metric"]),
        ("track_linear_velocity", "track_lin_vel_xy_exp", ["metric"]),
        ("Episode_Reward/upright", "upright", ["metric"]),
        ("track_linear_velocity", "upright", []),
        ("mean_episode_length", "upright", []),
    ],
)
def test_rewards_that_are_searched_by_what_they_pay_are_told(tmp_path, metric, term, told):
    more = {"early_stopping": {"metric": metric}}
    assert warned(tmp_path, {f"env.rewards.{term}.weight": RATE}, {}, more=more) == told


def test_rewards_that_are_the_same_for_all_are_not(tmp_path):
    assert warned(tmp_path, {"entropy_coef": RATE}, {"env.rewards.upright.weight": 0.5}) == []


@pytest.mark.parametrize(
    ("gpus", "unit", "told"),
    [
        (0.25, "train_seconds", ["unit"]),
        (0.25, "iterations", []),
        (1, "train_seconds", []),
        ("auto", "train_seconds", []),
    ],
)
def test_seconds_that_hang_on_the_neighbours_are_told(tmp_path, gpus, unit, told):
    more = {"resources": {"gpus": gpus}, "budget": {"unit": unit, "max": 6}}
    assert warned(tmp_path, {"entropy_coef": RATE}, {}, more=more) == told


@pytest.mark.parametrize("name", ["flat", "rough", "quickstart"])
def test_the_sweep_files_that_come_with_the_package_are_without_a_warning(name):
    shipped = spec.load(Path(f"search_spaces/{name}.yaml"))
    assert warnings(shipped, {"schedule": "adaptive"}) == []
