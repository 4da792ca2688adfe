"""How a sweep is doing, from the files of its folder: while it runs, and when it is over. Writes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from go1_sweep import live, lock, spec, strict_json, timeline, trials_table
from go1_sweep.errors import BadInput
from go1_sweep.eta import eta_seconds
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths, shown, uri_of
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.store import copies, sweep_copy
from go1_sweep.trials_table import INTERRUPTED, TrialRecord
from go1_sweep.wording import amount, export_command, figures_of, in_exam, number, resume_command, title

TAIL_BYTES = 16384
"""Enough of a file of progress for several lines."""
PLAIN_WIDTH = 200
"""Columns of the table where there is no terminal."""
RUNS = ("running", "final_stage")
"""The phases of a sweep that is not over."""
WATCH_SECONDS = 1.0
LINE_SECONDS = 5.0
"""At least so far apart are two lines of ``watch`` where there is no terminal."""


@dataclass(frozen=True)
class Status:
    """A sweep at one moment.

    Attributes:
        phase: running, final_stage (all trials are over, the best sit the exam), finished, interrupted,
            failed (no policy came of it), or died (killed, or ended with an error).
        driver: the process that runs, or ran, the sweep; ``None`` if that is not known.
        elapsed: seconds since it began, or that it took; ``None`` if that is not known.
        eta: seconds until its last trial ends; ``None`` if it does not run, or nothing tells yet.
        result: ``result.json``, or ``None``.
    """

    folder: Path
    spec: Spec
    phase: str
    driver: lock.Driver | None
    elapsed: float | None
    eta: float | None
    records: list[TrialRecord]
    result: dict[str, Any] | None

    def resume_command(self) -> str:
        """What lets it go on where it ran."""
        folder = self.folder.absolute()
        return self.driver.resume_command(folder) if self.driver else resume_command(folder)


def read(folder: Path) -> Status:
    """Look at a sweep's folder.

    A trial that was running when its sweep died counts as interrupted.

    Raises:
        BadInput: there is no such folder, or it is no sweep's.
        UserError: ``trials.csv`` cannot be read.
    """
    paths = SweepPaths(folder)
    refuse_what_is_no_sweep(paths)
    is_held = lock.is_held(paths.lock)  # first: a sweep that ends meanwhile has not died
    sweep, driver = spec.load(paths.spec), lock.driver(paths.lock)
    result, records = _result(paths), trials_table.read(paths)
    phase = _phase(is_held, result, records, sweep)
    for record in records:
        if record.state == "running":
            record.progress = last_progress(paths.trial(record.trial)) or record.progress
            if not is_held:
                record.state, record.why = "interrupted", "the sweep died"
    elapsed = eta = None
    if is_held and driver:
        elapsed = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(driver.started)).total_seconds())
    elif result:
        elapsed = result["seconds"]["wall"]
    if phase == "running" and driver and elapsed is not None:
        eta = eta_seconds(records, sweep, elapsed, driver.slots, driver.done)
    return Status(folder, sweep, phase, driver, elapsed, eta, records, result)


def show(folder: Path, *, in_json: bool) -> None:
    """Print how the sweep is doing, for people or as one JSON object.

    Raises:
        BadInput: there is no such folder, or it is no sweep's.
        UserError: ``trials.csv`` cannot be read.
    """
    status = read(folder)
    if in_json:
        print(json.dumps(as_json(status), allow_nan=False))
        return
    console = _console()
    console.print(_view(status), soft_wrap=False)
    _print_outcome(status, console)


def watch(folder: Path) -> None:
    """Show how the sweep is doing, again and again, until it is over or the user leaves; then what came of it.

    Where stdout is no terminal (in a pipe, or in a job of a cluster), it is a line where trials began or ended.

    Raises:
        BadInput: there is no such folder, or it is no sweep's.
        UserError: ``trials.csv`` cannot be read.
    """
    console, status = _console(), read(folder)

    def looked_again() -> Status:
        time.sleep(copies.BEAT_SECONDS if uri_of(folder) else WATCH_SECONDS)  # nothing is new there before
        return read(sweep_copy.fetched(folder))

    if live.is_terminal(console):
        with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as display:
            display.update(_view(status, console.height - 1), refresh=True)
            while status.phase in RUNS:
                status = looked_again()
                display.update(_view(status, console.height - 1), refresh=True)
    else:
        told, told_at = [], -LINE_SECONDS
        while status.phase in RUNS:
            states = [status.phase, *live.states(status.records, status.spec)]
            if states != told and time.monotonic() > told_at + LINE_SECONDS:
                console.print(_line(status))
                told, told_at = states, time.monotonic()
            status = looked_again()
        console.print(_view(status), soft_wrap=False)
    _print_outcome(status, console)


def as_json(status: Status) -> dict[str, Any]:
    """The status for programs; ``null`` is what is not known.

    Keys:
        name, folder, metric, mode: of the sweep; the folder is absolute.
        phase: running, final_stage, finished, interrupted, failed or died.
        driver: pid, host, started (UTC, ISO 8601) and slots (trials side by side) of its process.
        elapsed_seconds, eta_seconds: since it began, and until its last trial ends.
        budget: unit, and max of each trial.
        trials_total: how many trials there will be, the baseline included.
        states: how many trials are in each state.
        trials: of each that was drawn its trial, state, why, score, iterations, env_steps,
            train_seconds, seed and parameters.
        best: the id of the completed trial with the best score.
        winner, no_winner, baseline, video, no_video: as in ``result.json``.
    """
    sweep, result = status.spec, status.result or {}
    best = trials_table.best(status.records, sweep.early_stopping.mode)
    return {
        "name": sweep.name,
        "folder": str(status.folder.absolute()),
        "metric": sweep.early_stopping.metric,
        "mode": sweep.early_stopping.mode,
        "phase": status.phase,
        "driver": dataclasses.asdict(status.driver) if status.driver else None,
        "elapsed_seconds": status.elapsed,
        "eta_seconds": status.eta,
        "budget": {"unit": sweep.budget.unit, "max": sweep.budget.max},
        "trials_total": sweep.search.trials + (sweep.baseline is not None),
        "states": dict(Counter(record.state for record in status.records)),
        "trials": [_trial(record) for record in status.records],
        "best": best.trial if best else None,
        "winner": result.get("winner"),
        "no_winner": result.get("no_winner"),
        "baseline": result.get("baseline"),
        "video": result.get("video"),
        "no_video": result.get("no_video"),
    }


def last_progress(paths: TrialPaths) -> Progress | None:
    """The last that the trial told of itself; ``None`` before its first iteration.

    A line that is being written, or that a crash has torn, is passed over.
    """
    lines: list[bytes] = []
    with contextlib.suppress(OSError), open(paths.progress, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            told = strict_json.loads(line)
            return Progress(**{field.name: told[field.name] for field in dataclasses.fields(Progress)})
    return None


def refuse_what_is_no_sweep(paths: SweepPaths) -> None:
    """Make sure that there is a sweep.

    Raises:
        BadInput: there is none.
    """
    where = shown(paths.folder)
    try:
        if not paths.folder.is_dir():
            raise BadInput(f"{where}: no such folder")
        if not paths.spec.is_file():
            raise BadInput(
                f"{shown(paths.folder)} is no sweep's folder: it has no {paths.spec.name} (see what runs/ has)"
            )
    except OSError as error:
        raise BadInput(f"{paths.folder} cannot be read: {error.strerror}") from None


def _phase(is_held: bool, result: dict[str, Any] | None, records: Collection[TrialRecord], sweep: Spec) -> str:
    states = {record.state for record in records}
    are_all_drawn = len(records) == sweep.search.trials + (sweep.baseline is not None)
    if is_held:
        is_over = are_all_drawn and not states & {"running", "interrupted"}
        return "final_stage" if is_over or result else "running"
    if result:
        return result["phase"]
    return "interrupted" if any(record.why == INTERRUPTED for record in records) else "died"


def _result(paths: SweepPaths) -> dict[str, Any] | None:
    """``result.json``; ``None`` where there is none, or one that no sweep wrote."""
    try:
        result = strict_json.loads(paths.result.read_bytes())
        for each in (result["winner"], result["baseline"]):
            _ = each and (_examined(each), figures_of(each["exam"]), dict(each["parameters"]))
        verdict, tried = (result[name] or {"sentence": ""} for name in ("verdict", "sim_to_sim"))
        texts = [result["phase"], result["no_winner"], result["no_video"], verdict["sentence"], tried["sentence"]]
        numbers = [result["seconds"]["wall"], result["seconds"]["evaluation"]]
        numbers += [score for side in ("ours", "theirs") for score in verdict.get(side) or ()]
        for each in result["importances"]:
            numbers += [each["budget"], each["trials"], *each["parameters"].values()]
        is_ours = all(isinstance(each, str) for each in texts) and all(
            isinstance(each, float | int) for each in numbers
        )
        has_video = bool(result["video"] or result["baseline_video"])
        return result if is_ours and (result["winner"] or not has_video) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _trial(record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.trial,
        "state": record.state,
        "why": record.why,
        **dataclasses.asdict(record.progress),
        "seed": record.seed,
        "parameters": record.parameters,
    }


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def _view(status: Status, height: int | None = None) -> Group:
    """How it is doing, in at most so many lines."""
    notes = [Text(line, no_wrap=True, overflow="crop") for line in (*_rungs(status), *_last_failure(status))]
    others = 1 + len(notes) + live.OTHER_LINES
    rows = None if height is None else max(1, height - others)
    return Group(
        Text.from_markup(f"[bold]{escape(status.spec.name)}[/]: {_headline(status)}"),
        live.view(status.records, status.spec, status.elapsed, status.eta, rows),
        *notes,
    )


def _line(status: Status) -> str:
    states = ", ".join(live.states(status.records, status.spec))
    parts = [f"{status.phase.replace('_', ' ')}: {states}", ", ".join(live.times(status.elapsed, status.eta))]
    if best := trials_table.best(status.records, status.spec.early_stopping.mode):
        parts.append(f"the best is {title(best.trial)} with {number(best.progress.score)}")
    return "; ".join(filter(None, parts))


def _print_outcome(status: Status, console: Console) -> None:
    for line in _outcome(status):
        console.print(escape(line))


def _rungs(status: Status) -> list[str]:
    """How many trials came to each rung, and how many were stopped there; the baseline is never compared."""
    unit, ends = status.spec.budget.unit, [*status.spec.rungs(), math.inf]
    used = [(each.progress.used(unit), each.state) for each in status.records if each.trial != BASELINE]
    told = []
    for rung, following in itertools.pairwise(ends):
        came = sum(at >= rung for at, _ in used)
        stopped = sum(rung <= at < following and state == "early_stopped" for at, state in used)
        if came:
            told.append(f"{came} at {amount(rung)}, {stopped} stopped")
    return [f"rungs [{unit}]: {'; '.join(told)}"] if told else []


def _last_failure(status: Status) -> list[str]:
    """Of the trials that failed, the one that ended last, and where to read more."""
    paths = SweepPaths(status.folder)
    ended = {stint.trial: stint.ended for stint in timeline.read(paths.timeline)}
    failed = [record for record in status.records if record.state == "failed"]
    if not failed:
        return []
    last = max(failed, key=lambda record: ended.get(record.trial, 0.0))
    log = paths.trial(last.trial).worker_log
    return [f"last failure: {title(last.trial)}: {last.why}", *([f"its log: {shown(log)}"] if log.exists() else [])]


def _headline(status: Status) -> str:
    phase, driver = status.phase.replace("_", " "), status.driver
    if driver is None:
        return phase
    who = f"process {driver.pid} on {driver.host}, started {datetime.fromisoformat(driver.started):%Y-%m-%d %H:%M} UTC"
    return f"{phase} ({escape(who)})"


def _outcome(status: Status) -> list[str]:
    """What ``result.json`` says of the winner and the baseline; or how the best so far is had."""
    result, paths = status.result, SweepPaths(status.folder.absolute())
    if result is None:
        is_over = status.phase not in RUNS
        so_far = f"For the best policy so far: {export_command(paths.folder)}"
        return [f"Go on: {status.resume_command()}", so_far] if is_over else []
    winner, baseline = result["winner"], result["baseline"]
    if not winner:
        return [result["no_winner"]]
    lines = [f"Winner: {_examined(winner)}"]
    if baseline and baseline["trial"] != winner["trial"]:
        lines.append(f"  beside {_examined(baseline)}")
    if result["verdict"]:
        lines.append(f"  {result['verdict']['sentence']}")
    if result["sim_to_sim"]:
        lines.append(f"  {result['sim_to_sim']['sentence']}")
    lines.append(f"  policy {shown(paths.best.onnx)}")
    video = shown(paths.best.video) if result["video"] else f"none: {result['no_video']}"
    return [*lines, f"  video  {video}"]


def _examined(result: dict[str, Any]) -> str:
    return f"{title(result['trial'], result['exam']['checkpoint'])}: {in_exam(result['exam'])}"
