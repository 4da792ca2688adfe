"""What a training leaves behind iteration by iteration: TensorBoard events, ``logs.csv``, ``progress.jsonl``."""

from __future__ import annotations

import collections
import contextlib
import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from go1_sweep import strict_json
from go1_sweep.columns import LEFT_OUT, NEUTRAL_NAMES, OURS, column
from go1_sweep.errors import one_line
from go1_sweep.paths import TrialPaths, write_atomically
from go1_sweep.patience import patiently
from go1_sweep.protocol import Progress

COLUMNS = (
    "iteration",
    "env_steps",
    "train_seconds",
    *dict.fromkeys(NEUTRAL_NAMES.values()),
    *OURS,
)
"""The first columns of ``logs.csv``; what the task adds comes after."""


class ScalarWriter:
    """Takes rsl_rl's scalars: writes them to TensorBoard and keeps the last value of each tag."""

    def __init__(self, folder: Path, begin: int) -> None:
        """Open the events; TensorBoard forgets what older files say from iteration ``begin`` on.

        Where they cannot be written they are given up with a line in the log: ``logs.csv`` has it all.
        """
        self._events: SummaryWriter | None = None
        self.scalars: dict[str, float] = {}
        with self._giving_up():
            self._events = SummaryWriter(log_dir=str(folder), flush_secs=10, purge_step=begin or None)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Log a scalar; a tensor is read from its device once."""
        value = float(scalar_value)
        self.scalars[tag] = value
        if self._events is not None:
            with self._giving_up():
                self._events.add_scalar(tag, value, global_step)

    def take(self) -> dict[str, float]:
        """The scalars since the last call, by tag."""
        taken, self.scalars = self.scalars, {}
        return taken

    def stop(self) -> None:
        """Flush and close the event file."""
        if self._events is not None:
            with self._giving_up():
                self._events.close()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorBoard raises whatever its thread has met
            self._events = None
            print(f"[go1_sweep] warning: no TensorBoard events from here on: {one_line(error)}", flush=True)


class TrialLog:
    """Turns each iteration's scalars into a row, a score and the trial's progress."""

    def __init__(
        self,
        paths: TrialPaths,
        metric: str,
        window: int,
        begin: Progress,
        cut_iterations: int,
        pause: Callable[[], None],
    ) -> None:
        """Open the files; what they say of later than ``begin`` is dropped.

        Args:
            paths: of the trial.
            metric: that the score averages; empty: no score.
            window: over so many iterations.
            begin: where the training stands.
            cut_iterations: in so many at first, rsl_rl has begun all episodes in the middle. What they return says
                nothing of the policy; a score that is there already stays.
            pause: see ``patiently``.
        """
        self._pause = pause
        self._table = _Table(paths.logs, begin.iterations, pause)
        patiently(lambda: _drop_lines(paths.progress, begin.iterations), pause)
        self._progress_file = open(paths.progress, "a", encoding="utf-8")  # noqa: SIM115
        self._metric = metric
        self._cut_until = 0 if begin.score is None else begin.iterations + cut_iterations
        whole = [] if self._cut_until > begin.iterations else self._table.kept
        recent = [float(row[metric]) for row in whole if row.get(metric)]
        self._recent: collections.deque[float] = collections.deque(recent, maxlen=window)
        self.kept = self._table.kept
        """What ``logs.csv`` had up to ``begin``."""
        self.progress = begin
        self.row: dict[str, Any] = {}
        """Of the last iteration."""

    def add(self, scalars: dict[str, float], seconds: float, env_steps: int, kl: float | None) -> list[str]:
        """Log one completed iteration.

        Args:
            scalars: what rsl_rl logged, by tag.
            seconds: that collecting and learning took; rsl_rl's own are of a clock that may be set meanwhile.
            env_steps: steps that the iteration collected.
            kl: divergence of the new policy from the one that collected.

        Returns:
            The columns that are not finite (NaN or infinite); their cells stay empty.
        """
        row: dict[str, Any] = {column(tag): value for tag, value in scalars.items() if tag not in LEFT_OUT}
        row |= {} if kl is None else {"kl": kl}
        broken = [name for name, value in row.items() if not math.isfinite(value)]
        row = {name: value for name, value in row.items() if math.isfinite(value)}
        iteration = self.progress.iterations + 1
        if self._metric in row and iteration > self._cut_until:
            self._recent.append(row[self._metric])
        before = self.progress
        self.progress = Progress(
            iterations=iteration,
            env_steps=before.env_steps + env_steps,
            train_seconds=before.train_seconds + seconds,
            score=sum(self._recent) / len(self._recent) if self._recent else before.score,
            is_stale=not self._recent and before.score is not None,
        )
        row |= {
            "iteration": iteration,
            "env_steps": self.progress.env_steps,
            "train_seconds": round(self.progress.train_seconds, 6),
            "steps_per_second": round(env_steps / max(seconds, 1e-9), 1),
        }
        self._table.append(row)
        self.row = row
        line = {"time": round(time.time(), 3), **dataclasses.asdict(self.progress)}
        self._progress_file.write(json.dumps(line, allow_nan=False) + "\n")
        patiently(self._progress_file.flush, self._pause)  # what was not written stays in its buffer
        return broken

    def close(self) -> None:
        """Close the files."""
        self._table.close()
        self._progress_file.close()


class _Table:
    """A CSV file that grows by rows, and by columns when a row brings a new one.

    Attributes:
        kept: the rows that were there before, up to an iteration.
    """

    def __init__(self, path: Path, last_iteration: int, pause: Callable[[], None]) -> None:
        self._path = path
        self._pause = pause
        self.kept = [row for row in self._read() if _iteration(row) <= last_iteration]
        self._columns = list(dict.fromkeys([*COLUMNS, *(name for row in self.kept for name in row)]))
        self._file = self._rewrite(self.kept)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row; a column that is new makes the file be written again with it."""
        new = sorted(set(row) - set(self._columns))
        if new:
            self._columns += new
            self._file.close()
            self._file = self._rewrite(self._read())
        self._file.write(_line([row.get(name, "") for name in self._columns]))
        patiently(self._file.flush, self._pause)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        rows = csv.DictReader(io.StringIO(_whole_lines(self._path)))
        return [{name: cell for name, cell in row.items() if name and _is_number(cell)} for row in rows]

    def _rewrite(self, rows: list[dict[str, str]]) -> io.TextIOWrapper:
        lines = [_line(self._columns), *(_line([row.get(c, "") for c in self._columns]) for row in rows)]
        patiently(lambda: write_atomically(self._path, "".join(lines)), self._pause)
        return open(self._path, "a", encoding="utf-8")


def _is_number(cell: Any) -> bool:
    """All cells but those of columns that a row does not have; not, where the file was damaged."""
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _whole_lines(path: Path) -> str:
    """The text without a last line that was not written to its end."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text[: text.rfind("\n") + 1]


def _iteration(row: dict[str, Any]) -> float:
    """Of a row of either file; one that does not say is later than all."""
    try:
        return int(row["iteration"] if "iteration" in row else row["iterations"])
    except (KeyError, ValueError):
        return math.inf


def _drop_lines(path: Path, last_iteration: int) -> None:
    """Keep the lines of a file of JSON objects up to an iteration."""
    if not path.exists():
        return
    kept = []
    for line in _whole_lines(path).splitlines():
        with contextlib.suppress(ValueError, TypeError):
            if _iteration(strict_json.loads(line)) <= last_iteration:
                kept.append(line + "\n")
    write_atomically(path, "".join(kept))


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
