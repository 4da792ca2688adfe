"""The folders of runs, as rsl_rl's scripts name them: ``logs/rsl_rl/<experiment>/<YYYY-MM-DD_HH-MM-SS>``."""

from __future__ import annotations

import glob
import itertools
import re
from datetime import datetime
from pathlib import Path

from go1_sweep.paths import TrialPaths

ROOT = Path("logs", "rsl_rl")

STAMP = "%Y-%m-%d_%H-%M-%S"

_RUN = re.compile(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?(.*)")
"""A stamp, the number of a run that was not the first of its second, and what people add (rsl_rl: ``_<run_name>``)."""


def is_run(folder: Path) -> bool:
    """Whether the folder is named as that of a run."""
    return _RUN.fullmatch(folder.name) is not None


def new_run(experiment: str, root: Path = ROOT) -> TrialPaths:
    """Make the folder of a run that starts now; a second one in the same second gets a number.

    Raises:
        OSError: it cannot be made.
    """
    stamp = datetime.now().strftime(STAMP)
    (root / experiment).mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = root / experiment / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return TrialPaths(folder)
    raise AssertionError("counted to the end")


def runs(experiment: str | None = None, root: Path = ROOT) -> list[TrialPaths]:
    """The runs of an experiment (or of all), oldest first, by the time in their names."""
    folders = root.glob(f"{'*' if experiment is None else glob.escape(experiment)}/*/")
    found = [(match, path) for path in folders if (match := _RUN.fullmatch(path.name))]
    found.sort(key=lambda each: (each[0][1], int(each[0][2] or 1), each[0][3], each[1].parent.name))
    return [TrialPaths(path) for _, path in found]
