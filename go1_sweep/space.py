"""The search space: distributions, and conditions under which a parameter exists at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from go1_sweep.parameters import Value

DISTRIBUTIONS = ("choice", "uniform", "log_uniform", "int_uniform")
"""As a sweep file names them."""


@dataclass(frozen=True)
class Choice:
    """One of the listed values."""

    values: tuple[Value, ...]

    def extremes(self) -> tuple[Value, ...]:
        """The values that stand for all when the space is checked against a task."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A number in [low, high], uniform in itself or in its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def extremes(self) -> tuple[Value, ...]:
        """The values that stand for all when the space is checked against a task."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Dimension:
    """A parameter of the search.

    Attributes:
        distribution: what its values are drawn from.
        when: the values that other dimensions must have for this one to exist; empty: always.
    """

    distribution: Choice | Range
    when: Mapping[str, tuple[Value, ...]]

    def is_active(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the parameter exists under the values chosen so far."""
        return all(chosen.get(parent) in allowed for parent, allowed in self.when.items())


Space = Mapping[str, Dimension]


class Suggester(Protocol):
    """The part of ``optuna.Trial`` that drawing needs."""

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        """Draw one of the choices."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Draw a number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """Draw a whole number."""
        ...


def parents_first(space: Space) -> list[str]:
    """The names of the space, each after all that its condition names.

    Raises:
        ValueError: the conditions go round in a circle.
    """
    try:
        return list(TopologicalSorter({name: space[name].when for name in space}).static_order())
    except CycleError as error:
        raise ValueError(f"conditions go round in a circle: {' -> '.join(error.args[1])}") from None


def draw(space: Space, suggester: Suggester) -> dict[str, Value]:
    """Draw the parameters that exist, in the order of the space."""
    chosen: dict[str, Value] = {}
    for name in parents_first(space):
        if space[name].is_active(chosen):
            chosen[name] = _draw_one(name, space[name].distribution, suggester)
    return {name: chosen[name] for name in space if name in chosen}


def _draw_one(name: str, distribution: Choice | Range, suggester: Suggester) -> Value:
    match distribution:
        case Choice(values):
            return suggester.suggest_categorical(name, values)
        case Range(low, high, log, whole=True):
            return suggester.suggest_int(name, int(low), int(high), log=log)
        case Range(low, high, log):
            return suggester.suggest_float(name, low, high, log=log)
