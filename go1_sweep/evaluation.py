"""What the exam, or play, says of a checkpoint: figures from episodes, and the file that keeps both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from go1_sweep import exam, strict_json
from go1_sweep.paths import write_json
from go1_sweep.protocol import Episode, Evaluated


@dataclass(frozen=True)
class Figures:
    """How a policy did, over some episodes.

    Attributes:
        score: of the exam (see ``exam.py``); ``None`` in play.
        total_reward: mean return of an episode, not discounted.
        length: mean length of an episode [steps].
        lin_vel_rmse: of the horizontal velocity from the commanded one, over all steps [m/s].
        ang_vel_rmse: of the yaw rate from the commanded one, over all steps [rad/s].
        survival_rate: the part of the episodes that no fall ended.
        cost_of_transport: what the motors put in, over weight times distance; ``None`` where it never moved.
            Lee et al., "Learning quadrupedal locomotion over challenging terrain", 2020.
        target_rate: how fast the joints' target positions change, root mean square [rad/s]: small is smooth.
    """

    score: float | None
    total_reward: float
    length: float
    lin_vel_rmse: float
    ang_vel_rmse: float
    survival_rate: float
    cost_of_transport: float | None
    target_rate: float


LEVEL = 0.95
"""Of every interval."""

ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)

RESAMPLES = 4000

FEW = 6
"""Of less than so many robots a resample would hardly ever differ."""


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint in the exam, or in play.

    Attributes:
        trial: whose it is; empty where it is of no sweep.
        checkpoint: the name of its file.
        sha256: of the file.
        roles: why it was evaluated: ``last`` of its trial, ``best`` by its training score, or both.
        is_exam: whether it was the exam.
        task_id: what was played.
        versions: of what the play rests on.
        max_length: of an episode, or of the exam [steps].
        step_seconds: that a step stands for [s].
        episodes: by seed of the envs.
    """

    trial: str
    checkpoint: str
    sha256: str
    roles: tuple[str, ...]
    is_exam: bool
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
        return {seed: figures(episodes, self._exam_steps) for seed, episodes in self.episodes.items()}

    def overall(self) -> Figures:
        """The figures of all episodes together."""
        return figures([episode for episodes in self.episodes.values() for episode in episodes], self._exam_steps)

    def intervals(self) -> dict[str, list[float]]:
        """The interval of each figure; none for less than ten episodes.

        How much another draw of noise, pushes and robots would change it: a bootstrap one (percentiles) over the
        robots that had the same command; Wilson's for the survival rate.
        """
        if self.num_episodes < 10:
            return {}
        episodes = [episode for episodes in self.episodes.values() for episode in episodes]
        arrays = _arrays(episodes, self._exam_steps)
        picks = resampled([exam.command_of(episode.env) if self.is_exam else "" for episode in episodes])
        found = {
            name: [float(end) for end in np.quantile(values, ENDS)]
            for name, values in _figures({name: array[picks] for name, array in arrays.items()}).items()
            if not np.isnan(values).any()
        }
        return found | {"survival_rate": _share(self.num_episodes - self.num_falls, self.num_episodes)}

    def of_seeds(self, seeds: Iterable[int]) -> Evaluation:
        """The part of it that these seeds are."""
        return dataclasses.replace(self, episodes={seed: self.episodes[seed] for seed in seeds})

    @property
    def _exam_steps(self) -> int | None:
        return self.max_length if self.is_exam else None

    def summary(self) -> dict[str, Any]:
        """What there is to say in a few numbers, for JSON."""
        return {
            "trial": self.trial,
            "checkpoint": self.checkpoint,
            "roles": list(self.roles),
            "episodes": self.num_episodes,
            "falls": self.num_falls,
            "overall": dataclasses.asdict(self.overall()),
            "intervals": self.intervals(),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary, and all that it was made of: the episodes as columns, by seed."""
        return {
            **self.summary(),
            "sha256": self.sha256,
            "exam": self.is_exam,
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
    trial: str,
    checkpoint: str,
    sha256: str,
    answers: dict[int, Evaluated],
    roles: tuple[str, ...] = (),
    *,
    is_exam: bool,
) -> Evaluation:
    """What came of it: the arguments as in ``Evaluation``, and the worker's answers by seed."""
    first = next(iter(answers.values()))
    return Evaluation(
        trial=trial,
        checkpoint=checkpoint,
        sha256=sha256,
        roles=roles,
        is_exam=is_exam,
        task_id=first.task_id,
        versions=first.versions,
        max_length=first.max_length,
        step_seconds=first.step_seconds,
        episodes={seed: answer.episodes for seed, answer in answers.items()},
    )


def load(path: Path) -> Evaluation | None:
    """The evaluation in the file; ``None`` if there is none, or it is of another form."""
    try:
        content = strict_json.loads(path.read_text(encoding="utf-8"))
        return Evaluation(
            trial=content["trial"],
            checkpoint=content["checkpoint"],
            sha256=content["sha256"],
            roles=tuple(content["roles"]),
            is_exam=content["exam"],
            task_id=content["task_id"],
            versions=content["versions"],
            max_length=content["max_length"],
            step_seconds=content["step_seconds"],
            episodes={seed["seed"]: _rows(seed["episodes"]) for seed in content["seeds"]},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def figures(episodes: list[Episode], exam_steps: int | None) -> Figures:
    """The figures of some episodes, at least one; ``exam_steps``: that the exam lasts, ``None`` in play."""
    found = {name: float(value) for name, value in _figures(_arrays(episodes, exam_steps)).items()}
    maybe: dict[str, Any] = {name: None for name, value in found.items() if math.isnan(value)}
    return Figures(**(found | maybe))


def resampled(kinds: Sequence[str]) -> np.ndarray:
    """Indices of bootstrap resamples, (RESAMPLES, number), each kind drawn from its own.

    What differs between kinds is no chance, and would widen an interval; but kinds of which there are few are mixed.
    """
    random, of = np.random.default_rng(0), np.array(kinds)
    if min((of == kind).sum() for kind in set(kinds)) < FEW:
        of = np.zeros(len(kinds))
    picks = np.empty((RESAMPLES, len(of)), dtype=int)
    for kind in np.unique(of):
        (places,) = np.nonzero(of == kind)
        picks[:, places] = random.choice(places, size=(RESAMPLES, len(places)))
    return picks


def _share(count: int, number: int) -> list[float]:
    """Wilson, "Probable inference, the law of succession, and statistical inference", 1927; SciPy takes a second."""
    share, z2 = count / number, NormalDist().inv_cdf(ENDS[1]) ** 2
    middle = share + z2 / (2 * number)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * number)) / number)
    low, high = ((middle + side * half) / (1 + z2 / number) for side in (-1, 1))
    return [max(0.0, low), min(1.0, high)]


