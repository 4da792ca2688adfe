"""What a trial costs beside the same ``runner.learn`` called directly.

Both run at the same time, one core (or one GPU) each, with the same seed and so with the same physics: iteration n of
the one is iteration n of the other. Prints and keeps the median over n of (interval between the ends of
iterations n and n+1 in the trial) / (the same in the direct run).

    python benchmarks/trial_overhead.py [--num_envs 32] [--iterations 40] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

TASK, SEED = "flat", 0


def main() -> None:
    """Run both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_envs", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--direct", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.direct:
        direct(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = side_by_side(options, Path(folder))
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def side_by_side(options: argparse.Namespace, folder: Path) -> dict:
    """Run the sweep of one trial and the direct training together; compare their intervals."""
    from go1_sweep.sweep.trials import _seed

    spec = {
        "name": "overhead",
        "task": TASK,
        "simulator": "mjlab",
        "search": {"trials": 1, "parameters": {"num_envs": {"choice": [options.num_envs]}}},
        "baseline": False,
        "budget": {"unit": "iterations", "max": options.iterations},
        "early_stopping": {"scheduler": "none"},
        "resources": {"gpus": 0 if options.device == "cpu" else 1},
        "storage": str(folder),
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    common = ["--num_envs", str(options.num_envs), "--iterations", str(options.iterations), "--device", options.device]
    seed = ["--seed", str(_seed(0, "0000"))]
    commands = [
        [sys.executable, "-m", "go1_sweep", "run", str(folder / "spec.yaml")],
        [sys.executable, __file__, *common, *seed, "--direct", str(folder / "direct")],
    ]
    running = []
    for gpu, command in enumerate(commands):  # one GPU each, where they train on GPUs
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MUJOCO_GL": "disable", "CUDA_VISIBLE_DEVICES": str(gpu)}
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    if any(process.wait() for process in running):
        raise SystemExit("one of the two sides failed")
    trial_lines = (folder / "overhead/trials/0000/progress.jsonl").read_text().splitlines()
    trial = intervals([json.loads(line)["time"] for line in trial_lines])
    alone = intervals(json.loads((folder / "direct/times.json").read_text()))
    trial_config = yaml.safe_load((folder / "overhead/trials/0000/config.yaml").read_text())
    ratios = [a / b for a, b in zip(trial, alone, strict=True)]
    return {
        "command": f"python benchmarks/trial_overhead.py {' '.join(common)}",
        "median_ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(q, 4) for q in statistics.quantiles(ratios, n=4)],
        "iterations": len(ratios),
        "median_seconds": {"trial": round(statistics.median(trial), 4), "direct": round(statistics.median(alone), 4)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {trial_config['device_name']}",
        "versions": trial_config["versions"],
    }


def direct(options: argparse.Namespace) -> None:
    """The same training without a sweep: rsl_rl's own loop, logger and checkpoints."""
    from go1_sweep.simulators.mjlab import Mjlab

    simulator = Mjlab()
    config = simulator.load_config(simulator.resolve(TASK))
    simulator.apply(config, {"num_envs": options.num_envs})
    env = simulator.make_env(config, options.seed, options.device)
    writer = {"class_name": "go1_sweep.trial.progress:ScalarWriter"}
    runner = simulator.make_runner(env, config, options.direct, writer)
    times: list[float] = []
    log = runner.logger.log

    def log_and_note(*args: Any, **kwargs: Any) -> None:
        log(*args, **kwargs)
        times.append(time.time())

    runner.logger.log = log_and_note
    runner.learn(options.iterations, init_at_random_ep_len=True)
    (options.direct / "times.json").write_text(json.dumps(times))


def intervals(times: list[float]) -> list[float]:
    """Seconds between neighbours; the first iteration, which loads kernels, is left out."""
    return [b - a for a, b in itertools.pairwise(times[1:])]


if __name__ == "__main__":
    main()
