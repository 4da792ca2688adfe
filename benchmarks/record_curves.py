"""Learning curves of real trainings: which parameter matters, and what a search is compared on.

Two designs. ``alone``: each parameter by itself over its range, all others as the task has them. ``joint``: all at
once, spread evenly over the space of `search_spaces/flat.yaml`, one training each, and between them the task's defaults
with one seed after the other: their noise. A warm worker takes one training after the other; each ends after so many
seconds of training, or earlier, where it diverges or runs out of memory. The file has one JSON line a training and
grows by it; a second run goes on where the first one stopped.

    python benchmarks/record_curves.py --design alone --seconds 45 --seeds 3 --gpus 2 --limit 1500 --out FILE

A training of 4096 envs leaves an H200 idle for nearly half of the time. With ``--pace FILE`` several share a GPU; their
seconds are then their iterations, each as long as it was with so many envs in FILE, where they had the GPU alone. More
envs than 4096 come as far in iterations as 4096 do.

    python benchmarks/record_curves.py --design joint --trainings 32 --seeds 8 --seconds 240 --gpus 2 --a_gpu 4 \
        --pace benchmarks/results/curves_alone_h200.jsonl --exam_seconds 20 --limit 1100 --out FILE
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats.qmc import Sobol
from surrogate import DEFAULTS, ENVS, at_share, read, seconds_per_iteration

from go1_sweep import protocol, spec
from go1_sweep.evaluation import figures
from go1_sweep.paths import TrialPaths
from go1_sweep.space import Choice, Dimension, parents_first
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec

FIXED, ADAPTIVE = {"schedule": "fixed"}, {"schedule": "adaptive"}
ALONE: list[dict[str, Any]] = [
    {},
    *({**ADAPTIVE, "desired_kl": value} for value in (0.002, 0.005, 0.02, 0.05)),
    *({**FIXED, "learning_rate": value} for value in (3e-4, 1e-3, 2e-3, 5e-3)),
    *({"entropy_coef": value} for value in (0.001, 0.004, 0.03)),
    *({"num_envs": value} for value in (1024, 2048, 8192, 16384)),
]
"""What is changed in the task's defaults."""

COLUMNS = (
    "iteration",
    "env_steps",
    "train_seconds",
    "mean_reward",
    "mean_episode_length",
    "learning_rate",
    "kl",
    "action_std",
    "track_linear_velocity",
    "track_angular_velocity",
)


