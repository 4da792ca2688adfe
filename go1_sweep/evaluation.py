"""What play says of a checkpoint: figures from episodes, and the file that keeps both."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from go1_sweep.paths import write_json
from go1_sweep.protocol import Episode, Evaluated


@dataclass(frozen=True)
class Figures:
    """How a policy did, over some episodes.

    Attributes:
        total_reward: mean return of an episode, not discounted.
        length: mean length of an episode [steps].
        lin_vel_rmse: of the horizontal velocity from the commanded one, over all steps [m/s].
        ang_vel_rmse: of the yaw rate from the commanded one, over all steps [rad/s].
        fall_rate: the part of the episodes that a fall ended.
    """

    total_reward: float
    length: float
    lin_vel_rmse: float
    ang_vel_rmse: float
    fall_rate: float


NAMES = tuple(field.name for field in dataclasses.fields(Figures))


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint in play.

    Attributes:
        trial: whose it is; empty where it is of no sweep.
        checkpoint: the name of its file.
        sha256: of the file.
        roles: why it was evaluated: ``last`` of its trial, ``best`` by its training score, or both.
        task_id: what was played.
        versions: of what the play rests on.
        max_length: of an episode [steps].
        step_seconds: that a step stands for [s].
        episodes: by seed of the envs.
    """

    trial: str
    checkpoint: str
    sha256: str
    roles: tuple[str, ...]
    task_id: str
    versions: dict[str, str]
    max_length: int
    step_seconds: float
    episodes: dict[int, list[Episode]]

    @property
    def num_episodes(self) -> int:
        """With all seeds."""
        return sum(map(len, self.episodes.values()))

    @property
    def num_falls(self) -> int:
        """With all seeds."""
        return sum(episode.fell for episodes in self.episodes.values() for episode in episodes)

    def by_seed(self) -> dict[int, Figures]:
        """The figures of each seed."""
        return {seed: figures(episodes) for seed, episodes in self.episodes.items()}

    def overall(self) -> Figures:
        """The figures of all episodes together."""
        return figures([episode for episodes in self.episodes.values() for episode in episodes])

    def spread(self) -> Figures | None:
        """The standard deviation of each figure over the seeds (n - 1); ``None`` for one seed."""
        seeds = list(self.by_seed().values())
        if len(seeds) < 2:
            return None
        return Figures(*(statistics.stdev(getattr(each, name) for each in seeds) for name in NAMES))

    def summary(self) -> dict[str, Any]:
        """What there is to say in a few numbers, for JSON."""
        spread = self.spread()
        return {
            "trial": self.trial,
            "checkpoint": self.checkpoint,
            "roles": list(self.roles),
            "episodes": self.num_episodes,
            "falls": self.num_falls,
            "overall": dataclasses.asdict(self.overall()),
            "std_over_seeds": dataclasses.asdict(spread) if spread else None,
        }

    def to_json(self) -> dict[str, Any]:
        """The summary, and all that it was made of: the episodes as columns, by seed."""
        return {
            **self.summary(),
            "sha256": self.sha256,
            "task_id": self.task_id,
            "versions": self.versions,
            "max_length": self.max_length,
            "step_seconds": self.step_seconds,
            "seeds": [
                {"seed": seed, **dataclasses.asdict(each), "episodes": _columns(self.episodes[seed])}
                for seed, each in self.by_seed().items()
            ],
        }

    def save(self, path: Path) -> None:
        """Write the file that ``load`` reads.

        Raises:
            OSError: it cannot be written.
        """
        write_json(path, self.to_json())


def evaluation_of(
    trial: str, checkpoint: str, sha256: str, answers: dict[int, Evaluated], roles: tuple[str, ...] = ()
) -> Evaluation:
    """What came of a checkpoint's play: the arguments as in ``Evaluation``, and the worker's answers by seed."""
    first = next(iter(answers.values()))
    return Evaluation(
        trial=trial,
        checkpoint=checkpoint,
        sha256=sha256,
        roles=roles,
        task_id=first.task_id,
        versions=first.versions,
        max_length=first.max_length,
        step_seconds=first.step_seconds,
        episodes={seed: answer.episodes for seed, answer in answers.items()},
    )


def load(path: Path) -> Evaluation | None:
    """The evaluation in the file; ``None`` if there is none, or it is of another form."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(
            trial=content["trial"],
            checkpoint=content["checkpoint"],
            sha256=content["sha256"],
            roles=tuple(content["roles"]),
            task_id=content["task_id"],
            versions=content["versions"],
            max_length=content["max_length"],
            step_seconds=content["step_seconds"],
            episodes={seed["seed"]: _rows(seed["episodes"]) for seed in content["seeds"]},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def figures(episodes: list[Episode]) -> Figures:
    """The figures of some episodes, at least one."""
    steps = sum(episode.length for episode in episodes)

    def rmse(name: str) -> float:
        return math.sqrt(sum(getattr(episode, name) ** 2 * episode.length for episode in episodes) / steps)

    return Figures(
        total_reward=statistics.fmean(episode.total_reward for episode in episodes),
        length=statistics.fmean(episode.length for episode in episodes),
        lin_vel_rmse=rmse("lin_vel_rmse"),
        ang_vel_rmse=rmse("ang_vel_rmse"),
        fall_rate=statistics.fmean(episode.fell for episode in episodes),
    )


def _columns(episodes: list[Episode]) -> dict[str, list[Any]]:
    return {field.name: [getattr(e, field.name) for e in episodes] for field in dataclasses.fields(Episode)}


def _rows(columns: dict[str, list[Any]]) -> list[Episode]:
    names = [field.name for field in dataclasses.fields(Episode)]
    return [
        Episode(**dict(zip(names, row, strict=True))) for row in zip(*(columns[name] for name in names), strict=True)
    ]
