"""rsl_rl's runner as a trial uses it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rsl_rl.utils.logger import Logger

from go1_sweep.trial.runner import average


class Writer:
    """Keeps what rsl_rl logs."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}

    def add_scalar(self, tag: str, value: Any, step: int) -> None:
        self.scalars[tag] = float(value)


def logged(steps: list[dict[str, Any]]) -> dict[str, float]:
    """What rsl_rl logs of steps that an env tells of."""
    logger = Logger(None, {"num_steps_per_env": 1, "algorithm": {"rnd_cfg": None}}, {}, 1, False, 1, 0, "cpu")
    logger.writer = writer = Writer()  # pyright: ignore[reportAttributeAccessIssue]
    logger.ep_extras = steps
    logger.log(0, 0, 1, 0.1, 0.1, {}, 1e-3, torch.ones(1), None)
    return {tag: value for tag, value in writer.scalars.items() if tag.startswith("Episode")}


def test_rsl_rl_logs_of_the_average_what_it_logs_of_all_steps():
    def steps() -> list[dict[str, Any]]:
        return [
            {"Episode_Reward/track": torch.tensor(0.5), "fell": 1, "Episode/ends": torch.tensor([1, 2, 6])},
            {},
            {"Episode_Reward/track": torch.tensor([0.25]), "Episode/late": 3.0, "Episode/ends": torch.tensor([])},
            {"Episode_Reward/track": 0.75, "fell": 0},
        ]

    averaged = steps()
    average(averaged)
    assert len(averaged) == 1, "nothing is left to join"
    expected = {"Episode_Reward/track": 0.5, "Episode/fell": 0.5, "Episode/ends": 3.0, "Episode/late": 3.0}
    assert logged(averaged) == pytest.approx(expected)
    assert logged(steps()) == pytest.approx(expected)


def test_an_env_that_tells_nothing_has_nothing_averaged():
    nothing: list[dict[str, Any]] = []
    average(nothing)
    assert logged(nothing) == {}
