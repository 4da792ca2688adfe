"""The next env in a process that had one: made by mjlab alone, and as a trial makes it.

In turns, round by round with another seed, the first step included; the first round loads kernels and is left out.

    python benchmarks/next_env.py --task rough --num_envs 4096 --device cuda:0 --out FILE
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.rl import RslRlVecEnvWrapper
from rsl_rl.env import VecEnv

from go1_sweep.simulators.base import TaskConfig
from go1_sweep.simulators.mjlab import Mjlab

PACKAGES = ("mjlab", "mujoco-warp", "warp-lang", "torch")


def main() -> None:
    """Make them in turns, and write the seconds of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="rough")
    parser.add_argument("--num_envs", type=int, default=64)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    simulator = Mjlab()
    sides: dict[str, Callable[[TaskConfig, int], VecEnv]] = {
        "mjlab": lambda config, seed: by_mjlab(config, seed, options.device),
        "ours": lambda config, seed: simulator.make_env(config, seed, options.device),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for seed in range(1 + options.rounds):
        for side, make in sides.items():
            config = simulator.load_config(simulator.resolve(options.task))
            simulator.apply(config, {"num_envs": options.num_envs})
            with contextlib.redirect_stdout(io.StringIO()):
                began = time.perf_counter()
                env = make(config, seed)
                env.step(torch.zeros(options.num_envs, env.num_actions, device=options.device))
                if options.device != "cpu":
                    torch.cuda.synchronize()
                took = time.perf_counter() - began
                simulator.close(env)
                del env
            if seed:  # before, kernels were loaded
                seconds[side].append(round(took, 3))
    medians = {side: round(statistics.median(each), 3) for side, each in seconds.items()}
    result = {
        "what": "seconds until an env has been made and has taken one step, in a process that had others",
        "command": f"python benchmarks/next_env.py --task {options.task} --num_envs {options.num_envs} --device"
        f" {options.device}",
        "seconds": seconds,
        "medians": medians,
        "ratio": round(medians["ours"] / medians["mjlab"], 3),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpu": None if options.device == "cpu" else torch.cuda.get_device_name(options.device),
        "versions": {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def by_mjlab(config: TaskConfig, seed: int, device: str) -> VecEnv:
    """As its train script makes it."""
    config.set_seed(seed)
    return RslRlVecEnvWrapper(ManagerBasedRlEnv(config.env, device=device), clip_actions=config.agent.clip_actions)


if __name__ == "__main__":
    main()
