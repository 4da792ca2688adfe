"""The one interface to a simulator. It runs in the worker, in the simulator's own interpreter.

Call order for a trial::

    config = simulator.load_config(simulator.resolve(task))   # fresh objects, ours to change
    simulator.apply(config, parameters)
    env = simulator.make_env(config, seed, device)             # one env at a time
    runner = simulator.make_runner(env, config, log_dir)       # owns the policy, borrows the env
    ...                                                        # runner.learn(), simulator.save()
    simulator.close(env)                                       # on every way out

A trained policy is shown or judged in the same order, with another purpose of ``load_config`` and a loaded
policy's actions in place of ``learn``. Several envs are made one after the other in one process: after
``close`` the next ``load_config`` must give what a fresh process gives.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, Protocol, cast

from go1_sweep.errors import did_you_mean
from go1_sweep.simulators import SIMULATORS
from go1_sweep.simulators.entries import ConfigError, entry, set_entry
from go1_sweep.simulators.policy_interface import PolicyInterface

if TYPE_CHECKING:  # a simulator may answer for its configuration without them
    import numpy as np
    import torch
    from rsl_rl.env import VecEnv
    from rsl_rl.runners import OnPolicyRunner
    from tensordict import TensorDict

Purpose = Literal["train", "play", "exam"]
"""What an env is for: learning; showing a policy, in the task's play variant; or judging it, as in training with its
noise and its pushes, but without a curriculum."""


@dataclass
class TaskConfig:
    """A task's own configuration objects.

    Attributes:
        task_id: the id under which the simulator registered the task.
        env: the environment's configuration.
        agent: the runner's configuration (policy, PPO, iteration size, rsl_rl's ``experiment_name``).
        purpose: what the env is for.
    """

    task_id: str
    env: Any
    agent: Any
    purpose: Purpose = "train"

    def set_seed(self, seed: int) -> None:
        """Say the seed where the configurations have one."""
        for config in (self.env, self.agent):
            if hasattr(config, "seed"):
                config.seed = seed


@dataclass(frozen=True)
class RobotState:
    """How the robots move, and how they should; tensors of shape (num_envs, 3), in the base frame.

    Attributes:
        lin_vel: linear velocity [m/s].
        ang_vel: angular velocity [rad/s].
        command: commanded forward and sideways velocity [m/s] and yaw rate [rad/s].
        power: what the motors put in, over the robot's nominal weight [W/N = m/s], shape (num_envs,); a joint that
            the world drives counts nothing, as nothing is got back from it.
    """

    lin_vel: torch.Tensor
    ang_vel: torch.Tensor
    command: torch.Tensor
    power: torch.Tensor


class Actor(Protocol):
    """A policy, as rsl_rl 5's models have it.

    Attributes:
        is_recurrent: whether it remembers; ``reset`` makes it forget.
        obs_groups: the groups of observations that are its input, joined in this order.
    """

    is_recurrent: bool
    obs_groups: list[str]

    def __call__(self, observations: TensorDict, /) -> torch.Tensor:
        """The mean action, (num_envs, num_actions)."""
        ...

    def reset(self, dones: torch.Tensor, /) -> None:
        """Forget what was seen in the envs that are done."""

    def as_jit(self) -> torch.nn.Module:
        """The network from joined observations to mean actions, for TorchScript and ONNX."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The weights by name."""
        ...

    def load_state_dict(self, weights: dict[str, torch.Tensor], /) -> Any:
        """Take weights by name."""

    def eval(self) -> Actor:
        """Itself, no longer in training."""
        ...

    def cpu(self) -> Actor:
        """Itself, on the CPU."""
        ...


