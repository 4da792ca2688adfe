"""Follows a sweep's folder, and tells W&B; a process of its own, so that no server can slow or end a trial.

Its argument is the folder. It ends when its stdin does: with its driver, however that ends. A line that it prints is a
sentence for the user; all other output is for its log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from go1_sweep import spec, status, strict_json, trials_table
from go1_sweep.errors import UserError, one_line
from go1_sweep.paths import SweepPaths, shown, write_json
from go1_sweep.tracking import wandb_results
from go1_sweep.tracking.follower import END_SECONDS, drop_empty
from go1_sweep.tracking.rows import Rows
from go1_sweep.tracking.wandb_runs import TOO_SLOW, UPLOAD_SECONDS, Runs
from go1_sweep.trials_table import INTERRUPTED, TrialRecord

LOOK_SECONDS = 2.0
"""How often it looks whether there is something to tell."""
CLOSED_AT_ONCE = 16
"""So many runs at most."""
AXES = {"iterations": "iteration"}
"""The column of ``logs.csv`` that counts a budget, where it has another name."""
SWEEP = "sweep"
"""The name, and the kind, of the run that is the sweep's own."""


@dataclass(frozen=True)
class Told:
    """How far a trial had been told when its run was closed last.

    Attributes:
        iteration: the last.
        state: its own.
    """

    iteration: int = 0
    state: str = ""


