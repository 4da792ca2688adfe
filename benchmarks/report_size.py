"""How long `report` takes for a sweep of many trials, and how large its page is.

The trials are made up: learning curves of random walks, half of them stopped early; no video.

    python benchmarks/report_size.py [--trials 2000] [--iterations 300] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import yaml

from go1_sweep import timeline, trials_table
from go1_sweep.paths import SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.timeline import Stint
from go1_sweep.trials_table import TrialRecord

SLOTS = 8


def main() -> None:
    """Make a sweep's folder, let the command loose on it, and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = SweepPaths(Path(folder))
        make(paths, options.trials, options.iterations)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "go1_sweep", "report", folder], check=True, stdout=subprocess.DEVNULL)
        seconds, size = time.perf_counter() - began, paths.report.stat().st_size
    result = {
        "what": "a report, from the command to its end",
        "trials": options.trials,
        "iterations": options.iterations,
        "seconds": round(seconds, 1),
        "megabytes": round(size / 1e6, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "plotly": version("plotly")},
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def make(paths: SweepPaths, trials: int, iterations: int) -> None:
    """The folder of a sweep over flat.yaml's space."""
    spec = yaml.safe_load(Path("search_spaces/flat.yaml").read_text())
    spec["search"]["trials"] = trials
    spec["budget"] = {"unit": "iterations", "max": iterations}
    paths.spec.write_text(yaml.safe_dump(spec))
    draw, records = random.Random(0), []
    for number in range(trials):
        parameters = {"schedule": "adaptive", "desired_kl": draw.uniform(7e-3, 4e-2), "num_envs": 4096}
        is_stopped = number % 2
        count = round(0.3 * iterations) if is_stopped else iterations
        score, progress, lines = 0.0, Progress(), []
        for iteration in range(1, count + 1):
            score += draw.gauss(0.01, 0.05)
            progress = Progress(iteration, iteration * 98304, float(iteration), score)
            lines.append(json.dumps({"time": 0.0, **vars(progress)}) + "\n")
        record = TrialRecord(f"{number:04d}", parameters, number, "early_stopped" if is_stopped else "completed")
        record.progress = progress
        folder = paths.trial(record.trial)
        folder.folder.mkdir(parents=True)
        folder.progress.write_text("".join(lines))
        began = number // SLOTS * 300.0
        stint = Stint(record.trial, "1 1", f"host GPU {number % SLOTS}", began, began + 290, {"training": 280.0})
        timeline.append(paths.timeline, stint)
        records.append(record)
    trials_table.write(paths, records, [])


if __name__ == "__main__":
    main()
