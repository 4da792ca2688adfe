"""The Go1 exam: what a policy is judged by, the same for every sweep, trial and simulator.

A robot gets one command and keeps it for the whole exam, on terrain of one difficulty, with the sensor noise
and the pushes that its task has in training. Env ``i`` has the ``i``-th command, and the first again after the
last; difficulties take turns from robot to robot, so that in 48 envs each command meets each. Whoever walks far leaves
its patch (of 8 m) for a neighbouring one.

The score of a robot lies between 0 (it fell at once) and 1::

    part * sum(weight * exp(-(value / scale) ** exponent))    over TERMS

``part`` is that of the exam before a fall. The score of a policy is the mean over its robots, of which each command
has as many as any other. One that only stands gets 0.61.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from go1_sweep.protocol_jobs import Episode

SECONDS = 20.0
"""How long it lasts: an episode of training, in which Isaac Lab's robots are pushed once, and mjlab's ten times."""

COMMANDS = {
    "stand": (0.0, 0.0, 0.0),
    "forward": (0.5, 0.0, 0.0),
    "fast": (1.0, 0.0, 0.0),
    "backward": (-0.5, 0.0, 0.0),
    "left": (0.0, 0.5, 0.0),
    "right": (0.0, -0.5, 0.0),
    "turn left": (0.0, 0.0, 0.5),
    "turn right": (0.0, 0.0, -0.5),
    "curve left": (0.5, 0.0, 0.5),
    "curve right": (0.5, 0.0, -0.5),
    "diagonal": (0.5, 0.5, 0.0),
    "all at once": (-0.5, -0.3, 0.3),
}
"""Forward and sideways velocity [m/s] and yaw rate [rad/s]: within what both simulators train on from the start."""

DIFFICULTIES = (0.0, 1 / 3, 2 / 3, 1.0)
"""Levels of terrain, from the easiest to the hardest that training has; on flat ground all are one."""


@dataclass(frozen=True)
class Term:
    """A part of the score: ``weight * exp(-(value / scale) ** exponent)``.

    Attributes:
        value: an attribute of an episode, in the unit of ``scale``.
        weight: all of them sum up to 1.
        scale: [m/s], [rad/s], [W/N] and [rad/s].
        exponent: 2 is the kernel of the tasks' own tracking rewards.
    """

    value: str
    weight: float
    scale: float
    exponent: int


TERMS = (
    Term("lin_vel_rmse", 0.6, 0.5, 2),
    Term("ang_vel_rmse", 0.3, 0.5, 2),
    Term("power", 0.05, 1.0, 1),
    Term("target_rate", 0.05, 10.0, 1),
)
"""Walking as told is nearly all; of two that walk alike, the one that takes less effort and trembles less is better."""


def check_envs(number: int) -> int:
    """The number of envs, if each command gets as many robots as any other.

    Raises:
        ValueError: it does not.
    """
    if number < 1 or number % len(COMMANDS):
        raise ValueError(f"the exam has {len(COMMANDS)} commands, so envs are a multiple of that, not {number}")
    return number


def command_of(env: int) -> str:
    """The command of an env."""
    return list(COMMANDS)[env % len(COMMANDS)]


def difficulty_of(env: int) -> float:
    """The terrain of an env."""
    return DIFFICULTIES[(env + env // len(COMMANDS)) % len(DIFFICULTIES)]


def robot_score(episode: Episode, steps: int) -> float:
    """The score of one robot in an exam of so many steps."""
    part = episode.length / steps if episode.fell else 1.0
    return part * sum(
        term.weight * math.exp(-((getattr(episode, term.value) / term.scale) ** term.exponent)) for term in TERMS
    )
