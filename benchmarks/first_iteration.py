"""From the command to the end of the first PPO iteration: a sweep, a training, and mjlab's own script.

Cold: each with an empty kernel cache of its own; warm: once more with what is in it then. One after the other, or all
at the same time (``--together``, on as many GPUs as there are), where kernels compile for minutes.

    python benchmarks/first_iteration.py --task flat --num_envs 4096 --device cuda:0 --together --out FILE
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch
import yaml

from go1_sweep.simulators.mjlab import Mjlab

SIDES = ("run", "train", "mjlab")
PACKAGES = ("mjlab", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch", "ray")
WORD_OF_RSL_RL = "Learning iteration"
"""What rsl_rl prints after each iteration."""


def main() -> None:
    """Run all sides cold and warm, and write their seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="flat")
    parser.add_argument("--num_envs", type=int, default=32)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--together", action="store_true", help="all sides at the same time")
    parser.add_argument("--warm", type=int, default=1, help="rounds with what is in the caches")
    parser.add_argument("--caches", type=Path, help="where the caches are left; else they are thrown away")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    gpus = 0 if options.device == "cpu" else torch.cuda.device_count()
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    given = f"--task {options.task} --num_envs {options.num_envs} --device {options.device}"
    result = {
        "what": "seconds from the command to the end of the first PPO iteration: first cold, then warm",
        "command": f"python benchmarks/first_iteration.py {given}{' --together' if options.together else ''}",
        "seconds": seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in range(gpus)],
        "versions": {name: version(name) for name in PACKAGES},
    }
    with tempfile.TemporaryDirectory() as scratch:
        caches = options.caches or Path(scratch, "caches")
        for _ in range(1 + options.warm):
            with ThreadPoolExecutor(len(SIDES) if options.together else 1) as pool:
                jobs = {}
                for number, side in enumerate(SIDES):
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    gpu = number % gpus if gpus else None
                    typed = command(side, options, folder)
                    jobs[side] = pool.submit(until_the_first, typed, folder, caches / side, gpu)
            for side, job in jobs.items():
                seconds[side].append(round(job.result(), 1))
            print(seconds, flush=True)
            if options.out:
                options.out.write_text(json.dumps(result, indent=1) + "\n")


def command(side: str, options: argparse.Namespace, folder: Path) -> list[str]:
    """What a user types; of a sweep one trial."""
    envs, on_cpu = str(options.num_envs), options.device == "cpu"
    if side == "mjlab":
        task = Mjlab().resolve(options.task)
        flags = ["--env.scene.num-envs", envs, "--agent.max-iterations", "2", "--agent.logger", "tensorboard"]
        gpu = ["--gpu-ids", "None"] if on_cpu else []
        return [sys.executable, "-m", "mjlab.scripts.train", task, *flags, *gpu]
    ours = [sys.executable, "-m", "go1_sweep", side]
    if side == "train":
        flags = ["--num_envs", envs, "--max_iterations", "2", "--device", options.device]
        return [*ours, "--simulator", "mjlab", "--task", options.task, *flags]
    spec = {
        "name": "first",
        "task": options.task,
        "simulator": "mjlab",
        "search": {"trials": 1, "parameters": {"num_envs": {"choice": [options.num_envs]}}},
        "baseline": False,
        "budget": {"unit": "iterations", "max": 2},
        "early_stopping": {"scheduler": "none"},
        "resources": {"gpus": 0 if on_cpu else 1},
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    return [*ours, str(folder / "spec.yaml")]


def until_the_first(command: list[str], folder: Path, cache: Path, gpu: int | None) -> float:
    """Run the command until its first iteration is over; the seconds that this took.

    Raises:
        SystemExit: it ended before.
    """
    caches = {"WARP_CACHE_PATH": str(cache / "warp"), "CUDA_CACHE_PATH": str(cache / "cuda")}
    cache.mkdir(parents=True, exist_ok=True)
    device = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}
    environment = {**os.environ, **caches, **device, "PYTHONUNBUFFERED": "1", "MUJOCO_GL": "disable"}
    said = folder / "said.txt"
    with open(said, "wb") as out:
        began = time.time()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        while (ended := end_of_the_first(folder, said)) is None:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended before its first iteration:\n{said.read_text()}")
            time.sleep(0.05)
        return ended - began
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def end_of_the_first(folder: Path, said: Path) -> float | None:
    """When it was over, if it is: as our progress tells it, or else when rsl_rl's word was there."""
    for progress in folder.rglob("progress.jsonl"):
        lines = progress.read_text().splitlines(keepends=True)
        if lines and lines[0].endswith("\n"):
            return json.loads(lines[0])["time"]
    return time.time() if WORD_OF_RSL_RL in said.read_text() and not list(folder.rglob("progress.jsonl")) else None


if __name__ == "__main__":
    main()
