"""What a trial costs beside the same ``runner.learn`` called directly.

Both run at the same time, one core (or one of two GPUs) each, with the same seed: on the CPU the physics
is the same too, so that iteration n of the one is iteration n of the other. Each further round swaps the GPUs.
The figure is the median, over all n, of (seconds from the end of iteration n-1 to the end of n in the trial) /
(the same in the direct run). Because physics on a GPU is not repeatable and its pace varies, the seconds
that pass outside rsl_rl's own collection and learning times are given as well: what is logged, reported
and saved after each iteration, by us on the one side and by rsl_rl on the other; and how many more of them there are
after the iterations that end with a checkpoint.

    python benchmarks/trial_overhead.py [--num_envs 32] [--iterations 40] [--rounds 2] [--device cuda:0] [--out FILE]
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TASK = "flat"
SAVE_INTERVAL = 10


@dataclass(frozen=True)
class Iteration:
    """Its seconds.

    Attributes:
        wall: from the end of the one before.
        training: those of them that rsl_rl calls collection and learning.
        saves: the one before was saved in them.
    """

    wall: float
    training: float
    saves: bool


def main() -> None:
    """Run both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--num_envs", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--direct", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.direct:
        direct(options)
        return
    if options.iterations < SAVE_INTERVAL + 2:
        parser.error(f"--iterations {options.iterations}: no checkpoint in them, which takes {SAVE_INTERVAL + 2}")
    trial: list[Iteration] = []
    alone: list[Iteration] = []
    config: dict[str, Any] = {}
    for round_number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            config = side_by_side(options, Path(folder), round_number, trial, alone)
    result = summary(options, trial, alone, config)
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def summary(
    options: argparse.Namespace, trial: list[Iteration], alone: list[Iteration], config: dict[str, Any]
) -> dict[str, Any]:
    """The figures of both sides."""
    ratios = [ours.wall / theirs.wall for ours, theirs in zip(trial, alone, strict=True)]
    flags = f"--num_envs {options.num_envs} --iterations {options.iterations} --rounds {options.rounds}"
    return {
        "command": f"python benchmarks/trial_overhead.py {flags} --device {options.device}",
        "median_ratio": round(statistics.median(ratios), 4),
        "quartiles": [round(quartile, 4) for quartile in statistics.quantiles(ratios, n=4)],
        "iterations": len(ratios),
        "trial": side(trial),
        "direct": side(alone),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {config['device_name']}",
        "versions": config["versions"],
    }


def side(iterations: list[Iteration]) -> dict[str, float]:
    """The median seconds of one side, per iteration."""
    outside = [iteration.wall - iteration.training for iteration in iterations]
    saving = [seconds for seconds, iteration in zip(outside, iterations, strict=True) if iteration.saves]
    without = [seconds for seconds, iteration in zip(outside, iterations, strict=True) if not iteration.saves]
    more = [seconds - statistics.median(without) for seconds in saving]
    return {
        "median_seconds": round(statistics.median(iteration.wall for iteration in iterations), 4),
        "median_seconds_outside_training": round(statistics.median(outside), 4),
        "mean_seconds_outside_training": round(statistics.mean(outside), 4),
        "median_seconds_of_a_checkpoint": round(statistics.median(more), 4),
        "most_seconds_of_a_checkpoint": round(max(more), 4),
    }


def side_by_side(
    options: argparse.Namespace, folder: Path, round_number: int, trial: list[Iteration], alone: list[Iteration]
) -> dict[str, Any]:
    """Run the sweep of one trial and the direct training together; append their iterations."""
    from go1_sweep.sweep.trials import training_seed

    spec = {
        "name": "overhead",
        "task": TASK,
        "simulator": "mjlab",
        "search": {
            "trials": 1,
            "parameters": {"num_envs": {"choice": [options.num_envs]}},
            "fixed": {"save_interval": SAVE_INTERVAL},
        },
        "baseline": False,
        "budget": {"unit": "iterations", "max": options.iterations},
        "early_stopping": {"scheduler": "none"},
        "resources": {"gpus": 0 if options.device == "cpu" else 1},
        "final": {"finalists": 1, "envs": 12, "exam_seconds": 1, "seeds": 1, "video": False},
        "storage": str(folder),
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    flags = ["--num_envs", str(options.num_envs), "--iterations", str(options.iterations), "--device", options.device]
    commands = [
        [sys.executable, "-m", "go1_sweep", "run", str(folder / "spec.yaml")],
        [sys.executable, __file__, *flags, "--seed", str(training_seed(0, "0000")), "--direct", str(folder / "direct")],
    ]
    running = []
    for number, command in enumerate(commands):
        gpu = {"CUDA_VISIBLE_DEVICES": str((number + round_number) % 2)}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MUJOCO_GL": "disable", **gpu}
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("one of the two sides failed")
    lines = (folder / "overhead/trials/0000/progress.jsonl").read_text().splitlines()
    trial += iterations([(line["time"], line["train_seconds"]) for line in map(json.loads, lines)], first_saved=0)
    alone += iterations(json.loads((folder / "direct/times.json").read_text()), first_saved=1)
    return yaml.safe_load((folder / "overhead/trials/0000/config.yaml").read_text())


def direct(options: argparse.Namespace) -> None:
    """The same training without a sweep: rsl_rl's own loop, console output, TensorBoard and checkpoints."""
    from go1_sweep.simulators.mjlab import Mjlab

    simulator = Mjlab()
    config = simulator.load_config(simulator.resolve(TASK))
    simulator.apply(config, {"num_envs": options.num_envs, "save_interval": SAVE_INTERVAL})
    env = simulator.make_env(config, options.seed, options.device)
    runner = simulator.make_runner(env, config, options.direct)
    runner.logger.git_status_repos.clear()
    ends: list[tuple[float, float]] = []
    log = runner.logger.log

    def log_and_note(*args: Any, **kwargs: Any) -> None:
        log(*args, **kwargs)
        ends.append((time.time(), runner.logger.tot_time))

    runner.logger.log = log_and_note
    runner.learn(options.iterations, init_at_random_ep_len=True)
    (options.direct / "times.json").write_text(json.dumps(ends))


def iterations(ends: list[tuple[float, float]], first_saved: int) -> list[Iteration]:
    """From (wall time, training seconds so far) at each end; the first two load kernels and are left out.

    Args:
        ends: of iteration 1, 2, ...
        first_saved: that iteration is saved, and each ``SAVE_INTERVAL`` later: we count those that are complete, rsl_rl
            from 0.
    """
    return [
        Iteration(time_b - time_a, train_b - train_a, (number - first_saved) % SAVE_INTERVAL == 0)
        for number, ((time_a, train_a), (time_b, train_b)) in enumerate(itertools.pairwise(ends[1:]), start=2)
    ]


if __name__ == "__main__":
    main()
