"""A trained policy from its checkpoint, in an env of its task that does not train it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rsl_rl.env import VecEnv
from tensordict import TensorDict

from go1_sweep import protocol
from go1_sweep.simulators.base import Actor, Purpose, Simulator, TaskConfig
from go1_sweep.trial import torch_settings
from go1_sweep.trial.checkpoints import PolicyError, read_actor
from go1_sweep.trial.runner import runner_of


@dataclass(frozen=True)
class Play:
    """A policy and the env that it plays in.

    Attributes:
        env: ``reset`` begins its episodes.
        config: that the env was made of.
        actor: in evaluation mode.
    """

    env: VecEnv
    config: TaskConfig
    actor: Actor


@contextlib.contextmanager
def playing(
    simulator: Simulator,
    policy: protocol.Policy,
    purpose: Purpose,
    *,
    num_envs: int,
    seed: int,
    device: str,
    frame_size: tuple[int, int] | None = None,
) -> Iterator[Play]:
    """Load the policy, and build an env of its task around it.

    Raises:
        PolicyError: the file is no checkpoint, or of another network than the task's.
        ConfigError: there is no such task, or it does not take the parameters.
    """
    weights = read_actor(Path(policy.checkpoint))
    torch_settings.configure(deterministic=False)
    config = simulator.load_config(simulator.resolve(policy.task), purpose)
    simulator.apply(config, policy.parameters)
    simulator.apply(config, {"num_envs": num_envs})
    env = simulator.make_env(config, seed, device, frame_size=frame_size)
    try:
        actor = runner_of(simulator.make_runner(env, config, None)).actor.eval()
        check_fits(Path(policy.checkpoint), weights, actor.state_dict(), config.task_id)
        actor.load_state_dict(weights)
        yield Play(env, config, actor)
    finally:
        simulator.close(env)


def reset(env: VecEnv) -> TensorDict:
    """Begin a new episode in each env; its first observations, which some envs return alone and some with extras."""
    returned = cast(Any, env).reset()
    return returned[0] if isinstance(returned, tuple) else returned


def check_fits(path: Path, weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], task_id: str) -> None:
    """Compare the actor's weights with those of the task's network.

    Raises:
        PolicyError: other observations or actions, another name or another shape.
    """
    (takes, gives), (observations, actions) = _sizes(weights), _sizes(expected)
    problems = []
    if takes and takes != observations:
        problems.append(f"takes observations of {takes} numbers, and {task_id} gives {observations}")
    if gives and gives != actions:
        problems.append(f"gives actions of {gives} numbers, and {task_id} takes {actions}")
    if problems:
        raise PolicyError(f"{path} {'; it '.join(problems)}")
    for name in sorted(weights.keys() ^ expected.keys()):
        owner = "the checkpoint" if name in weights else "the task's network"
        raise PolicyError(f"{path} is of another network than that of {task_id}: only {owner} has '{name}'")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise PolicyError(
                f"{path} is of another network than that of {task_id}: "
                f"'{name}' is {list(tensor.shape)}, and {list(expected[name].shape)} is expected"
            )


def _sizes(weights: dict[str, torch.Tensor]) -> tuple[int, int]:
    """How many numbers go into the network, and come out of it; 0 and 0 where it has no layers."""
    matches = (re.fullmatch(r"mlp\.(\d+)\.weight", name) for name in weights)
    layers = {int(match[1]): weights[match[0]] for match in matches if match and weights[match[0]].ndim == 2}
    return (layers[min(layers)].shape[1], layers[max(layers)].shape[0]) if layers else (0, 0)
