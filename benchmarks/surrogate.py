"""Trainings that were not run: learning curves drawn from recorded ones, and sweeps over them in virtual time.

The mean curve of parameters is told by a Gaussian process from those that `record_curves.py --design joint` recorded;
its noise is that of the defaults' trainings: how much faster or slower than their mean each learned, and what that
leaves (where curves are steep, trainings of one setting differ most). Parameters diverge when the recorded ones next to
them did. What a search is told of it, and when, is what it would be told by so many GPUs.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from go1_sweep.space import Choice, Range, Space

ENVS = 4096
"""Of the task."""
DEFAULTS: dict[str, Any] = {"schedule": "adaptive", "desired_kl": 0.01, "entropy_coef": 0.01, "num_envs": ENVS}
"""The task's own, of what is varied."""
WINDOW = 20
"""Iterations that a score is the mean over, as in `search_spaces/flat.yaml`."""
REPORTS = 60
"""In one budget, at equal times; a real trial reports each iteration."""
LONGEST = 1.5
"""Budgets that a curve is told for: the iterations that 4096 envs make in one take 8192 envs longer."""
SCALES, NUGGETS = (0.3, 0.6, 1.2, 2.4), (0.03, 0.1, 0.3)
"""Of the model, as shares of a range and of the variance; see ``Surrogate.fit``."""
PACES = tuple(np.arange(0.7, 1.3, 0.01).tolist())
"""Of a training beside the mean of its setting."""
UNKNOWN_MEAN = 100.0
"""The prior variance of the mean, over that of what varies."""
BRANCH = "schedule"
"""The parameter that others depend on."""


def read(file: Path) -> list[dict[str, Any]]:
    """The trainings in a file of `record_curves.py` that used their whole budget, or diverged."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["state"] == "completed" or has_diverged(line)]


def has_diverged(training: dict[str, Any]) -> bool:
    """Whether the training ended by that."""
    return training["why"].startswith("diverged")


def scores(training: dict[str, Any], metric: str, times: np.ndarray) -> np.ndarray:
    """The training's score at these seconds, shape (times,); after its end it stays as it is."""
    seconds, values = (
        np.array([row[training["columns"].index(name)] for row in training["rows"]], dtype=float)
        for name in ("train_seconds", metric)
    )
    there = np.isfinite(values)
    seconds, values = seconds[there], values[there]
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - WINDOW)
    return np.interp(times, seconds, (sums[last] - sums[first]) / (last - first))


class Surrogate:
    """Learning curves over a search space.

    Attributes:
        budget: seconds of training of a whole trial.
        times: of the reports, seconds, shape (times,); ``REPORTS`` of them in one budget, ``LONGEST`` budgets.
        noise: of each repeated training, its pace beside the mean curve's, and what that leaves, shape (times,).
        seconds_per_iteration: by env count.
    """

    def __init__(self, trainings: list[dict[str, Any]], space: Space, metric: str, budget: float) -> None:
        self.budget, self._space = budget, space
        self.times = np.arange(1, round(LONGEST * REPORTS) + 1) * budget / REPORTS
        self._all = trainings
        groups = by_parameters(each for each in trainings if not has_diverged(each))
        curves = [np.array([scores(each, metric, self.times) for each in group]) for group in groups]
        self.noise = [self._differs(each, group) for group in curves if len(group) > 1 for each in group]
        self.seconds_per_iteration = seconds_per_iteration(trainings)
        self._places = np.array([self._place(group[0]["parameters"]) for group in groups])
        self._means = np.array([curve.mean(axis=0) for curve in curves])
        self._counts = np.array([len(curve) for curve in curves])
        every = np.arange(len(groups))
        self.fit = self._fitted(every)
        """The scale of each of the places' dimensions, and the nugget, that tell best what they have not seen."""
        self._weights = np.linalg.solve(self._covariance(every, *self.fit), self._means)

    def mean(self, parameters: dict[str, Any]) -> np.ndarray:
        """The curve without noise, a score for each of the times."""
        return _covariances(self._place(parameters)[None], self._places, self.fit[0])[0] @ self._weights

    def draw(self, parameters: dict[str, Any], random: np.random.Generator) -> np.ndarray:
        """The curve of one training, a score for each of the times; NaN from where it has diverged."""
        pace, rest = self.noise[random.integers(len(self.noise))]
        curve = np.interp(pace * self.times, self.times, self.mean(parameters)) + rest
        return np.where(self.times < self.diverges_at(parameters), curve, np.nan)

    def final(self, parameters: dict[str, Any]) -> float:
        """The score without noise after the whole budget; of what diverges, minus infinity."""
        return -math.inf if self.budget >= self.diverges_at(parameters) else float(self.mean(parameters)[REPORTS - 1])

    def diverges_at(self, parameters: dict[str, Any]) -> float:
        """After how many seconds: when the recorded training next to it did; infinity: never."""
        place, branch = self._place(parameters), parameters[BRANCH]
        rivals = [each for each in self._all if each["parameters"][BRANCH] == branch]
        nearest = min(rivals, key=lambda each: float(np.sum((self._place(each["parameters"]) - place) ** 2)))
        return nearest["rows"][-1][nearest["columns"].index("train_seconds")] if has_diverged(nearest) else math.inf

    def explained(self) -> np.ndarray:
        """The share of the scores' variance that the model tells of settings not seen, shape (times,).

        The fit is chosen without them as well.
        """
        every, errors = np.arange(len(self._places)), []
        for out in every:
            rest = every[every != out]
            fit = self._fitted(rest)
            weights = np.linalg.solve(self._covariance(rest, *fit), self._means[rest])
            told = _covariances(self._places[[out]], self._places[rest], fit[0])[0] @ weights
            errors.append((told - self._means[out]) ** 2)
        return 1.0 - np.mean(errors, axis=0) / self._means.var(axis=0)

    def _differs(self, curve: np.ndarray, group: np.ndarray) -> tuple[float, np.ndarray]:
        """See ``noise``; from the mean of so few trainings each differs less than from that of all that might be."""
        mean, more = group.mean(axis=0), math.sqrt(len(group) / (len(group) - 1))
        rests = {pace: curve - np.interp(pace * self.times, self.times, mean) for pace in PACES}
        pace = min(rests, key=lambda pace: float(np.sum(rests[pace][:REPORTS] ** 2)))
        return 1.0 + (pace - 1.0) * more, rests[pace] * more

    def _fitted(self, settings: np.ndarray) -> tuple[tuple[float, ...], float]:
        """See ``fit``, of some of the settings: by leaving out each of them."""

        def error(fit: tuple[tuple[float, ...], float]) -> float:
            inverse = np.linalg.inv(self._covariance(settings, *fit))
            errors = inverse @ self._means[settings] / np.diag(inverse)[:, None]
            return float(np.sum(np.mean(errors**2, axis=0) / self._means.var(axis=0)))

        return min(itertools.product(itertools.product(SCALES, repeat=self._places.shape[1]), NUGGETS), key=error)

    def _covariance(self, settings: np.ndarray, scales: tuple[float, ...], nugget: float) -> np.ndarray:
        places = self._places[settings]
        return _covariances(places, places, scales) + np.diag(nugget / self._counts[settings])

    def _place(self, parameters: dict[str, Any]) -> np.ndarray:
        """The branch, what only it has, and what all have, each over its range as [0, 1]."""
        own, common = [], []
        for name in self._space:
            if name in parameters:
                share = _share(self._space[name].distribution, parameters[name])
                (own if self._space[name].when else common).append(share)
        return np.array(own + common)


