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
from typing import Any, Literal, cast

import numpy as np
import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from go1_sweep.simulators.base import Purpose, RobotState, Simulator, TaskConfig
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm, PolicyInterface

JOINTS = ("left", "right")

Fault = Literal[
    "", "crash", "exit", "raise", "hang", "nan", "inf", "explode", "oom", "garbage", "half_line", "slow", "child"
]


@dataclass
class FakeEnvCfg:
    """The environment.

    Attributes:
        fault: what goes wrong in training ...
        fault_iteration: ... in this PPO iteration, from 1.
        play_fault: what goes wrong in the first step of the play variant.
        draw_fault: what goes wrong when the third picture is drawn.
        level_is_nan_from: the PPO iteration from which the logged curriculum level is NaN.
        memory_envs: more envs than this are out of memory.
        step_seconds: how long an environment step takes.
        episode_steps: length of an episode.
        noise: standard deviation of an episode's return.
        fall_step: every other env falls in this step of its episodes; 0: none does.
    """

    num_envs: int = 32
    episode_steps: int = 8
    noise: float = 0.0
    memory_envs: int = 8192
    step_seconds: float = 0.0
    fault: Fault = ""
    fault_iteration: int = 2
    play_fault: Fault = ""
    draw_fault: Fault = ""
    level_is_nan_from: int = 1_000_000
    fall_step: int = 0


@dataclass
class FakePpoCfg:
    """PPO's configuration, as rsl_rl takes it."""

    class_name: str = "PPO"
    learning_rate: float = 1e-3
    schedule: Literal["adaptive", "fixed"] = "adaptive"
    desired_kl: float = 0.01
    entropy_coef: float = 0.01
    gamma: float = 0.99
    lam: float = 0.95
    clip_param: float = 0.2
    value_loss_coef: float = 1.0
    max_grad_norm: float = 1.0
    num_learning_epochs: int = 1
    num_mini_batches: int = 1
    rnd_cfg: None = None


@dataclass
class FakeAgentCfg:
    """The runner's configuration, as rsl_rl takes it."""

    experiment_name: str = "fake"
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

    def __init__(self, config: TaskConfig, seed: int, device: str, frame_size: tuple[int, int] | None) -> None:
        cfg: FakeEnvCfg = config.env
        if cfg.num_envs > cfg.memory_envs:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {cfg.num_envs} fake envs")
        torch.manual_seed(seed)
        self.cfg: FakeEnvCfg = cfg  # pyright: ignore[reportIncompatibleVariableOverride]
        self.frame_size = frame_size
        self.pictures = 0
        self.num_envs, self.device = cfg.num_envs, device
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


class Fake(Simulator):
    """The fake simulator; on the CPU in seconds."""

    name = "fake"
    paths = {**Simulator.paths, "num_envs": "env.num_envs"}
    test_paths = ()

    def versions(self) -> dict[str, str]:
        """The packages that the fake rests on."""
        return {package: version(package) for package in ("rsl-rl-lib", "torch")}

    def tasks(self) -> list[str]:
        """The two tasks."""
        return sorted(set(self.aliases.values()))

    def load_config(self, task_id: str, purpose: Purpose = "train") -> TaskConfig:
        """The default configuration."""
        return TaskConfig(task_id, FakeEnvCfg(), FakeAgentCfg(), purpose)

    def make_env(
        self, config: TaskConfig, seed: int, device: str, *, frame_size: tuple[int, int] | None = None
    ) -> VecEnv:
        """The tiny environment."""
        return FakeEnv(config, seed, device, frame_size)

    def make_runner(self, env: VecEnv, config: TaskConfig, log_dir: Path | None) -> OnPolicyRunner:
        """rsl_rl's own runner."""
        return OnPolicyRunner(env, asdict(config.agent), str(log_dir) if log_dir else None, str(env.device))

    def step_seconds(self, env: VecEnv) -> float:
        """Fifty steps a second."""
        return 0.02

    def robot_state(self, env: VecEnv) -> RobotState:
        """A robot that does half of what it is told."""
        command = cast(FakeEnv, env).command
        still = torch.zeros(env.num_envs, 1)
        return RobotState(
            lin_vel=torch.cat([command[:, :2] / 2, still], dim=1),
            ang_vel=torch.cat([still, still, command[:, 2:] / 2], dim=1),
            command=command.clone(),
            power=command[:, :2].norm(dim=1) / 4,
        )

    def set_command(self, env: VecEnv, command: torch.Tensor) -> None:
        """It stays until it is set again."""
        cast(FakeEnv, env).command[:] = command

    def set_terrain(self, env: VecEnv, difficulty: torch.Tensor) -> None:
        """All ground is flat."""

    def render(self, env: VecEnv) -> np.ndarray:
        """A grey picture that gets lighter with the episode."""
        fake = cast(FakeEnv, env)
        fake.pictures += 1
        if fake.cfg.draw_fault and fake.pictures == 3:
            fake.fail(fake.cfg.draw_fault)
        assert fake.frame_size is not None
        width, height = fake.frame_size
        return np.full((height, width, 3), int(255 * fake.get_observations()["state"][0, 0]), dtype=np.uint8)

    def curriculum(self, env: VecEnv) -> dict[str, torch.Tensor]:
        """How far up its learning curve it is."""
        return {"steps": torch.tensor(cast(FakeEnv, env).steps)}

    def restore_curriculum(self, env: VecEnv, curriculum: dict[str, torch.Tensor]) -> None:
        """Go on from there."""
        if curriculum:
            cast(FakeEnv, env).steps = int(curriculum["steps"])

    def interface(self, env: VecEnv, config: TaskConfig) -> PolicyInterface:
        """Three numbers in, two joints out."""
        return PolicyInterface(
            observations=[
                ObservationTerm("phase", "phase", 2, "how far the episode is, and its sine", "", ["phase", "sine"]),
                ObservationTerm("one", "one", 1, "a constant", "", ["one"]),
            ],
            actions=[JointAction(name, 0.25, 0.1, 20.0, 0.5, 10.0, [-1.0, 1.0], None) for name in JOINTS],
            action_clip=None,
            joints=list(JOINTS),
            decimation=1,
        )

    def command_limits(self, config: TaskConfig, steps: int) -> list[list[float]]:
        """Of no command."""
        return []
