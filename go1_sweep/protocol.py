"""What the trial actor (or the driver) and the simulator worker say to each other.

One JSON object per line over two pipes that are not stdin and stdout. Standard library only: the two
sides may run in different interpreters. The worker speaks first (``Hello``); then the other side asks
(``Check``, ``Inspect``) or starts a trial (``Train``, answered with ``Started``). During a trial the worker sends a
``Report`` per PPO iteration and waits for ``Continue`` to the previous one before it sends the next: it
is never more than one iteration ahead. A trial is over with ``Ended``, which also answers ``Stop``. A
trained policy is judged (``Evaluate``, answered with ``Evaluated``), filmed, exported or watched (``Film``,
``Export``, ``View``: ``Finished``); where that fails, the answer is ``Refused``. While it lasts the worker
sends ``Working``, and ``Viewing`` when there is something to see.
When the worker's incoming pipe closes, the worker ends itself.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import dataclass, field
from typing import Any

from go1_sweep.protocol_jobs import (  # noqa: F401  (a part of the protocol, in a file of its own)
    Answer,
    Episode,
    Evaluate,
    Evaluated,
    Export,
    Film,
    Finished,
    Job,
    Note,
    Policy,
    Refused,
    View,
    Viewing,
    Working,
)

VERSION = 1
MAX_LINE = 32_000_000
"""Bytes; a longer line is not ours."""


class ProtocolError(Exception):
    """The other side said something that is no message of this protocol."""


@dataclass(frozen=True)
class Hello:
    """The worker is up: what it runs on.

    Attributes:
        versions: of the simulator and what it rests on.
        device: ``cpu`` or ``cuda:0``.
        max_trials: that it should have at most, one after the other; ``None``: as many as there are.
    """

    version: int
    versions: dict[str, str]
    device: str
    max_trials: int | None


@dataclass(frozen=True)
class Check:
    """Is there such a task, and does its configuration take each of these parameter settings?"""

    task: str
    settings: list[dict[str, bool | int | float | str]]


@dataclass(frozen=True)
class Checked:
    """The answer to ``Check``.

    Attributes:
        task_id: the task's id in the simulator; empty if there is no such task.
        error: why there is no such task; empty if there is.
        errors: per setting, why it is refused; empty if it is not.
        experiment: the name under which rsl_rl keeps the runs of the task.
        defaults: the task's own values of the neutral parameters.
    """

    task_id: str
    experiment: str
    error: str
    errors: list[str]
    defaults: dict[str, bool | int | float | str]


@dataclass(frozen=True)
class Progress:
    """How far a trial is.

    Attributes:
        iterations: completed PPO updates.
        env_steps: environment steps collected for them.
        train_seconds: seconds of collection and learning, without start-up and checkpoints.
        score: the metric's mean over the last iterations; ``None`` until an episode has ended.
        is_stale: the score is that of before a resume: no episode has ended since that had a beginning.
    """

    iterations: int = 0
    env_steps: int = 0
    train_seconds: float = 0.0
    score: float | None = None
    is_stale: bool = False

    def used(self, unit: str) -> float:
        """The budget used, in the unit."""
        return getattr(self, unit)


@dataclass(frozen=True)
class Inspect:
    """Where did training stand when this checkpoint was taken?"""

    checkpoint: str


@dataclass(frozen=True)
class Inspected:
    """The answer to ``Inspect``.

    Attributes:
        error: why training cannot go on from it; empty if it can.
    """

    progress: Progress
    error: str


@dataclass(frozen=True)
class Train:
    """Train one trial.

    Attributes:
        trial: its id; every message about it carries it.
        folder: where its files go; exists.
        checkpoints_at: budgets, in ``budget_unit``, at which a checkpoint is published.
        metric: the column of ``logs.csv`` that the score averages, over ``window`` iterations; empty: no score.
        checkpoint: to go on from; what ``logs.csv`` has beyond it is dropped. Empty: from the beginning.
        keep_checkpoints: so many of the newest are kept, and the best by ``mode`` of its score; 0: all.
        deterministic: slower, and without choices that may fall out otherwise the next time.
        viewer: that shows the training: ``window``, ``browser``, or none.
        turn: see ``go1_sweep.turn``; 0: nobody else may have the folder.
    """

    trial: str
    folder: str
    task: str
    parameters: dict[str, bool | int | float | str]
    seed: int
    budget_unit: str
    budget_max: float
    checkpoints_at: list[float]
    metric: str
    window: int
    checkpoint: str = ""
    keep_checkpoints: int = 0
    mode: str = "max"
    deterministic: bool = False
    viewer: str = ""
    turn: int = 0


@dataclass(frozen=True)
class Started:
    """The worker has cleared up what came before, and begins the trial.

    Attributes:
        gpu_memory: in use on the GPU, by whomever, and in all [bytes]; empty on the CPU.
        memory: that the worker's process holds [bytes].
    """

    trial: str
    gpu_memory: list[int]
    memory: int


@dataclass(frozen=True)
class Continue:
    """The last report was taken: go on."""

    trial: str


@dataclass(frozen=True)
class Stop:
    """End the trial.

    Attributes:
        save: complete the iteration that runs and publish a checkpoint; else what it computed is dropped.
    """

    trial: str
    save: bool = False


@dataclass(frozen=True)
class Report:
    """One PPO iteration is complete and logged.

    Attributes:
        row: what ``logs.csv`` has of it.
        gpu_memory: as in ``Started``.
        seconds: that this process has spent on the trial so far besides training, by use (see ``timeline``).
    """

    trial: str
    progress: Progress
    row: dict[str, float]
    gpu_memory: list[int]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Waiting:
    """The trial cannot write: the disk is full. Said again and again until there is room, or ``Stop`` comes."""

    trial: str


@dataclass(frozen=True)
class Ended:
    """The trial is over.

    Attributes:
        state: ``completed``, ``failed``, ``infeasible``, ``stopped``, or ``refused``: not as it was asked for,
            such as from a checkpoint that does not fit.
        why: one line for people.
        progress: without a score where the training diverged: it has none that could be compared.
        diverged: whether it failed by the parameters it was given, as far as one can tell.
        seconds: as in ``Report``.
    """

    trial: str
    state: str
    why: str
    progress: Progress
    diverged: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


_Question = Check | Checked | Inspect | Inspected
_Training = Train | Started | Continue | Stop | Report | Waiting | Ended

Message = Hello | _Question | _Training | Job | Note | Answer
_TYPES = {cls.__name__: cls for cls in typing.get_args(Message)}
_FIELDS = {cls: typing.get_type_hints(cls) for cls in (*_TYPES.values(), Progress, Policy, Episode)}


def encode(message: Message) -> bytes:
    """The message as one line.

    Raises:
        ValueError: a number in it is NaN or infinite.
    """
    body = {"type": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(body, allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line.

    Raises:
        ProtocolError: the line is no message.
    """
    try:
        body = json.loads(line)
        return _build(_TYPES[body.pop("type")], body)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        shown = line[:200].decode(errors="replace").rstrip()
        raise ProtocolError(f"not a message: {shown!r}") from None


def _build(cls: type, body: dict[str, Any]) -> Any:
    hints = _FIELDS[cls]
    if body.keys() != hints.keys():
        raise ValueError("other fields")
    values = {name: _nested(hint, body[name]) for name, hint in hints.items()}
    if not all(_fits(values[name], hint) for name, hint in hints.items()):
        raise ValueError("another type")
    return cls(**values)


def _nested(hint: Any, value: Any) -> Any:
    """The value with the dataclasses in it, as the hint says."""
    if hint in _FIELDS:
        return _build(hint, value)
    if typing.get_origin(hint) is list and (item := typing.get_args(hint)[0]) in _FIELDS:
        return [_build(item, each) for each in value]
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if arguments:  # a union
        return any(_fits(value, argument) for argument in arguments)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint
