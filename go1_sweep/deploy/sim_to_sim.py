"""The proof in another simulator: an exported policy, by the runtime alone, drives a Go1 in plain MuJoCo.

It is told what it was told in the exam, on flat ground, without noise and pushes: a robot on a calm day. What was lost
on the way out of the trainer (an order of joints, a scale, a gain) shows as a score below that of the exam.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from go1_sweep import exam
from go1_sweep.deploy.go1 import Go1
from go1_sweep.deploy.policy import Policy
from go1_sweep.evaluation import Evaluation, Figures, figures
from go1_sweep.paths import write_json
from go1_sweep.protocol import Episode

MARGIN = 0.05
"""So far the score may fall short of the exam's, which has noise and pushes.

benchmarks/README.md says what wrong orders, scales and gains cost."""

WALKS = 0.7
"""What a policy must have in the exam, where one that only stands has 0.61: less is chance, how it falls."""


@dataclass(frozen=True)
class SimToSim:
    """What came of it.

    Attributes:
        steps: that each command lasted.
        here: an episode in MuJoCo for each command, in the order of the exam's.
        there: the episodes of the exam; of rough ground the easiest.
    """

    steps: int
    here: list[Episode]
    there: list[Episode]

    @property
    def score(self) -> float:
        """In MuJoCo."""
        return self._figures(self.here).score or 0.0

    @property
    def expected(self) -> float:
        """The score in the exam."""
        return self._figures(self.there).score or 0.0

    @property
    def agrees(self) -> bool | None:
        """Whether the policy does as in the simulator that it was trained in; ``None``: it does not walk there."""
        return self.score >= self.expected - MARGIN if self.expected >= WALKS else None

    @property
    def sentence(self) -> str:
        """What to say of it."""
        both = f"{self.score:.3f} in plain MuJoCo, {self.expected:.3f} in the exam"
        if self.agrees is None:
            return f"The policy does not walk well enough to be proven in another simulator: score {both}"
        if self.agrees:
            return f"The exported policy walks outside the trainer as it does inside: score {both}"
        return f"The exported policy does NOT do outside the trainer what it does inside: score {both}"

    def summary(self) -> dict[str, Any]:
        """The same for JSON."""
        figures = {"score": self.score, "exam": self.expected, "margin": MARGIN}
        return {"agrees": self.agrees, "sentence": self.sentence, **figures}

    def rows(self) -> list[tuple[str, Figures, Figures]]:
        """Each command, and the figures here and there; of all together at last."""
        of = {command: self._both([command]) for command in exam.COMMANDS}
        return [(name, *both) for name, both in {**of, "all": self._both(list(exam.COMMANDS))}.items()]

    def save(self, path: Path) -> None:
        """Write it.

        Raises:
            OSError: it cannot be written.
        """
        commands = {name: {"mujoco": _told(here), "exam": _told(there)} for name, here, there in self.rows()}
        versions = {"mujoco": mujoco.__version__}
        write_json(path, {**self.summary(), "versions": versions, "steps": self.steps, "commands": commands})

    def _both(self, commands: list[str]) -> tuple[Figures, Figures]:
        return self._figures(_of(commands, self.here)), self._figures(_of(commands, self.there))

    def _figures(self, episodes: list[Episode]) -> Figures:
        return figures(episodes, self.steps)


def compared(folder: Path, evaluation: Evaluation) -> SimToSim:
    """Drive the policy of a bundle.

    Args:
        folder: of the bundle.
        evaluation: of its policy, in the exam.

    Raises:
        BundleError: it is no bundle, or no policy for a Go1 in MuJoCo.
        ModuleNotFoundError: mjlab, which brings the model, or onnxruntime is not installed.
    """
    policy = Policy.load(folder)
    robot = Go1(policy)
    here = [driven(policy, robot, env, evaluation.max_length) for env in range(len(exam.COMMANDS))]
    of_exam = [episode for episodes in evaluation.episodes.values() for episode in episodes]
    easiest = [episode for episode in of_exam if exam.difficulty_of(episode.env) == 0.0]
    has_all = {exam.command_of(episode.env) for episode in easiest} == exam.COMMANDS.keys()
    return SimToSim(evaluation.max_length, here, easiest if has_all else of_exam)


def driven(policy: Policy, robot: Go1, env: int, steps: int) -> Episode:
    """What becomes of the robot that has the command of that env of the exam.

    Args:
        policy: that drives it.
        robot: that is driven, from its reset on.
        env: see ``exam.command_of``.
        steps: at most.
    """
    command = np.array(exam.COMMANDS[exam.command_of(env)])
    robot.reset()
    policy.reset()
    velocities, powers, targets = [], [], []
    fell = False
    while len(targets) < steps and not fell:
        velocities.append(robot.velocity)
        try:
            targets.append(policy(robot.observe(command)))
        except ValueError:  # it has moved a joint as no Go1 can
            targets.append(robot.data.ctrl.copy())
            fell = True
        robot.act(targets[-1])
        powers.append(robot.power)
        fell |= robot.has_fallen
    squares = np.square(np.array(velocities) - command)
    changes = np.diff(targets, axis=0) / policy.step_seconds
    return Episode(
        total_reward=math.nan,
        length=len(targets),
        lin_vel_rmse=float(np.sqrt(squares[:, :2].sum(axis=1).mean())),
        ang_vel_rmse=float(np.sqrt(squares[:, 2].mean())),
        speed=float(np.linalg.norm(np.array(velocities)[:, :2], axis=1).mean()),
        power=float(np.mean(powers)),
        target_rate=float(np.sqrt(np.square(changes).mean())) if len(changes) else 0.0,
        fell=fell,
        cut_off=not fell,
        env=env,
    )


def _of(commands: list[str], episodes: list[Episode]) -> list[Episode]:
    return [each for each in episodes if exam.command_of(each.env) in commands]


def _told(of: Figures) -> dict[str, Any]:
    names = ("score", "lin_vel_rmse", "ang_vel_rmse", "survival_rate", "cost_of_transport", "target_rate")
    return {name: value for name, value in dataclasses.asdict(of).items() if name in names}
