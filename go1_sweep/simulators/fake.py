"""A stand-in without physics, for tests of the sweep: the real rsl_rl runner on a tiny torch environment.

Its reward follows a learning curve that its configuration determines, so that a sweep over it has a
known best; ``env.fault`` makes it misbehave in a given PPO iteration in the ways that simulators do.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from go1_sweep.simulators.base import Simulator, TaskConfig, same_names

Fault = Literal["", "crash", "exit", "raise", "hang", "nan", "inf", "oom", "garbage", "half_line", "slow", "child"]
GPU_MEMORY_ENVS = 8192
"""More envs than this are out of memory."""


@dataclass
class FakeEnvCfg:
    """The environment.

    Attributes:
        fault: what goes wrong ...
        fault_iteration: ... in this PPO iteration, from 1.
        level_is_nan_from: the PPO iteration from which the logged curriculum level is NaN.
        step_seconds: how long an environment step takes.
        episode_steps: length of an episode.
        noise: standard deviation of an episode's return.
    """

    num_envs: int = 32
    episode_steps: int = 8
    noise: float = 0.0
    step_seconds: float = 0.0
    fault: Fault = ""
    fault_iteration: int = 2
    level_is_nan_from: int = 1_000_000


@dataclass
class FakePpoCfg:
    """The part of PPO's configuration that the fake takes."""

    class_name: str = "PPO"
    learning_rate: float = 1e-3
    schedule: Literal["adaptive", "fixed"] = "adaptive"
    desired_kl: float = 0.01
    entropy_coef: float = 0.01
    num_learning_epochs: int = 1
    num_mini_batches: int = 1
    rnd_cfg: None = None


@dataclass
class FakeAgentCfg:
    """The runner's configuration, as rsl_rl takes it."""

    num_steps_per_env: int = 8
    save_interval: int = 5
    algorithm: FakePpoCfg = field(default_factory=FakePpoCfg)
    obs_groups: dict[str, list[str]] = field(default_factory=lambda: {"actor": ["state"], "critic": ["state"]})
    actor: dict[str, Any] = field(
        default_factory=lambda: {
            "class_name": "MLPModel",
            "hidden_dims": [8],
            "distribution_cfg": {"class_name": "GaussianDistribution"},
        }
    )
    critic: dict[str, Any] = field(default_factory=lambda: {"class_name": "MLPModel", "hidden_dims": [8]})


def final_return(config: TaskConfig) -> float:
    """The episode return that the configuration's learning curve rises to: at most 10, at a rate of 1e-3."""
    decades_off = math.log10(config.agent.algorithm.learning_rate / 1e-3)
    return 10.0 - 3.0 * decades_off**2


class FakeEnv(VecEnv):
    """Three numbers as the state, two as the action, a reward that follows the learning curve."""

    num_actions = 2

    def __init__(self, config: TaskConfig, seed: int, device: str) -> None:
        cfg: FakeEnvCfg = config.env
        if cfg.num_envs > GPU_MEMORY_ENVS:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {cfg.num_envs} fake envs")
        torch.manual_seed(seed)
        self._config = self.cfg = cfg
        self.num_envs, self.device = cfg.num_envs, device
        self.max_episode_length = cfg.episode_steps
        self.episode_length_buf = torch.zeros(cfg.num_envs, dtype=torch.long, device=device)
        self._iteration_steps = config.agent.num_steps_per_env
        self._final_return = final_return(config)
        self._steps = 0
        self._generator = torch.Generator().manual_seed(seed)

    def get_observations(self) -> TensorDict:
        """Observations, shape (num_envs, 3)."""
        phase = self.episode_length_buf[:, None] / self._config.episode_steps
        state = torch.cat([phase, torch.sin(phase), torch.ones_like(phase)], dim=1)
        return TensorDict({"state": state}, batch_size=[self.num_envs])

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, dict]:
        """One step; the fault strikes at the first step of its iteration."""
        iteration, step = divmod(self._steps, self._iteration_steps)
        self._steps += 1
        if self._config.fault and step == 0 and iteration + 1 == self._config.fault_iteration:
            self._fail(self._config.fault)
        time.sleep(self._config.step_seconds)
        learned = 1.0 - math.exp(-self._steps / (4 * self._iteration_steps))
        noise = torch.randn(self.num_envs, generator=self._generator).to(self.device) * self._config.noise
        rewards = (self._final_return * learned + noise) / self._config.episode_steps
        self.episode_length_buf += 1
        dones = (self.episode_length_buf >= self._config.episode_steps).long()
        self.episode_length_buf[dones.bool()] = 0
        observations = self.get_observations()
        if self._config.fault == "nan" and iteration + 1 >= self._config.fault_iteration:
            rewards = rewards * math.nan
        if self._config.fault == "inf" and iteration + 1 >= self._config.fault_iteration:
            rewards = rewards + math.inf
        level = learned if iteration + 1 < self._config.level_is_nan_from else math.nan
        return observations, rewards, dones, {"time_outs": dones.bool(), "log": {"Curriculum/level": level}}

    def _fail(self, fault: str) -> None:
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


class Fake(Simulator):
    """The fake simulator; on the CPU in seconds."""

    name = "fake"
    aliases = {
        "rough": "Fake-Rough-Unitree-Go1",
        "flat": "Fake-Flat-Unitree-Go1",
        "Isaac-Velocity-Rough-Unitree-Go1-v0": "Fake-Rough-Unitree-Go1",
        "Isaac-Velocity-Flat-Unitree-Go1-v0": "Fake-Flat-Unitree-Go1",
    }
    paths = {
        "num_envs": "env.num_envs",
        "num_steps_per_env": "agent.num_steps_per_env",
        "save_interval": "agent.save_interval",
        **same_names(
            "agent.algorithm",
            "learning_rate",
            "schedule",
            "desired_kl",
            "entropy_coef",
            "num_learning_epochs",
            "num_mini_batches",
        ),
    }

    def versions(self) -> dict[str, str]:
        """The packages that the fake rests on."""
        return {package: version(package) for package in ("rsl-rl-lib", "torch")}

    def tasks(self) -> list[str]:
        """The two tasks."""
        return sorted({self.aliases["flat"], self.aliases["rough"]})

    def load_config(self, task_id: str) -> TaskConfig:
        """The default configuration."""
        return TaskConfig(task_id, FakeEnvCfg(), FakeAgentCfg())

    def make_env(self, config: TaskConfig, seed: int, device: str) -> VecEnv:
        """The tiny environment."""
        return FakeEnv(config, seed, device)

    def make_runner(
        self, env: VecEnv, config: TaskConfig, log_dir: Path, writer: dict[str, Any] | str
    ) -> OnPolicyRunner:
        """rsl_rl's own runner."""
        return OnPolicyRunner(env, asdict(config.agent) | {"logger": writer}, str(log_dir), str(env.device))
