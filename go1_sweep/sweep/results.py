"""What a sweep leaves behind besides its trials: ``spec.yaml``, ``environment.json``, ``result.json``."""

from __future__ import annotations

import collections
import json
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import go1_sweep
from go1_sweep import checkpoint
from go1_sweep.errors import BadInput
from go1_sweep.paths import BASELINE, SweepPaths, shown, write_atomically
from go1_sweep.spec import Spec
from go1_sweep.sweep.preflight import Preflight
from go1_sweep.sweep.trials import TrialRecord, Trials


def make_folder(spec: Spec) -> SweepPaths:
    """The sweep's new, empty folder.

    Raises:
        BadInput: it exists already, or cannot be made.
    """
    folder, paths = spec.folder, SweepPaths(spec.folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from None
    try:
        folder.mkdir()
    except FileExistsError:
        raise exists_already(spec) from None
    except OSError as error:
        raise _not_writable(folder, error) from None
    try:
        paths.trials.mkdir()
        write_atomically(paths.spec, spec.to_yaml())
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # ours, and empty but for what was just tried
        raise _not_writable(folder, error) from None
    return paths


def _not_writable(folder: Path, error: OSError) -> BadInput:
    return BadInput(f"storage: {shown(folder.parent)} cannot be written: {error.strerror}")


def exists_already(spec: Spec) -> BadInput:
    """The sentence for a sweep folder that is already there."""
    return BadInput(
        f"{shown(spec.folder)} exists already, and a sweep is never written into another: "
        "choose another name (--name) or move it away"
    )


def write_environment(paths: SweepPaths, preflight: Preflight) -> None:
    """Record what the results depend on besides the sweep file."""
    packages = ("go1_sweep", "ray", "optuna")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages} | preflight.versions,
        "gpus": _printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        "git_commit": _git_commit(),
    }
    write_atomically(paths.environment, json.dumps(environment, indent=1) + "\n")


def write_result(paths: SweepPaths, spec: Spec, trials: Trials, wall_seconds: float) -> dict[str, Any]:
    """Write ``result.json`` and return what it holds.

    The winner is the completed trial with the best score; that score is a training reward, which says
    nothing yet of how the policy does in play.
    """
    records = list(trials.records.values())
    best, baseline = trials.best(), trials.records.get(BASELINE)
    result = {
        "name": spec.name,
        "metric": spec.early_stopping.metric,
        "mode": spec.early_stopping.mode,
        "winner": _summary(paths, spec, best) if best else None,
        "baseline": _summary(paths, spec, baseline) if baseline else None,
        "states": dict(collections.Counter(record.state for record in records)),
        "seconds": {
            "wall": round(wall_seconds, 3),
            "train": round(sum(record.progress.train_seconds for record in records), 3),
        },
    }
    write_atomically(paths.result, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _summary(paths: SweepPaths, spec: Spec, record: TrialRecord) -> dict[str, Any]:
    """A trial in ``result.json``; paths in it are relative to the sweep's folder."""
    published = checkpoint.best(checkpoint.read_manifest(paths.trial(record.trial)), spec.early_stopping.mode)
    file = paths.trial(record.trial).folder / published.file if published else None
    return {
        "trial": record.trial,
        "state": record.state,
        "parameters": record.parameters,
        "seed": record.seed,
        "score": record.progress.score,
        "iterations": record.progress.iterations,
        "env_steps": record.progress.env_steps,
        "train_seconds": round(record.progress.train_seconds, 3),
        "checkpoint": str(file.relative_to(paths.folder)) if file else None,
        "checkpoint_score": published.progress.score if published else None,
    }


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
