"""The folders of runs, as rsl_rl's scripts name them: ``logs/rsl_rl/<experiment>/<YYYY-MM-DD_HH-MM-SS>``."""

from __future__ import annotations

import contextlib
import glob
import itertools
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from go1_sweep.errors import BadInput
from go1_sweep.paths import PlayPaths, PolicyPaths, SweepPaths, TrialPaths, play_folder

ROOT = Path("logs", "rsl_rl")

STAMP = "%Y-%m-%d_%H-%M-%S"

_RUN = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?(.*)")
"""A stamp, the number of a run that was not the first of its second, and what people add (rsl_rl: ``_<run_name>``)."""


def checkpoint_at(path: Path) -> Path:
    """The checkpoint that is meant by a file or a folder: of a run, a trial, an exported policy or a sweep.

    Raises:
        BadInput: there is none.
        OSError: the folder cannot be read.
    """
    if not path.exists():
        raise BadInput(f"--checkpoint {path}: there is no such file or folder")
    if not path.is_dir():
        return path
    exported = (PolicyPaths(path).checkpoint, SweepPaths(path).best.checkpoint)
    found = [*(file for file in exported if file.exists()), *TrialPaths(path).checkpoints()]
    if not found:
        raise BadInput(f"--checkpoint {path} holds no checkpoint (model_<n>.pt or {exported[0].name})")
    return found[-1]


def new_play(checkpoint: Path) -> PlayPaths:
    """Where a play that starts now leaves its files; its log is there already.

    Beside the checkpoint, or in ``play`` of the working folder where nothing can be written beside it.

    Raises:
        OSError: neither can be written.
    """
    try:
        return _new_play(play_folder(checkpoint))
    except OSError:
        return _new_play(play_folder(Path.cwd() / checkpoint.name))


def _new_play(folder: Path) -> PlayPaths:
    folder.mkdir(exist_ok=True)
    for stamp in _stamps():
        with contextlib.suppress(FileExistsError):
            paths = PlayPaths(folder, stamp)
            paths.log.touch(exist_ok=False)
            return paths
    raise AssertionError("there is always another stamp")


def _stamps() -> Iterator[str]:
    """The time, for the first of its second; then with numbers."""
    stamp = datetime.now().strftime(STAMP)
    return itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2)))


def is_run(folder: Path) -> bool:
    """Whether the folder is named as that of a run."""
    return _RUN.fullmatch(folder.name) is not None


def new_run(experiment: str, root: Path = ROOT) -> TrialPaths:
    """Make the folder of a run that starts now; a second one in the same second gets a number.

    Raises:
        OSError: it cannot be made.
    """
    (root / experiment).mkdir(parents=True, exist_ok=True)
    for stamp in _stamps():
        with contextlib.suppress(FileExistsError):
            (root / experiment / stamp).mkdir()
            return TrialPaths(root / experiment / stamp)
    raise AssertionError("there is always another stamp")


def runs(experiment: str | None = None, root: Path = ROOT) -> list[TrialPaths]:
    """The runs of an experiment (or of all), oldest first, by the time in their names."""
    folders = root.glob(f"{'*' if experiment is None else glob.escape(experiment)}/*/")
    found = [(match, path) for path in folders if (match := _RUN.fullmatch(path.name))]
    found.sort(key=lambda each: (each[0][1], int(each[0][2] or 1), each[0][3], each[1].parent.name))
    return [TrialPaths(path) for _, path in found]
