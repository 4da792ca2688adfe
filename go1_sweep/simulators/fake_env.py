"""The fake simulator's environment."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from typing import ClassVar
from weakref import WeakSet

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from go1_sweep.simulators.base import TaskConfig
from go1_sweep.simulators.fake import FakeEnvCfg


def final_return(config: TaskConfig) -> float:
    """The episode return that the configuration's learning curve rises to: at most 10, at a rate of 1e-3."""
    decades_off = math.log10(config.agent.algorithm.learning_rate / 1e-3)
    return 10.0 - 3.0 * decades_off**2


class FakeEnv(VecEnv):
    """Three numbers as the state, two as the action, a reward that follows the learning curve."""

    num_actions = 2
    _alive: ClassVar[WeakSet[FakeEnv]] = WeakSet()
    """All that this process made, and that hold memory still."""

    def __init__(self, config: TaskConfig, seed: int, device: str, frame_size: tuple[int, int] | None) -> None:
        cfg: FakeEnvCfg = config.env
        if cfg.num_envs + sum(env.num_envs for env in self._alive) > cfg.memory_envs:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {cfg.num_envs} fake envs")
        torch.manual_seed(seed)
        self.cfg: FakeEnvCfg = cfg  # pyright: ignore[reportIncompatibleVariableOverride]
        self.frame_size = frame_size
        self.pictures = 0
        self.num_envs, self.device = cfg.num_envs, device
        self._alive.add(self)
        self.max_episode_length = cfg.episode_steps
        self.episode_length_buf = torch.zeros(cfg.num_envs, dtype=torch.long, device=device)
        self._iteration_steps = config.agent.num_steps_per_env
        self._final_return = final_return(config)
        self._plays = config.purpose != "train"
        self.steps = 0
        self._generator = torch.Generator().manual_seed(seed)
        self.command = torch.rand(cfg.num_envs, 3, generator=self._generator) - 0.5

    def reset(self) -> TensorDict:
        """Begin a new episode in each env; the observations alone, as not every env gives them."""
        self.episode_length_buf[:] = 0
        return self.get_observations()

    def get_observations(self) -> TensorDict:
        """Observations, shape (num_envs, 3)."""
        phase = self.episode_length_buf[:, None] / self.cfg.episode_steps
        state = torch.cat([phase, torch.sin(phase), torch.ones_like(phase)], dim=1)
        return TensorDict({"state": state}, batch_size=[self.num_envs])

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict]:
        """One step; the fault strikes at the first step of its iteration."""
        cfg = self.cfg
        iteration, step = divmod(self.steps, self._iteration_steps)
        self.steps += 1
        fault, at = (cfg.play_fault, 1) if self._plays else (cfg.fault, cfg.fault_iteration)
        if fault and step == 0 and iteration + 1 == at:
            self.fail(fault)
        time.sleep(cfg.step_seconds)
        learned = 1.0 if self._plays else 1.0 - math.exp(-self.steps / (4 * self._iteration_steps))
        noise = torch.randn(self.num_envs, generator=self._generator).to(self.device) * cfg.noise
        rewards = (self._final_return * learned + noise) / cfg.episode_steps
        if fault in ("nan", "inf") and iteration + 1 >= at:
            rewards = rewards + (math.nan if fault == "nan" else math.inf)
        if fault == "explode" and iteration + 1 >= at:
            rewards = rewards * -(30.0 ** (iteration + 2 - at))
        self.episode_length_buf += 1
        time_outs = self.episode_length_buf >= cfg.episode_steps
        falls = (self.episode_length_buf == cfg.fall_step) & (torch.arange(self.num_envs) % 2 == 1)
        dones = time_outs | falls
        self.episode_length_buf[dones] = 0
        level = learned if iteration + 1 < cfg.level_is_nan_from else math.nan
        log = {"Curriculum/level": level, "Episode_Reward/track_linear_velocity": self._final_return * learned}
        extras = {"time_outs": time_outs & ~falls, "log": log}
        return self.get_observations(), rewards, dones.long(), extras

    def fail(self, fault: str) -> None:
        """Misbehave as told."""
        match fault:
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "exit":
                os._exit(0)
            case "raise":
                raise RuntimeError("the fake simulator was told to fail")
            case "hang":
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
                time.sleep(1e6)
            case "oom":
                raise torch.OutOfMemoryError("CUDA out of memory: told so")
            case "garbage":
                os.write(_pipe(), b"\x00\xffModule loaded {}\n")
            case "half_line":
                os.write(_pipe(), b'{"type": "Report", "tri')
                os._exit(1)
            case "slow":
                time.sleep(3.0)
            case "child":
                subprocess.Popen(["sleep", "100000"])


def _pipe() -> int:
    """The worker's outgoing pipe, its last argument: a fault writes past the protocol."""
    return int(sys.argv[-1])
