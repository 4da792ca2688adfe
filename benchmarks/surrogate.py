"""Trainings that were not run: learning curves drawn from recorded ones, and sweeps over them in virtual time.

The mean curve of parameters lies between those that `record_curves.py --design joint` recorded; its noise is theirs,
a whole curve at a time. What a search is told of it, and when, is what it would be told by so many GPUs.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.interpolate import RBFInterpolator

from go1_sweep.space import Choice, Range, Space, parents_first

ENVS = 4096
"""Of the task."""
WINDOW = 20
"""Iterations that a score is the mean over, as in `search_spaces/flat.yaml`."""
REPORTS = 60
"""In one budget, at equal times; a real trial reports each iteration."""
LONGEST = 1.5
"""Budgets that a curve is told for: the iterations that 4096 envs make in one take 8192 envs longer."""
SMOOTHINGS = (0.0, 0.01, 0.1, 1.0, 10.0)
"""Of the model; the one that tells best what it has not seen is taken."""
BRANCH = "schedule"
"""The parameter that others depend on: there is one model for each of its values."""


def read(file: Path) -> list[dict[str, Any]]:
    """The trainings in a file of `record_curves.py` that used their whole budget."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["state"] == "completed"]


def scores(training: dict[str, Any], times: np.ndarray) -> np.ndarray:
    """The training's score at these seconds, shape (times,); after its end it stays as it is."""
    seconds, rewards = (
        np.array([row[training["columns"].index(name)] for row in training["rows"]], dtype=float)
        for name in ("train_seconds", "mean_reward")
    )
    there = np.isfinite(rewards)
    seconds, rewards = seconds[there], rewards[there]
    sums = np.concatenate([[0.0], np.cumsum(rewards)])
    last = np.arange(1, len(rewards) + 1)
    first = np.maximum(0, last - WINDOW)
    return np.interp(times, seconds, (sums[last] - sums[first]) / (last - first))


class Surrogate:
    """Learning curves over a search space.

    Attributes:
        budget: seconds of training of a whole trial.
        times: of the reports, seconds, shape (times,); ``REPORTS`` of them in one budget, ``LONGEST`` budgets.
        noise: what repeated trainings differed by from their mean, shape (trainings, times).
        seconds_per_iteration: by env count.
    """

    def __init__(self, trainings: list[dict[str, Any]], space: Space, budget: float) -> None:
        self.budget, self._space = budget, space
        self.times = np.arange(1, round(LONGEST * REPORTS) + 1) * budget / REPORTS
        groups = by_parameters(trainings)
        curves = [np.array([scores(each, self.times) for each in group]) for group in groups]
        self.noise = np.concatenate(
            [
                (curve - curve.mean(axis=0)) * np.sqrt(len(curve) / (len(curve) - 1))
                for curve in curves
                if len(curve) > 1
            ]
        )
        self.seconds_per_iteration = seconds_per_iteration(trainings)
        self._points: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        for value in {group[0]["parameters"][BRANCH] for group in groups}:
            mine = [i for i, group in enumerate(groups) if group[0]["parameters"][BRANCH] == value]
            places = np.array([self._place(groups[i][0]["parameters"]) for i in mine])
            self._points[value] = places, np.array([curves[i].mean(axis=0) for i in mine])
        self.smoothing = min(SMOOTHINGS, key=lambda smoothing: float(np.sum(self._errors(smoothing))))
        self._models = {
            value: _model(places, curves, self.smoothing) for value, (places, curves) in self._points.items()
        }

    def mean(self, parameters: dict[str, Any]) -> np.ndarray:
        """The curve without noise, a score for each of the times."""
        return self._models[parameters[BRANCH]](self._place(parameters)[None])[0]

    def draw(self, parameters: dict[str, Any], random: np.random.Generator) -> np.ndarray:
        """The curve of one training, a score for each of the times."""
        return self.mean(parameters) + self.noise[random.integers(len(self.noise))]

    def final(self, parameters: dict[str, Any], seconds: float) -> float:
        """The score without noise after so many seconds of training."""
        return float(np.interp(seconds, self.times, self.mean(parameters)))

    def explained(self) -> float:
        """The share of the final scores' variance that the model tells of parameters which it has not seen."""
        finals = np.concatenate([curves[:, REPORTS - 1] for _, curves in self._points.values()])
        return float(1.0 - np.sum(self._errors(self.smoothing)) / np.sum((finals - finals.mean()) ** 2))

    def _errors(self, smoothing: float) -> list[float]:
        """The squared error of each final score, told by all others of its branch."""
        found = []
        for places, curves in self._points.values():
            for out in range(len(places)):
                rest = np.arange(len(places)) != out
                told = _model(places[rest], curves[rest], smoothing)(places[out][None])[0]
                found.append(float((told[REPORTS - 1] - curves[out, REPORTS - 1]) ** 2))
        return found

    def _place(self, parameters: dict[str, Any]) -> np.ndarray:
        """The parameters that its branch has, each over its range as [0, 1]."""
        names = [name for name in parents_first(self._space) if name in parameters and name != BRANCH]
        return np.array([_share(self._space[name].distribution, parameters[name]) for name in names])


def by_parameters(trainings: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The trainings in groups that differ by their seeds alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for training in trainings:
        groups.setdefault(json.dumps(training["parameters"]), []).append(training)
    return list(groups.values())


def seconds_per_iteration(trainings: list[dict[str, Any]]) -> dict[int, float]:
    """Medians by env count."""
    found: dict[int, list[float]] = {}
    for training in trainings:
        at = training["columns"].index("train_seconds")
        steps = np.diff([row[at] for row in training["rows"]])
        found.setdefault(training["parameters"].get("num_envs", ENVS), []).append(float(np.median(steps)))
    return {envs: float(np.median(each)) for envs, each in sorted(found.items())}


def _share(distribution: Choice | Range, value: Any) -> float:
    match distribution:
        case Choice(values):
            return values.index(value) / (len(values) - 1)
        case Range(low, high, log=True):
            return float(np.log(value / low) / np.log(high / low))
        case Range(low, high):
            return (value - low) / (high - low)


def _model(places: np.ndarray, curves: np.ndarray, smoothing: float) -> RBFInterpolator:
    return RBFInterpolator(places, curves, kernel="multiquadric", epsilon=1.0, degree=0, smoothing=smoothing)


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
        if method.report(trial, float(curves.times[at]), float(curve[at])):
            later = began + curves.times[at + 1]
            heapq.heappush(events, (later, next(numbers), began, trial, parameters, curve, at + 1))
            continue
        if method.ended(trial):
            yield float(now) * gpus, parameters, float(curve[at]), float(curves.mean(parameters)[at])
        begin(now)
