"""Trials a minute on 1, 2 and 4 GPUs of one host: sweeps of equal trials, none of them stopped early.

One sweep after the other, each with as many trials per GPU. Counted from the end of a GPU's first trial, when its
worker has been started, to the end of its last; and, for what a user waits, from the command on.

    python benchmarks/scaling.py --gpus 1 2 --trials 6 --iterations 25 --out FILE
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from go1_sweep import timeline
from go1_sweep.paths import SweepPaths


def main() -> None:
    """Run a sweep on so many GPUs, one after the other, and write their rates."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--task", default="flat")
    parser.add_argument("--num_envs", type=int, default=4096)
    parser.add_argument("--trials", type=int, default=6, help="per GPU")
    parser.add_argument("--iterations", type=int, default=25, help="of each trial")
    parser.add_argument("--cpu", action="store_true", help="a CPU core for a GPU")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.trials < 2:
        parser.error("--trials 1: counting begins with the second trial of a GPU")
    found: dict[str, dict[str, Any]] = {}
    environment: dict[str, Any] = {}
    for gpus in options.gpus:
        with tempfile.TemporaryDirectory() as folder:
            began = time.time()
            paths = swept(gpus, Path(folder), options)
            found[str(gpus)] = rates(paths, gpus, began)
            environment = json.loads(paths.environment.read_text())
        print(gpus, found[str(gpus)], flush=True)
    one = found.get("1")
    if one:
        for each in found.values():
            each["times_one"] = round(each["trials_per_minute"] / one["trials_per_minute"], 3)
    flags = {name: vars(options)[name] for name in ("task", "num_envs", "trials", "iterations")}
    given = " ".join(f"--{name} {value}" for name, value in flags.items())
    result = {
        "what": "trials a minute by the number of GPUs, once each has ended its first one",
        "command": f"python benchmarks/scaling.py --gpus {' '.join(map(str, options.gpus))} {given}",
        "by_gpus": found,
        "gpus": environment["gpus"],
        "versions": {**environment["packages"], "ray": version("ray")},
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def swept(gpus: int, folder: Path, options: argparse.Namespace) -> SweepPaths:
    """Run the sweep.

    Raises:
        SystemExit: it failed.
    """
    spec = {
        "name": "scaling",
        "task": options.task,
        "simulator": "mjlab",
        "search": {
            "trials": gpus * options.trials,
            "sampler": "random",
            "parameters": {"entropy_coef": {"log_uniform": [0.008, 0.012]}},
            "fixed": {"num_envs": options.num_envs},
        },
        "baseline": False,
        "budget": {"unit": "iterations", "max": options.iterations},
        "early_stopping": {"scheduler": "none"},
        "resources": {"gpus": 0 if options.cpu else 1, "concurrent": gpus},
        "final": {"finalists": 1, "envs": 12, "exam_seconds": 1, "seeds": 1, "video": False},
        "storage": str(folder),
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    visible = {} if options.cpu else {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))}
    command = [sys.executable, "-m", "go1_sweep", "run", str(folder / "spec.yaml")]
    ended = subprocess.run(
        command, env={**os.environ, **visible}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if ended.returncode:
        raise SystemExit(f"a sweep on {gpus} GPUs ended with {ended.returncode}:\n{ended.stdout}")
    return SweepPaths(folder / "scaling")


def rates(paths: SweepPaths, gpus: int, began: float) -> dict[str, Any]:
    """Trials a minute: of all slots together from their second trial on, and of the whole search."""
    stints = timeline.read(paths.timeline)
    lanes = [lane for _, lane in timeline.lanes(stints)]
    assert len(lanes) == gpus, f"{len(lanes)} slots"
    later = [stint.held for lane in lanes for stint in lane[1:]]
    steady = sum((len(lane) - 1) / (lane[-1].ended - lane[0].ended) for lane in lanes)
    return {
        "trials": len(stints),
        "trials_per_minute": round(60 * steady, 3),
        "from_the_command_on": round(60 * len(stints) / (max(stint.ended for stint in stints) - began), 3),
        "median_seconds_of_a_trial": round(statistics.median(later), 2),
        "training": round(sum(stint.seconds["training"] for lane in lanes for stint in lane[1:]) / sum(later), 4),
    }


if __name__ == "__main__":
    main()
