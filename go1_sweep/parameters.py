"""The neutral names of what can be tuned: what each means, its unit and its bounds.

A simulator maps each name to its own configuration. What is not listed here can still be reached by
its raw path, ``env.<path>`` or ``agent.<path>``, and is then checked by the simulator alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from go1_sweep.errors import BadInput, did_you_mean
from go1_sweep.yaml_file import in_yaml, scalar

Value = bool | int | float | str
"""What a parameter can be set to."""

RAW_PREFIXES = ("env.", "agent.")


@dataclass(frozen=True)
class Parameter:
    """One tunable of the task.

    Attributes:
        meaning: one line for tables and messages, with the unit where there is one.
        type: ``int``, ``float``, ``str`` or ``bool``.
        low: the smallest value allowed (``low`` itself is excluded where ``open_low``).
        high: the largest value allowed.
        open_low: whether ``low`` itself is excluded.
        choices: the allowed words, for ``str``.
    """

    meaning: str
    type: type
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    choices: tuple[str, ...] = ()


def _positive(meaning: str) -> Parameter:
    return Parameter(meaning, float, low=0.0, open_low=True)


def _fraction(meaning: str) -> Parameter:
    return Parameter(meaning, float, low=0.0, high=1.0)


def _count(meaning: str) -> Parameter:
    return Parameter(meaning, int, low=1)


PARAMETERS: dict[str, Parameter] = {
    "num_envs": _count("environments simulated side by side"),
    "num_steps_per_env": _count("environment steps of each environment per PPO iteration"),
    "learning_rate": _positive("learning rate of Adam; only the initial one under the adaptive schedule"),
    "schedule": Parameter("learning rate schedule", str, choices=("adaptive", "fixed")),
    "desired_kl": _positive("KL divergence that the adaptive schedule steers to"),
    "entropy_coef": Parameter("weight of the entropy bonus", float, low=0.0),
    "gamma": _fraction("discount factor"),
    "lam": _fraction("lambda of generalized advantage estimation"),
    "clip_param": _positive("clipping range of PPO's probability ratio"),
    "value_loss_coef": Parameter("weight of the value loss", float, low=0.0),
    "max_grad_norm": _positive("gradient norm above which gradients are clipped"),
    "num_learning_epochs": _count("passes over the collected data per PPO iteration"),
    "num_mini_batches": _count("mini-batches per pass"),
    "save_interval": _count("PPO iterations between two checkpoints"),
    "blind": Parameter("whether the policy does without what no sensor of a Go1 measures", bool),
}


def is_raw(name: str) -> bool:
    """Whether the name is a path into the simulator's own configuration."""
    return name.startswith(RAW_PREFIXES)


def check_name(name: str) -> None:
    """Accept neutral names and raw paths.

    Raises:
        ValueError: neither; the message names the closest neutral name.
    """
    if is_raw(name):
        if not all(name.split(".")):
            raise ValueError("is no path: a part between its dots is empty")
    elif name not in PARAMETERS:
        raise ValueError(f"unknown parameter{did_you_mean(name, PARAMETERS)} (or a raw path: env.<path>, agent.<path>)")


def check_value(name: str, value: Value) -> Value:
    """Return the value in the parameter's own type; raw paths pass as they are.

    Raises:
        ValueError: of another type, or out of bounds.
    """
    if is_raw(name):
        return value
    parameter = PARAMETERS[name]
    if parameter.type is str:
        if value not in parameter.choices:
            raise ValueError(f"expected {' or '.join(map(in_yaml, parameter.choices))}, not {in_yaml(value)}")
        return value
    if parameter.type is bool:
        if not isinstance(value, bool):
            raise ValueError(f"expected true or false ({parameter.meaning}), not {in_yaml(value)}")
        return value
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise ValueError(f"expected a number ({parameter.meaning}), not {in_yaml(value)}")
    if parameter.type is int and value != int(value):
        raise ValueError(f"expected a whole number ({parameter.meaning}), not {in_yaml(value)}")
    too_low = value <= parameter.low if parameter.open_low else value < parameter.low
    if too_low or value > parameter.high:
        raise ValueError(f"must be {_bounds(parameter)}, not {in_yaml(value)}")
    return parameter.type(value)


def parsed(setting: str) -> tuple[str, Value]:
    """Name and value of ``name=value``, as ``--set`` of ``train`` takes it.

    Raises:
        BadInput: it is none, or its value does not fit.
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise BadInput(f"--set takes parameter=value, not '{setting}'")
    try:
        check_name(name)
        value = scalar(text)
        if not isinstance(value, bool | int | float | str):
            raise ValueError("expected a single value")
        return name, check_value(name, value)
    except ValueError as error:
        raise BadInput(f"--set {name}: {error}") from None


def _bounds(parameter: Parameter) -> str:
    low = f"{'above' if parameter.open_low else 'at least'} {parameter.low:g}"
    return low if math.isinf(parameter.high) else f"{low} and at most {parameter.high:g}"
