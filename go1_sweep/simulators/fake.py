"""A stand-in without physics, for tests of the sweep: the real rsl_rl runner on a tiny torch environment.

Its reward follows a learning curve that its configuration determines, so that a sweep over it has a
known best; ``env.fault`` makes it misbehave in a given PPO iteration in the ways that simulators do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from go1_sweep.simulators.base import Purpose, RobotState, Simulator, TaskConfig
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm, PolicyInterface

if TYPE_CHECKING:  # imported where there is an env: most of a small sweep's time would go into it
    import numpy as np
    import torch
    from rsl_rl.env import VecEnv
    from rsl_rl.runners import OnPolicyRunner

    from go1_sweep.simulators.fake_env import FakeEnv

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
        memory_envs: more envs than this, in all that are in memory, are out of it.
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
        from go1_sweep.simulators.fake_env import FakeEnv

        return FakeEnv(config, seed, device, frame_size)

    def make_runner(self, env: VecEnv, config: TaskConfig, log_dir: Path | None) -> OnPolicyRunner:
        """rsl_rl's own runner."""
        from rsl_rl.runners import OnPolicyRunner

        return OnPolicyRunner(env, asdict(config.agent), str(log_dir) if log_dir else None, str(env.device))

    def step_seconds(self, env: VecEnv) -> float:
        """Fifty steps a second."""
        return 0.02

    def robot_state(self, env: VecEnv) -> RobotState:
        """A robot that does half of what it is told."""
        import torch

        command = cast("FakeEnv", env).command
        still = torch.zeros(env.num_envs, 1)
        return RobotState(
            lin_vel=torch.cat([command[:, :2] / 2, still], dim=1),
            ang_vel=torch.cat([still, still, command[:, 2:] / 2], dim=1),
            command=command.clone(),
            power=command[:, :2].norm(dim=1) / 4,
        )

    def set_command(self, env: VecEnv, command: torch.Tensor) -> None:
        """It stays until it is set again."""
        cast("FakeEnv", env).command[:] = command

    def set_terrain(self, env: VecEnv, difficulty: torch.Tensor) -> None:
        """All ground is flat."""

    def render(self, env: VecEnv) -> np.ndarray:
        """A grey picture that gets lighter with the episode."""
        import numpy as np

        fake = cast("FakeEnv", env)
        fake.pictures += 1
        if fake.cfg.draw_fault and fake.pictures == 3:
            fake.fail(fake.cfg.draw_fault)
        assert fake.frame_size is not None
        width, height = fake.frame_size
        return np.full((height, width, 3), int(255 * fake.get_observations()["state"][0, 0]), dtype=np.uint8)

    def curriculum(self, env: VecEnv) -> dict[str, torch.Tensor]:
        """How far up its learning curve it is."""
        import torch

        return {"steps": torch.tensor(cast("FakeEnv", env).steps)}

    def restore_curriculum(self, env: VecEnv, curriculum: dict[str, torch.Tensor]) -> None:
        """Go on from there."""
        if curriculum:
            cast("FakeEnv", env).steps = int(curriculum["steps"])

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