def _arrays(episodes: list[Episode], exam_steps: int | None) -> dict[str, np.ndarray]:
    """What the figures are made of, each as an array over the episodes."""
    arrays = {name: np.array(values, dtype=float) for name, values in _columns(episodes).items()}
    scores = [exam.robot_score(episode, exam_steps) if exam_steps else math.nan for episode in episodes]
    return {**arrays, "score": np.array(scores)}


def _figures(of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The figures, over the last axis of the arrays; NaN where there is none."""
    steps = of["length"].sum(axis=-1)

    def over_steps(name: str, power: int = 1) -> np.ndarray:
        return (of[name] ** power * of["length"]).sum(axis=-1) / steps

    speed = over_steps("speed")
    return {
        "score": of["score"].mean(axis=-1),
        "total_reward": of["total_reward"].mean(axis=-1),
        "length": of["length"].mean(axis=-1),
        "lin_vel_rmse": np.sqrt(over_steps("lin_vel_rmse", 2)),
        "ang_vel_rmse": np.sqrt(over_steps("ang_vel_rmse", 2)),
        "survival_rate": 1.0 - of["fell"].mean(axis=-1),
        "cost_of_transport": over_steps("power") / np.where(speed > 0, speed, math.nan),
        "target_rate": np.sqrt(over_steps("target_rate", 2)),
    }


def _columns(episodes: list[Episode]) -> dict[str, list[Any]]:
    return {field.name: [getattr(e, field.name) for e in episodes] for field in dataclasses.fields(Episode)}


def _rows(columns: dict[str, list[Any]]) -> list[Episode]:
    names = [field.name for field in dataclasses.fields(Episode)]
    return [
        Episode(**dict(zip(names, row, strict=True))) for row in zip(*(columns[name] for name in names), strict=True)
    ]