def main() -> None:
    """Record what is not in the file yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--design", choices=["alone", "joint"], required=True)
    parser.add_argument("--trainings", type=int, default=24, help="settings of the joint design")
    parser.add_argument("--seeds", type=int, default=1, help="of each setting; in the joint design, of the defaults")
    parser.add_argument("--seconds", type=float, default=45, help="of training, each")
    parser.add_argument("--gpus", type=int, default=1, help="0: the CPU")
    parser.add_argument("--a_gpu", type=int, default=1, help="trainings side by side on each")
    parser.add_argument("--pace", type=Path, help="a file of trainings that had the GPU alone")
    parser.add_argument("--exam_seconds", type=float, default=0, help="of the exam after each training; 0: none")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no training is begun")
    parser.add_argument("--simulator", default="mjlab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.pace = seconds_per_iteration(read(options.pace)) if options.pace else {}
    known = options.out.read_text().splitlines() if options.out.exists() else []
    done = {(json.dumps(line["parameters"]), line["seed"]) for line in map(json.loads, known)}
    jobs = deque(job for job in wanted(options) if (json.dumps(job[0]), job[1]) not in done)
    print(f"{len(jobs)} trainings, {len(done)} are there already", flush=True)
    end, writing, starting = time.monotonic() + options.limit, threading.Lock(), threading.Lock()

    def work(gpu: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            worker: WorkerProcess | None = None
            while time.monotonic() < end:
                try:
                    parameters, seed = jobs.popleft()
                except IndexError:
                    break
                if worker is None:
                    with starting:
                        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
                        worker = started(options, Path(folder, "worker.log"))
                line = trained(worker, options, Path(folder), parameters, seed)
                if line["state"] != "completed":
                    worker.close()
                    worker = None
                with writing, open(options.out, "a") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{parameters} {seed}: {line['state']} {line['why']}", flush=True)
            if worker is not None:
                worker.close()

    gpus = range(max(1, options.gpus))
    threads = [threading.Thread(target=work, args=(gpu,)) for _ in range(options.a_gpu) for gpu in gpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def wanted(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], int]]:
    """Parameters and seed of each training, in an order in which a part of them is a design too."""
    if options.design == "alone":
        yield from ((parameters, seed) for seed, parameters in itertools.product(range(1, options.seeds + 1), ALONE))
        return
    space, defaults = dict(spec.load(Path("search_spaces/flat.yaml")).space), DEFAULTS
    if options.simulator == "fake":
        space["num_envs"], defaults = Dimension(Choice((8, 16, 32)), {}), DEFAULTS | {"num_envs": 32}
    # Quasi-random: so few points would leave holes if they were drawn at random.
    points = Sobol(len(space), rng=0).random_base2(math.ceil(math.log2(options.trainings)))[: options.trainings]
    turns = np.linspace(0, options.trainings, options.seeds, endpoint=False).astype(int).tolist()
    for turn, point in enumerate(points):
        yield from ((defaults, seed) for seed, at in enumerate(turns, start=1) if at == turn)
        shares, parameters = dict(zip(space, point.tolist(), strict=True)), {}
        for name in parents_first(space):
            if space[name].is_active(parameters):
                parameters[name] = at_share(space[name].distribution, shares[name])
        yield parameters, 1


def started(options: argparse.Namespace, log: Path) -> WorkerProcess:
    """A worker that has said hello."""
    device = "cuda:0" if options.gpus else "cpu"
    worker = WorkerSpec(options.simulator, None, device, 4, 900.0).start(log)
    worker.greeted(900.0)
    return worker


def trained(
    worker: WorkerProcess, options: argparse.Namespace, folder: Path, parameters: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Train once; what came of it."""
    pace = options.pace[parameters.get("num_envs", ENVS)] if options.pace else None
    iterations = round(options.seconds / min(pace, options.pace[ENVS])) if pace else 0
    trial = f"{len(list(folder.iterdir())):04d}"
    (folder / trial).mkdir()
    request = protocol.Train(
        trial=trial,
        folder=str(folder / trial),
        task="flat",
        parameters=parameters,
        seed=seed,
        budget_unit="iterations" if pace else "train_seconds",
        budget_max=iterations or options.seconds,
        checkpoints_at=[],
        metric="mean_reward",
        window=20,
    )
    rows: list[list[float | None]] = []
    state, why = "failed", "the worker died"
    try:
        worker.send(request)
        while not isinstance(message := worker.receive(900.0), protocol.Ended):
            if isinstance(message, protocol.Report):
                row = message.row | ({"train_seconds": message.row["iteration"] * pace} if pace else {})
                rows.append([None if (value := row.get(name)) is None else float(f"{value:.5g}") for name in COLUMNS])
                worker.send(protocol.Continue(trial))
        state, why = message.state, message.why
    except WorkerFailed as failure:
        why = str(failure)
    line = {"parameters": parameters, "seed": seed, "state": state, "why": why, "columns": COLUMNS, "rows": rows}
    if state == "completed" and options.exam_seconds:
        line["score"] = examined(worker, options, TrialPaths(folder / trial).checkpoints()[-1], parameters)
    return line


def examined(
    worker: WorkerProcess, options: argparse.Namespace, checkpoint: Path, parameters: dict[str, Any]
) -> float | None:
    """The score of the last checkpoint in the exam, with a seed that no training has."""
    policy = protocol.Policy(str(checkpoint), "flat", parameters)
    worker.send(protocol.Evaluate(policy, 48, 1_000_000, 0, "", options.exam_seconds))
    while isinstance(message := worker.receive(900.0), protocol.Working):
        pass
    if not isinstance(message, protocol.Evaluated):
        return None
    return figures(message.episodes, message.max_length).score


if __name__ == "__main__":
    main()