def by_parameters(trainings: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The trainings in groups that differ by their seeds alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for training in trainings:
        groups.setdefault(json.dumps(training["parameters"], sort_keys=True), []).append(training)
    return list(groups.values())


def seconds_per_iteration(trainings: list[dict[str, Any]]) -> dict[int, float]:
    """Medians by env count."""
    found: dict[int, list[float]] = {}
    for training in trainings:
        at = training["columns"].index("train_seconds")
        steps = np.diff([row[at] for row in training["rows"]])
        found.setdefault(training["parameters"].get("num_envs", ENVS), []).append(float(np.median(steps)))
    return {envs: float(np.median(each)) for envs, each in sorted(found.items())}


def at_share(distribution: Choice | Range, share: float) -> Any:
    """The value at this share of its range, in [0, 1)."""
    match distribution:
        case Choice(values):
            return values[int(share * len(values))]
        case Range(low, high, log=True):
            return low * (high / low) ** share
        case Range(low, high):
            return low + (high - low) * share


def _share(distribution: Choice | Range, value: Any) -> float:
    match distribution:
        case Choice(values):
            return values.index(value) / (len(values) - 1)
        case Range(low, high, log=True):
            return float(np.log(value / low) / np.log(high / low))
        case Range(low, high):
            return (value - low) / (high - low)


def _covariances(some: np.ndarray, others: np.ndarray, scales: tuple[float, ...]) -> np.ndarray:
    """Of a Gaussian process with a squared exponential kernel about a mean that is not known."""
    distances = ((some[:, None] - others[None]) / np.array(scales)) ** 2
    return UNKNOWN_MEAN + np.exp(-0.5 * distances.sum(axis=2))


class Method(Protocol):
    """A search as the virtual GPUs see it."""

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """The id and the parameters of a new trial, if there is one."""
        ...

    def report(self, trial: str, seconds: float, score: float) -> bool:
        """Whether the trial goes on: it is not stopped, and has budget left."""
        ...

    def ended(self, trial: str) -> bool:
        """The trial does not go on; whether it had its whole budget."""
        ...

    def diverged(self, trial: str) -> None:
        """The trial has ended by that."""
        ...


def sweep(
    method: Method, curves: Surrogate, gpus: int, random: np.random.Generator
) -> Iterator[tuple[float, dict[str, Any], float, float]]:
    """Run until there is no trial; of each that has its whole budget: train seconds of all so far, and what came of it.

    That is its parameters, its score, and the score without noise.
    """
    numbers, events = itertools.count(), []

    def begin(now: float) -> None:
        if (drawn := method.next()) is None:
            return
        trial, parameters = drawn
        curve = curves.draw(parameters, random)
        heapq.heappush(events, (now + curves.times[0], next(numbers), now, trial, parameters, curve, 0))

    for _ in range(gpus):
        begin(0.0)
    while events:
        now, _, began, trial, parameters, curve, at = heapq.heappop(events)
        if math.isnan(curve[at]):
            method.diverged(trial)
            begin(now)
            continue
        if method.report(trial, float(curves.times[at]), float(curve[at])):
            later = began + curves.times[at + 1]
            heapq.heappush(events, (later, next(numbers), began, trial, parameters, curve, at + 1))
            continue
        if method.ended(trial):
            yield float(now) * gpus, parameters, float(curve[at]), float(curves.mean(parameters)[at])
        begin(now)
