"""A trained policy from its checkpoint, in the play variant of its task."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rsl_rl.env import VecEnv
from rsl_rl.models import MLPModel

from go1_sweep import protocol
from go1_sweep.simulators.base import Simulator, TaskConfig

INPUT_WEIGHT = "mlp.0.weight"
"""The first layer of an rsl_rl model; its columns are the observations."""


class PolicyError(Exception):
    """The checkpoint holds no policy that the task can play. The text is one line for the user."""


@dataclass(frozen=True)
class Play:
    """A policy and the env that it plays in.

    Attributes:
        env: the play variant, just reset.
        config: that the env was made of.
        actor: in evaluation mode; maps observations (a TensorDict) to actions, shape (num_envs, num_actions).
    """

    env: VecEnv
    config: TaskConfig
    actor: MLPModel


@contextlib.contextmanager
def playing(
    simulator: Simulator,
    policy: protocol.Policy,
    *,
    num_envs: int,
    seed: int,
    device: str,
    frame_size: tuple[int, int] | None = None,
) -> Iterator[Play]:
    """Load the policy, and build the play variant of its task around it.

    Raises:
        PolicyError: the file is no checkpoint, or of another network than the task's.
        ConfigError: there is no such task, or it does not take the parameters.
    """
    weights = read_actor(Path(policy.checkpoint))
    config = simulator.load_config(simulator.resolve(policy.task), play=True)
    simulator.apply(config, policy.parameters)
    simulator.apply(config, {"num_envs": num_envs})
    env = simulator.make_env(config, seed, device, frame_size=frame_size)
    try:
        actor = simulator.make_runner(env, config, None, "tensorboard").get_inference_policy(device)
        check_fits(Path(policy.checkpoint), weights, actor.state_dict(), config.task_id)
        actor.load_state_dict(weights)
        yield Play(env, config, actor)
    finally:
        simulator.close(env)


def read_actor(path: Path) -> dict[str, torch.Tensor]:
    """The actor's weights in an rsl_rl checkpoint.

    Raises:
        PolicyError: see ``read_checkpoint``.
    """
    return read_checkpoint(path)["actor_state_dict"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What an rsl_rl checkpoint holds; at least an ``actor_state_dict`` of finite tensors.

    The file is not trusted: ``weights_only`` keeps code in it from running (rsl_rl's own ``load`` does not).

    Raises:
        PolicyError: there is no such file, or it is something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}") from None
    except Exception:  # a torn zip file, another file format, code in a pickle: torch has an error for each
        raise PolicyError(f"{path} is no rsl_rl checkpoint: it is damaged, or another kind of file") from None
    if isinstance(content, dict) and "model_state_dict" in content:
        raise PolicyError(f"{path} was written by an rsl_rl before 4.0: it has a model_state_dict, no actor_state_dict")
    weights: Any = content.get("actor_state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(each, torch.Tensor) for each in weights.values()):
        raise PolicyError(f"{path} is no rsl_rl checkpoint: it has no actor_state_dict")
    if not all(torch.isfinite(each).all() for each in weights.values()):
        raise PolicyError(f"{path} holds a policy whose weights are not all finite")
    return content


def check_fits(path: Path, weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], task_id: str) -> None:
    """Compare the actor's weights with those of the task's network.

    Raises:
        PolicyError: other observations, another name or another shape.
    """
    if INPUT_WEIGHT in weights and INPUT_WEIGHT in expected:
        takes, gets = (tensors[INPUT_WEIGHT].shape[-1] for tensors in (weights, expected))
        if takes != gets:
            raise PolicyError(f"{path} takes observations of {takes} numbers, and {task_id} gives {gets}")
    for name in sorted(weights.keys() ^ expected.keys()):
        owner = "the checkpoint" if name in weights else "the task's network"
        raise PolicyError(f"{path} is of another network than that of {task_id}: only {owner} has '{name}'")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise PolicyError(
                f"{path} is of another network than that of {task_id}: "
                f"'{name}' is {list(tensor.shape)}, and {list(expected[name].shape)} is expected"
            )