@dataclass
class State:
    """What is kept from one start of the sweep to the next.

    Attributes:
        sweep_id: that no other sweep has, however it is named.
        trials: by id.
        folders: of the runs that are open, by name; see ``Runs``.
    """

    sweep_id: str = field(default_factory=lambda: secrets.token_hex(4))
    trials: dict[str, Told] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> State:
        """What the file says, or a new one where it says nothing."""
        try:
            found = strict_json.loads(file.read_bytes())
            trials = {trial: Told(**told) for trial, told in found["trials"].items()}
            return cls(str(found["sweep_id"]), trials, dict(found["folders"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()


class Follower:
    """Tells what is new in the folder each time that it looks."""

    def __init__(self, paths: SweepPaths, say: Callable[[str], None]) -> None:
        self._paths, self._say = paths, say
        self._spec = spec.load(paths.spec)
        self._state = State.read(paths.wandb_state)
        self._written = ""
        self._rows: dict[str, Rows] = {}
        self._iterations: dict[str, int] = {}
        """The last that was told of each trial whose run is open."""
        self._over: list[TrialRecord] = []
        """Those of them that are over and told."""
        self._tables = {paths: "trial", paths.retrained: "retraining"}
        self.runs = Runs(self._spec, paths, self._state.sweep_id, self._state.folders, say)

    def start(self) -> None:
        """Open the sweep's own run, and say where it is."""
        self._write()
        is_online, is_any_left, command = self.runs.is_online, self.runs.is_any_left(), self.runs.sync_command()
        run = self._run()
        if not run.offline:
            self._say(f"W&B: {run.url}")
        if not is_online:
            self._say(f"W&B: offline; to upload its runs afterwards: {command}")
        elif is_any_left:
            self._say(f"W&B: what began offline goes on offline; to upload it afterwards: {command}")

    def look(self, *, is_over: bool = False) -> None:
        """Tell what is new of each trial; ``is_over``: what runs no more was interrupted."""
        for paths, kind in self._tables.items():
            for record in _records(paths):
                if is_over and record.state == "running":
                    record.state, record.why = "interrupted", INTERRUPTED
                self._tell(paths, record, kind)
        self._close()
        self._write()

    def end(self) -> None:
        """Tell the end of the sweep."""
        self.look(is_over=True)
        if not self._are_results_told():
            self._are_results_told()
        self._write()

    def _are_results_told(self) -> bool:
        """Tell what came of the sweep, and close all runs; whether a server has all of it, or the folder.

        What a server has not taken whole is to be told again: the folder of a run that is online has no artifacts.
        """
        was_online = self.runs.is_online
        try:
            self._tell_results()
        except Exception as error:  # as of a server
            if not was_online:
                raise
            traceback.print_exc()
            if self.runs.is_online:
                self.runs.go_offline(one_line(error))
            return False
        if self.runs.close_all():
            return True
        self.runs.go_offline(TOO_SLOW)
        return False

    def _tell_results(self) -> None:
        sweep = status.read(self._paths.folder)
        winner = (sweep.result or {}).get("winner")
        trial = next((each for each in sweep.records if winner and each.trial == winner["trial"]), None)
        self.runs.hurry()
        winners = None
        if trial:
            winners = self._trial(trial, "trial")
            winners.summary.update(_summary(trial, self._paths))
        wandb_results.log(self._run(), sweep, winners, self.runs.ended + UPLOAD_SECONDS)

    def _run(self):  # noqa: ANN202  (wandb.Run, which only this package's neighbours name)
        spec = self._spec
        config = {
            "task": spec.task,
            "simulator": spec.simulator,
            "sampler": spec.search.sampler,
            "seed": spec.search.seed,
            "budget": {"unit": spec.budget.unit, "max": spec.budget.max},
            "metric": spec.early_stopping.metric,
            "parameters": spec.model_dump()["search"]["parameters"],
        }
        return self.runs.opened(SWEEP, SWEEP, config)

    def _trial(self, record: TrialRecord, kind: str):  # noqa: ANN202
        unit = self._spec.budget.unit
        config = {**record.parameters, "seed": record.seed}
        return self.runs.opened(record.trial, kind, config, tags=[record.state], axis=AXES.get(unit, unit))

    def _tell(self, paths: SweepPaths, record: TrialRecord, kind: str) -> None:
        known = self._state.trials.get(record.trial, Told(0, ""))
        is_over, is_open = record.state != "running", record.trial in self._iterations
        if not is_open and known.state == record.state and record.progress.iterations <= known.iteration:
            return
        self.runs.hurry()
        run = self._trial(record, kind)
        rows = self._rows.setdefault(record.trial, Rows(paths.trial(record.trial)))
        # A server may know of more than was told before a run was closed: its next step says so.
        told = self._iterations.get(record.trial, max(known.iteration, run.step - 1))
        for row in rows.after(told, is_over=is_over):
            told = int(row["iteration"])
            run.log(row, step=told, commit=True)
        self._iterations[record.trial] = told
        if is_over:
            run.summary.update(_summary(record, paths))
            run.tags = self.runs.tags(record.state)
            self._over.append(record)
        if len(self._over) == CLOSED_AT_ONCE:
            self._close()

    def _close(self) -> None:
        """Close the runs of trials that are over and told: a server takes as long for many as for one."""
        over, self._over = self._over, []
        self.runs.close({record.trial: int(record.state == "failed") for record in over})
        for record in over:
            self._rows.pop(record.trial).close()
            told = max(self._iterations.pop(record.trial), record.progress.iterations)  # whatever its log lacks
            self._state.trials[record.trial] = Told(told, record.state)

    def _write(self) -> None:
        content = dataclasses.asdict(self._state)
        if (text := json.dumps(content)) != self._written:
            with contextlib.suppress(OSError):  # the disk is full: with a later look
                write_json(self._paths.wandb_state, content)
                self._written = text


def _summary(record: TrialRecord, paths: SweepPaths) -> dict[str, Any]:
    """Of the trial, whatever of it was told before: a server has the summary of the part that it got last."""
    progress, rows = record.progress, Rows(paths.trial(record.trial))
    logged = {name: value for row in rows.after(0, is_over=True) for name, value in row.items()}
    rows.close()
    return {
        **logged,
        "state": record.state,
        "why": record.why,
        "score": progress.score,
        "iterations": progress.iterations,
        "env_steps": progress.env_steps,
        "train_seconds": progress.train_seconds,
    }


def _records(paths: SweepPaths) -> list[TrialRecord]:
    try:
        table = paths.trials_table.stat()
        return _read(paths, table.st_ino, table.st_mtime_ns)
    except (OSError, UserError) as error:  # the next look may find it whole
        if not isinstance(error, FileNotFoundError):
            print(error, file=sys.stderr)
        return []


@functools.lru_cache(maxsize=2)
def _read(paths: SweepPaths, *_: int) -> list[TrialRecord]:
    """The trials, read again when the table is another one: 2,000 take a third of a second."""
    return trials_table.read(paths)


def _stdout() -> Callable[[str], None]:
    """What takes a sentence for the user; what others print goes to the log."""
    pipe = os.dup(1)
    os.dup2(2, 1)

    def say(text: str) -> None:
        with contextlib.suppress(OSError):  # the driver was killed
            os.write(pipe, (" ".join(text.split()) + "\n").encode())

    return say


def main() -> None:
    """Follow the sweep until it is over."""
    paths, say, over = SweepPaths(Path(sys.argv[1])), _stdout(), threading.Event()
    with open(paths.wandb_lock, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # that of a driver that was killed may need a moment
        try:
            follower = Follower(paths, say)
            threading.Thread(target=_watch, args=(over, follower, paths, say), daemon=True).start()
            follower.start()
            while not over.wait(LOOK_SECONDS):
                follower.look()
            follower.end()
        except Exception as error:
            traceback.print_exc()
            say(f"W&B: no more is told of the sweep ({one_line(error)}); see {shown(paths.wandb_log)}")


def _watch(over: threading.Event, follower: Follower, paths: SweepPaths, say: Callable[[str], None]) -> None:
    """Wait for the end of the driver, and then no longer than it does."""
    sys.stdin.read()
    follower.runs.ended = time.monotonic()
    over.set()
    time.sleep(END_SECONDS)
    drop_empty(paths)
    say(f"W&B: not all could be told in {END_SECONDS:g} s; to upload what was: {follower.runs.sync_command()}")
    os._exit(0)


if __name__ == "__main__":
    main()
