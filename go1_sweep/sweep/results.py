"""What a sweep leaves behind besides its trials: ``spec.yaml``, ``environment.json``, ``result.json``."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import go1_sweep
from go1_sweep import strict_json, timeline, trials_table
from go1_sweep.errors import BadInput
from go1_sweep.evaluation import Evaluation
from go1_sweep.paths import SweepPaths, drop_leftovers, shown, write_atomically, write_json
from go1_sweep.spec import Spec
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.sweep.final import Outcome
from go1_sweep.sweep.preflight import Preflight
from go1_sweep.trials_table import TrialRecord


def make_folder(spec: Spec) -> None:
    """Make the sweep's folder.

    Raises:
        BadInput: it cannot be made.
    """
    folder = spec.folder
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")  # a folder under its own name is a sweep's
    try:
        SweepPaths(beside).trials.mkdir(parents=True)
        write_atomically(SweepPaths(beside).spec, spec.to_yaml())
        beside.rename(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise BadInput(f"storage: {shown(folder.parent)} cannot be written: {error.strerror}") from None
    try:
        sweep_copy.publish(folder)
    except OSError as error:
        shutil.rmtree(folder)
        raise BadInput(f"storage: {object_store.refusal(error)}") from None


def reopen(paths: SweepPaths, spec: Spec) -> dict[str, float]:
    """Let a sweep go on in its folder: its result is out of date, and the spec may have changed.

    Returns:
        The seconds of that result which go on, by use; none where the sweep died without one.
    """
    drop_leftovers(paths.folder)
    seconds = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = strict_json.loads(paths.result.read_bytes())["seconds"]
        seconds = {use: float(told[use]) for use in ("wall", "final", "evaluation")}
    paths.result.unlink(missing_ok=True)  # first: it would be that of the new spec
    paths.winner_events.unlink(missing_ok=True)
    write_atomically(paths.spec, spec.to_yaml())
    return seconds


def packages(preflight: Preflight) -> dict[str, str]:
    """The versions that the results depend on, the simulator's included."""
    return {name: _version(name) for name in ("go1_sweep", "ray", "optuna")} | preflight.versions


def gpu_names() -> list[str]:
    """Of this host's GPUs."""
    return _printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def write_environment(paths: SweepPaths, preflight: Preflight, gpus: dict[str, list[str]]) -> None:
    """Record what the results depend on besides the sweep file; ``gpus``: the names of each host's."""
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages(preflight),
        "gpus": gpus,
        "git_commit": _git_commit(),
    }
    write_json(paths.environment, environment)


def write_result(
    paths: SweepPaths,
    spec: Spec,
    records: list[TrialRecord],
    outcome: Outcome | None,
    phase: str,
    no_winner: str,
    seconds: dict[str, float],
    insight: dict[str, Any],
) -> dict[str, Any]:
    """Write ``result.json`` and return what it holds.

    Args:
        paths: of the sweep.
        spec: of the sweep.
        records: of all trials.
        outcome: of the final stage; ``None``: no policy came of the sweep ...
        phase: finished, interrupted or failed.
        no_winner: ... and why.
        seconds: by use, besides those of training.
        insight: see ``insight.py``.
    """
    by_trial = {record.trial: record for record in records}
    winner, baseline = (outcome.winner, outcome.baseline) if outcome else (None, None)
    result = {
        "name": spec.name,
        "metric": spec.early_stopping.metric,
        "mode": spec.early_stopping.mode,
        "phase": phase,
        "winner": _summary(paths, by_trial[winner.trial], winner) if winner else None,
        "no_winner": no_winner,
        "baseline": _summary(paths, by_trial[baseline.trial], baseline) if baseline else None,
        "verdict": dataclasses.asdict(outcome.verdict) if outcome and outcome.verdict else None,
        "sim_to_sim": tried.summary() if outcome and (tried := outcome.sim_to_sim) else None,
        "candidates": [each.summary() for each in outcome.candidates] if outcome else [],
        "retrained": [each.summary() for each in outcome.retrained] if outcome else [],
        "video": shown_in(paths, paths.best.video) if outcome and not outcome.no_video else None,
        "no_video": outcome.no_video if outcome else "",
        "baseline_video": shown_in(paths, film) if outcome and (film := paths.best.baseline_video).exists() else None,
        **insight,
        "states": dict(collections.Counter(record.state for record in records)),
        "seconds": {
            **{use: round(each, 3) for use, each in seconds.items()},
            "train": _train_seconds(records),
            "retrain": _train_seconds(trials_table.read(paths.retrained)),
        },
        "slots": {"trials": _slots(paths), "retrained": _slots(paths.retrained)},
    }
    write_json(paths.result, result)
    return result


def _train_seconds(records: Iterable[TrialRecord]) -> float:
    return round(sum(record.progress.train_seconds for record in records), 3)


def _slots(paths: SweepPaths) -> dict[str, Any]:
    """Where the time of the slots went that held trials."""
    each = timeline.by_slot(timeline.read(paths.timeline))
    return {"sum": timeline.in_all(each), "each": each}


def _summary(paths: SweepPaths, record: TrialRecord, evaluation: Evaluation) -> dict[str, Any]:
    """A trial and its better checkpoint in ``result.json``; paths in it are relative to the sweep's folder."""
    return {
        "trial": record.trial,
        "state": record.state,
        "parameters": record.parameters,
        "seed": record.seed,
        "score": record.progress.score,
        "iterations": record.progress.iterations,
        "env_steps": record.progress.env_steps,
        "train_seconds": round(record.progress.train_seconds, 3),
        "checkpoint": shown_in(paths, paths.trial(record.trial).folder / evaluation.checkpoint),
        "exam": evaluation.summary(),
    }


def shown_in(paths: SweepPaths, path: Path) -> str:
    """The path within the sweep's folder."""
    return str(path.relative_to(paths.folder))


def _git_commit() -> str | None:
    """The commit of a checkout that we run from, ``-dirty`` if it was changed; none where we were installed."""
    module = Path(go1_sweep.__file__)
    git = ("git", "-C", str(module.parent))
    if not _printed(*git, "ls-files", "--error-unmatch", module.name):
        return None
    return next(iter(_printed(*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")), None)


def _version(package: str) -> str:
    return go1_sweep.__version__ if package == "go1_sweep" else version(package)


def _printed(*command: str) -> list[str]:
    """The lines that a command prints; none where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split("\n")[:-1]
