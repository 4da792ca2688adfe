"""What the input and the output of an Isaac Lab policy mean, read from the env's managers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from go1_sweep.simulators.base import ConfigError
from go1_sweep.simulators.isaaclab import tensor_of
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm

AXES = ["x", "y", "z"]


def observation_terms(env: Any, group: str) -> list[ObservationTerm]:
    """The parts of an observation group, in order."""
    manager = env.observation_manager
    mdp = importlib.import_module("isaaclab.envs.mdp")
    described = {getattr(mdp, name): describe for name, describe in DESCRIBED.items()}
    terms = []
    parts = zip(
        manager.active_terms[group],
        manager.group_obs_term_dim[group],
        manager._group_obs_term_cfgs[group],
        strict=True,
    )
    for name, shape, cfg in parts:
        describe = described.get(cfg.func, _undescribed)
        terms.append(
            ObservationTerm(
                name=name,
                size=torch.Size(shape).numel(),
                clip=None if cfg.clip is None else list(cfg.clip),
                scale=1.0 if cfg.scale is None else torch.as_tensor(cfg.scale).tolist(),
                history=max(1, cfg.history_length),
                **describe(env, cfg),
            )
        )
    return terms


def _vector(quantity: str, unit: str) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda env, cfg: {"quantity": quantity, "unit": unit, "parts": AXES}


def _joint_positions(env: Any, cfg: Any) -> dict[str, Any]:
    return _of_joints(env, cfg, "joint positions", "rad", lambda data: data.default_joint_pos)


def _joint_velocities(env: Any, cfg: Any) -> dict[str, Any]:
    return _of_joints(env, cfg, "joint velocities", "rad/s", lambda data: data.default_joint_vel)


def _last_action(env: Any, cfg: Any) -> dict[str, Any]:
    names = [joint.name for joint in joint_actions(env)]
    return {"quantity": "the policy's last output as it was; 0 before the first", "unit": "", "parts": names}


def _command(env: Any, cfg: Any) -> dict[str, Any]:
    return {
        "quantity": "commanded velocity in the base frame",
        "unit": "m/s, m/s, rad/s",
        "parts": ["forward", "left", "turn left"],
    }


def _height_scan(env: Any, cfg: Any) -> dict[str, Any]:
    pattern = env.scene.sensors[cfg.params["sensor_cfg"].name].cfg.pattern_cfg
    starts, _ = pattern.func(pattern, "cpu")
    return {
        "quantity": "height of the scanner above the ground, at points x forward and y left of the base [m]",
        "unit": "m",
        "parts": [f"x={x:+.2f} y={y:+.2f}" for x, y, _ in starts.tolist()],
        "offset": [cfg.params.get("offset", 0.5)] * len(starts),
    }


def _undescribed(env: Any, cfg: Any) -> dict[str, Any]:
    function = getattr(cfg.func, "__name__", type(cfg.func).__name__)
    return {"quantity": f"what Isaac Lab's {function} gives", "unit": "", "parts": []}


DESCRIBED: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "base_lin_vel": _vector("linear velocity of the base, in its frame", "m/s"),
    "base_ang_vel": _vector("angular velocity of the base, in its frame", "rad/s"),
    "projected_gravity": _vector("direction of gravity in the base frame, a unit vector", ""),
    "joint_pos_rel": _joint_positions,
    "joint_vel_rel": _joint_velocities,
    "last_action": _last_action,
    "generated_commands": _command,
    "height_scan": _height_scan,
}
"""By the name of the function in ``isaaclab.envs.mdp``."""


def _of_joints(env: Any, cfg: Any, quantity: str, unit: str, default: Callable[[Any], Any]) -> dict[str, Any]:
    """A quantity of the joints that the term observes, relative to its default, shape (num_envs, num_joints)."""
    asset = cfg.params.get("asset_cfg")
    robot = env.scene[asset.name if asset else "robot"]
    given = asset.joint_ids if asset else slice(None)
    ids = list(range(robot.num_joints))[given] if isinstance(given, slice) else [int(i) for i in given]
    parts, offset = [robot.joint_names[i] for i in ids], tensor_of(default(robot.data))[0, ids].tolist()
    return {"quantity": quantity, "unit": unit, "parts": parts, "offset": offset}


def joint_actions(env: Any) -> list[JointAction]:
    """The numbers of the policy's output, in order.

    Raises:
        ConfigError: they are not all targets of joint positions.
    """
    positions = importlib.import_module("isaaclab.envs.mdp").JointPositionAction
    joints = []
    for term_name in env.action_manager.active_terms:
        term = env.action_manager.get_term(term_name)
        if not isinstance(term, positions):
            raise ConfigError(f"the action '{term_name}' is no target of joint positions, and only those are exported")
        robot = env.scene[term.cfg.asset_name]
        gains = _gains(robot)
        scales, offsets = _first_row(term._scale, term), _first_row(term._offset, term)
        for i, joint in enumerate(term._joint_names):
            stiffness, damping = gains.get(joint, (None, None))
            joints.append(
                JointAction(
                    name=joint,
                    scale=scales[i],
                    default_position=offsets[i],
                    stiffness=stiffness,
                    damping=damping,
                    target_limits=None if term.cfg.clip is None else term._clip[0, i].tolist(),
                )
            )
    return joints


def _gains(robot: Any) -> dict[str, tuple[float, float]]:
    """Stiffness and damping of each joint whose actuator is a position controller, and no network."""
    gains = {}
    for actuator in robot.actuators.values():
        if hasattr(actuator.cfg, "network_file"):
            continue
        rows = (tensor_of(actuator.stiffness)[0].tolist(), tensor_of(actuator.damping)[0].tolist())
        gains |= dict(zip(actuator.joint_names, zip(*rows, strict=True), strict=True))
    return gains


def _first_row(value: torch.Tensor | float, term: Any) -> list[float]:
    """The value of the first env for each joint, from one for all or one per env and joint."""
    return torch.as_tensor(value).cpu().broadcast_to(term.num_envs, term.action_dim)[0].tolist()
