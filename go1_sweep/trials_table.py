"""The trials of a sweep as ``trials.csv`` has them: written by the driver, read by whoever looks at a sweep."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from go1_sweep import yaml_file
from go1_sweep.errors import UserError
from go1_sweep.parameters import Value
from go1_sweep.paths import SweepPaths, shown, write_atomically
from go1_sweep.protocol import Progress

STATES = ("running", "completed", "early_stopped", "infeasible", "failed", "interrupted")
COLUMNS = ("trial", "state", "why", "score", "iterations", "env_steps", "train_seconds", "seed")
"""The first columns of ``trials.csv``; the parameters follow by name."""

DIVERGED = "diverged"
"""What the reason of a trial begins with that did."""
INTERRUPTED = "the sweep was interrupted"


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        state: running, then completed, early_stopped, infeasible, failed or interrupted.
        why: why it ended, one line.
        evidence: the last lines of its worker's log, if it failed; not in ``trials.csv``.
        diverged: whether it failed by its parameters, as far as one can tell; ``trials.csv`` says it in ``why``.
        gpu: the index of its GPU; empty on the CPU and until its first report; not in ``trials.csv``.
        slot: likewise, see ``timeline.Stint``.
        seconds: that it has spent there besides training, by use; not in ``trials.csv``.
    """

    trial: str
    parameters: dict[str, Value]
    seed: int
    state: str = "running"
    why: str = ""
    progress: Progress = field(default_factory=Progress)
    evidence: list[str] = field(default_factory=list)
    diverged: bool = False
    gpu: str = ""
    slot: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


def best(records: Iterable[TrialRecord], mode: str) -> TrialRecord | None:
    """The completed trial with the best score; one without a score comes after all that have one."""
    completed = (record for record in records if record.state == "completed")
    return max(completed, key=lambda record: _rank(record, mode), default=None)


def ranked(records: Iterable[TrialRecord], mode: str) -> list[TrialRecord]:
    """Those that completed, and then the others, each by score; those without a score come last."""
    return sorted(records, key=lambda record: _rank(record, mode), reverse=True)


def _rank(record: TrialRecord, mode: str) -> tuple[bool, bool, float]:
    score, sign = record.progress.score, 1 if mode == "max" else -1
    return (record.state == "completed", score is not None, 0.0 if score is None else sign * score)


def write(paths: SweepPaths, records: Collection[TrialRecord], names: Iterable[str]) -> None:
    """Write ``trials.csv``, a row a trial in their order; the parameters in ``names`` come first.

    A parameter's cell is what a sweep file would say, so text that reads as a number is in quotes. It is
    empty where the trial does not have the parameter.

    Raises:
        OSError: the folder is full or cannot be written.
    """
    given = itertools.chain.from_iterable(record.parameters for record in records)
    names = list(dict.fromkeys(itertools.chain(names, given)))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow((*COLUMNS, *names))
    for record in records:
        progress, parameters = record.progress, record.parameters
        table.writerow(
            (
                record.trial,
                record.state,
                record.why,
                "" if progress.score is None else progress.score,
                progress.iterations,
                progress.env_steps,
                round(progress.train_seconds, 3),
                record.seed,
                *(_cell(parameters[name]) if name in parameters else "" for name in names),
            )
        )
    write_atomically(paths.trials_table, text.getvalue())


def read(paths: SweepPaths) -> list[TrialRecord]:
    """Read ``trials.csv``: what ``write`` was given, in its order, but for what is not in it.

    None before the first trial is drawn. ``train_seconds`` is rounded to the millisecond.

    Raises:
        UserError: the file cannot be read, or is no table of trials.
    """
    table = paths.trials_table
    try:
        with open(table, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        return [_record(header, row) for row in rows]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{shown(table)} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error):
        raise UserError(f"{shown(table)} is no table of trials as a sweep writes it; was it edited?") from None


def _record(header: list[str], row: list[str]) -> TrialRecord:
    trial, state, why, score, iterations, env_steps, train_seconds, seed = row[: len(COLUMNS)]
    if state not in STATES:
        raise ValueError(state)
    cells = zip(header[len(COLUMNS) :], row[len(COLUMNS) :], strict=True)
    return TrialRecord(
        trial=trial,
        parameters={name: yaml_file.scalar(cell) for name, cell in cells if cell},
        seed=int(seed),
        state=state,
        why=why,
        progress=Progress(int(iterations), int(env_steps), _finite(train_seconds), _finite(score) if score else None),
        diverged=state == "failed" and why.startswith(DIVERGED),
    )


def _finite(cell: str) -> float:
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(cell)
    return value


def _cell(value: Value) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if value and yaml_file.scalar(value) == value:
            return value
    except ValueError:
        pass
    return "'" + value.replace("'", "''") + "'"
