"""A trained policy from its checkpoint, in the play variant of its task."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, cast

import torch
from rsl_rl.env import VecEnv
from rsl_rl.models import MLPModel
from tensordict import TensorDict

from go1_sweep import protocol
from go1_sweep.simulators.base import Simulator, TaskConfig
from go1_sweep.trial import torch_settings


class PolicyError(Exception):
    """The checkpoint holds no policy that the task can play. The text is one line for the user."""


@dataclass(frozen=True)
class Play:
    """A policy and the env that it plays in.

    Attributes:
        env: the play variant; ``reset`` begins its episodes.
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
    torch_settings.configure(deterministic=False)
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


def reset(env: VecEnv) -> TensorDict:
    """Begin a new episode in each env; its first observations, which some envs return alone and some with extras."""
    returned = cast(Any, env).reset()
    return returned[0] if isinstance(returned, tuple) else returned


def read_actor(path: Path) -> dict[str, torch.Tensor]:
    """The actor's weights in an rsl_rl checkpoint.

    Raises:
        PolicyError: see ``read_checkpoint``.
    """
    return read_checkpoint(path)["actor_state_dict"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What an rsl_rl checkpoint holds, ``in_current_form``; at least an ``actor_state_dict`` of finite tensors.

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
    content = in_current_form(content) if isinstance(content, dict) else {}
    weights = content.get("actor_state_dict")
    if not _is_weights(weights) or not weights:
        raise PolicyError(f"{path} is no rsl_rl checkpoint: it has no actor_state_dict, nor a model_state_dict")
    if not all(torch.isfinite(each).all() for each in weights.values()):
        raise PolicyError(f"{path} holds a policy whose weights are not all finite")
    return content


def in_current_form(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's content under the names of rsl_rl 5; what has them already stays as it is.

    rsl_rl 3 kept actor and critic in one ``model_state_dict``; rsl_rl 4 called the spread of the actions
    ``std`` or ``log_std``. The optimizer's state fits as it is: all count the spread first, then the actor's
    layers, then the critic's.
    """
    if _is_weights(model := content.get("model_state_dict")):
        networks: dict[str, dict[str, torch.Tensor]] = {"actor_state_dict": {}, "critic_state_dict": {}}
        for name, tensor in model.items():
            owner = "critic" if name.startswith("critic") else "actor"
            networks[f"{owner}_state_dict"][re.sub(_OWNER, lambda match: _NAMES[match[1]], name)] = tensor
        content = {name: each for name, each in content.items() if name != "model_state_dict"} | networks
    if _is_weights(actor := content.get("actor_state_dict")):
        content = content | {"actor_state_dict": {_SPREAD.get(name, name): actor[name] for name in actor}}
    return content


_OWNER = r"^(?:actor|critic)(_obs_normalizer)?\."
_NAMES = {None: "mlp.", "_obs_normalizer": "obs_normalizer."}
_SPREAD = {"std": "distribution.std_param", "log_std": "distribution.log_std_param"}


def _is_weights(value: Any) -> TypeGuard[dict[str, torch.Tensor]]:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(each, torch.Tensor) for name, each in value.items()
    )


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