class Simulator(ABC):
    """A simulator that can train the Go1 with RSL-RL."""

    name: ClassVar[str]

    paths: ClassVar[dict[str, str]] = {
        "num_envs": "env.scene.num_envs",
        "num_steps_per_env": "agent.num_steps_per_env",
        "save_interval": "agent.save_interval",
        "learning_rate": "agent.algorithm.learning_rate",
        "schedule": "agent.algorithm.schedule",
        "desired_kl": "agent.algorithm.desired_kl",
        "entropy_coef": "agent.algorithm.entropy_coef",
        "gamma": "agent.algorithm.gamma",
        "lam": "agent.algorithm.lam",
        "clip_param": "agent.algorithm.clip_param",
        "value_loss_coef": "agent.algorithm.value_loss_coef",
        "max_grad_norm": "agent.algorithm.max_grad_norm",
        "num_learning_epochs": "agent.algorithm.num_learning_epochs",
        "num_mini_batches": "agent.algorithm.num_mini_batches",
    }
    """Neutral parameter name -> ``env.<path>`` or ``agent.<path>``; the names of Isaac Lab, which mjlab has too."""

    test_paths: ClassVar[tuple[str, ...]] = (
        "env.rewards.*",
        "env.commands.*",
        "env.terminations.*",
        "env.is_finite_horizon",
        "env.episode_length_s",
        "env.curriculum.*",
        "env.events.*",
        "env.recorders.*",
        "env.viewer.*",
        "env.scene.terrain.*",
        "env.observations.*.enable_corruption",
        "env.observations.*.noise*",
    )
    """What makes the test and not the policy in the env's configuration, as patterns (``fnmatch``) of paths.

    A policy is shown and judged with the task's own: a trial that trained with other rewards or commands is
    judged by those of the task, as all others are.
    """

    @property
    def max_trials(self) -> int | None:
        """How many trials a process should have at most, one after the other; ``None``: as many as there are."""
        return None

    def kernel_cache(self) -> Path | None:
        """The folder of what it compiles for its envs and keeps; ``None``: nothing that takes long."""
        return None

    @property
    def aliases(self) -> dict[str, str]:
        """See ``Entry``."""
        return SIMULATORS[self.name].aliases

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """The versions that a result depends on, by package name."""

    @abstractmethod
    def tasks(self) -> list[str]:
        """The ids of all registered tasks."""

    def resolve(self, task: str) -> str:
        """The registered id that the name stands for.

        Raises:
            ConfigError: there is none; the message lists what exists.
        """
        task_id = self.aliases.get(task, task)
        known = self.tasks()
        if task_id in known:
            return task_id
        close = difflib.get_close_matches(task, [*self.aliases, *known], n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        raise ConfigError(f"{self.name} has no task '{task}'{guess}; it has {', '.join(['rough', 'flat', *known])}")

    @abstractmethod
    def load_config(self, task_id: str, purpose: Purpose = "train") -> TaskConfig:
        """Fresh configuration objects of a registered task.

        Episodes are as long as in training whatever the purpose.
        """

    def apply(self, config: TaskConfig, parameters: dict[str, Any]) -> None:
        """Set parameters, by neutral name or raw path, in place; ``test_paths`` only where it is for training.

        Raises:
            ConfigError: the configuration has no such entry, takes another type, or it is named twice.
        """
        names: dict[str, str] = {}
        for name, value in parameters.items():
            path = self.paths.get(name, name)
            if path in names:
                raise ConfigError(f"{names[path]} and {name} are the same entry of the configuration: name it one way")
            names[path] = name
            if path == "blind":
                if value and not self.make_blind(config):
                    raise ConfigError(f"blind: {config.task_id} observes nothing that a Go1 does not measure")
                continue
            if config.purpose != "train" and any(fnmatch.fnmatchcase(path, pattern) for pattern in self.test_paths):
                continue
            root, _, rest = path.partition(".")
            if root not in ("env", "agent") or not rest:
                raise ConfigError(f"{self.name} has no parameter '{name}'{did_you_mean(name, self.paths)}")
            set_entry(getattr(config, root), rest, value, shown=path)

    def make_blind(self, config: TaskConfig) -> bool:
        """Take from the policy what no sensor of a Go1 measures; whether there was anything of the kind.

        Raises:
            ConfigError: no task of this simulator has it.
        """
        raise ConfigError(f"{self.name} has no parameter 'blind'")

    def parameters(self, config: TaskConfig) -> dict[str, Any]:
        """What the neutral parameters are in the configuration, as far as it has them as single values."""
        found = {}
        for name, path in self.paths.items():
            root, _, rest = path.partition(".")
            with contextlib.suppress(ConfigError):
                found[name] = entry(getattr(config, root), rest)
        return {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}

    @abstractmethod
    def make_env(
        self, config: TaskConfig, seed: int, device: str, *, frame_size: tuple[int, int] | None = None
    ) -> VecEnv:
        """Build the environment and seed everything random in it.

        The policy's initial weights and the exploration noise hang on the same seed (torch's global
        generator), so ``make_runner`` follows directly.

        Args:
            config: of the task.
            seed: in [0, 2**31).
            device: ``cpu`` or ``cuda:0``.
            frame_size: width and height of what ``render`` draws; ``None``: nothing will be drawn.

        Returns:
            An env that has a ``reset`` too, which gives the first observations, alone or before extras.
        """

    @abstractmethod
    def make_runner(self, env: VecEnv, config: TaskConfig, log_dir: Path | None) -> OnPolicyRunner:
        """The rsl_rl runner of the task.

        ``config`` stays as it is: the runner gets a copy that it may change.

        Args:
            env: borrowed.
            config: that the env was made of.
            log_dir: of the training; ``None``: nothing is logged.
        """

    @abstractmethod
    def step_seconds(self, env: VecEnv) -> float:
        """What a step of the env stands for: the policy's control period [s]."""

    @abstractmethod
    def robot_state(self, env: VecEnv) -> RobotState:
        """The state in which the env's last observations were taken, after the reset of envs that were done."""

    @abstractmethod
    def set_command(self, env: VecEnv, command: torch.Tensor) -> None:
        """Command the robots, from the observations of the next step on; a reset env draws its own again.

        Args:
            env: of a task with a velocity command.
            command: forward and sideways velocity [m/s] and yaw rate [rad/s] in the base frame, for all, shape (3,),
                or each, shape (num_envs, 3).
        """

    @abstractmethod
    def set_terrain(self, env: VecEnv, difficulty: torch.Tensor) -> None:
        """Put each robot on terrain of a difficulty, from its next reset on; the kinds take turns.

        Nothing on flat ground.

        Args:
            env: made for an exam.
            difficulty: from 0, the easiest level that there is, to 1, the hardest; shape (num_envs,).
        """

    @abstractmethod
    def render(self, env: VecEnv) -> np.ndarray:
        """A picture of the first robot from a camera that follows it, (height, width, 3) of uint8."""

    @abstractmethod
    def interface(self, env: VecEnv, config: TaskConfig) -> PolicyInterface:
        """What the numbers that go into the policy and come out of it are.

        Raises:
            ConfigError: the task's actions are not targets of joint positions.
        """

    @abstractmethod
    def command_limits(self, config: TaskConfig, steps: int) -> list[list[float]]:
        """The least and the greatest velocity command in training, forward, left [m/s] and turn left [rad/s].

        None where the task commands no velocity.

        Args:
            config: for training.
            steps: of the env that the policy was trained for.
        """

    def view(self, env: VecEnv, actor: Actor, *, in_window: bool, steps: int, opened: Callable[[str], None]) -> None:
        """Show the policy at real speed until the viewer is closed.

        Args:
            env: that was reset.
            actor: that acts in it.
            in_window: on this machine's screen; else in a browser.
            steps: after which the viewer closes itself; 0: never.
            opened: called when there is something to see, with the address for a browser.

        Raises:
            ConfigError: the simulator has no viewer.
        """
        raise ConfigError(f"{self.name} has no viewer")

    def watching(
        self, env: VecEnv, *, in_window: bool, opened: Callable[[str], None]
    ) -> contextlib.AbstractContextManager[None]:
        """Show what the env does, while it is entered and somebody else steps it; arguments as in ``view``.

        Raises:
            ConfigError: the simulator has no viewer.
        """
        raise ConfigError(f"{self.name} has no viewer")

    def save(self, runner: OnPolicyRunner, file: Path | BinaryIO, infos: dict[str, Any] | None = None) -> None:
        """Write the runner's checkpoint, as ``runner.load`` takes it, and nothing beside it.

        Args:
            runner: whose.
            file: to write to.
            infos: numbers, tensors, dicts and lists that are kept in it.

        Raises:
            OSError: the file cannot be written.
        """
        type(runner).save(runner, cast(str, file), infos)  # torch.save takes them all

    def curriculum(self, env: VecEnv) -> dict[str, torch.Tensor]:
        """How far the env's curriculum is where the runner's own checkpoint does not say so; here nowhere."""
        return {}

    def restore_curriculum(self, env: VecEnv, curriculum: dict[str, torch.Tensor]) -> None:
        """Go on with a curriculum, perhaps of another number of envs, and reset all envs into it.

        Args:
            env: whose checkpoint the runner has loaded.
            curriculum: what ``curriculum`` gave; empty for a checkpoint that was not written by us.
        """
        assert not curriculum

    def close(self, env: VecEnv) -> None:
        """Close the env; what it held on the GPU is free when its last reference is gone, and garbage is collected."""
        close = getattr(env, "close", None)
        if close is not None:
            close()
