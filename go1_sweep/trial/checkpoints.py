"""rsl_rl's checkpoints: read without trust, in the form of any version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeGuard

import torch


class PolicyError(Exception):
    """The checkpoint holds no policy that the task can play. The text is one line for the user."""


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
