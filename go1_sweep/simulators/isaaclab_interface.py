"""What the input and the output of an Isaac Lab policy mean, read from the env's managers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from go1_sweep.simulators import managers
from go1_sweep.simulators.base import ConfigError
from go1_sweep.simulators.isaaclab import tensor_of
from go1_sweep.simulators.managers import AXES, first_row
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm


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
        terms.append(managers.observation_term(name, shape, cfg, **describe(env, cfg)))
    return terms


def _always(description: dict[str, Any]) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda env, cfg: description


def _velocity(name: str, quantity: str, unit: str) -> Callable[[Any, Any], dict[str, Any]]:
    return _always({"name": name, "quantity": quantity, "unit": unit, "parts": AXES})


def _joint_positions(env: Any, cfg: Any) -> dict[str, Any]:
    return managers.of_joints(
        env, cfg, "joint_pos", "joint positions", "rad", lambda data: tensor_of(data.default_joint_pos)
    )


def _joint_velocities(env: Any, cfg: Any) -> dict[str, Any]:
    return managers.of_joints(
        env, cfg, "joint_vel", "joint velocities", "rad/s", lambda data: tensor_of(data.default_joint_vel)
    )


def _last_action(env: Any, cfg: Any) -> dict[str, Any]:
    return managers.last_action([joint.name for joint in joint_actions(env)])


def _height_scan(env: Any, cfg: Any) -> dict[str, Any]:
    pattern = env.scene.sensors[cfg.params["sensor_cfg"].name].cfg.pattern_cfg
    points, _ = pattern.func(pattern, "cpu")
    return managers.height_scan(points, cfg.params.get("offset", 0.5))


def _undescribed(env: Any, cfg: Any) -> dict[str, Any]:
    return managers.undescribed("Isaac Lab", cfg.func)


DESCRIBED: dict[str, Callable[[Any, Any], dict[str, Any]]] = {
    "base_lin_vel": _velocity("base_lin_vel", "linear velocity of the base, in its frame", "m/s"),
    "base_ang_vel": _velocity("base_ang_vel", "angular velocity of the base, in its frame", "rad/s"),
    "projected_gravity": _always(managers.GRAVITY_DIRECTION),
    "joint_pos_rel": _joint_positions,
    "joint_vel_rel": _joint_velocities,
    "last_action": _last_action,
    "generated_commands": _always(managers.COMMAND),
    "height_scan": _height_scan,
}
"""By the name of the function in ``isaaclab.envs.mdp``."""


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
        motors, limits = _motors(robot), tensor_of(robot.data.joint_pos_limits)[0].tolist()
        scales, offsets = first_row(term._scale, term), first_row(term._offset, term)
        for i, joint in enumerate(term._joint_names):
            stiffness, damping, torque_limit = motors[joint]
            joints.append(
                JointAction(
                    name=joint,
                    scale=scales[i],
                    default_position=offsets[i],
                    stiffness=stiffness,
                    damping=damping,
                    torque_limit=torque_limit,
                    position_limits=limits[robot.joint_names.index(joint)],
                    target_limits=None if term.cfg.clip is None else term._clip[0, i].tolist(),
                )
            )
    return joints


def _motors(robot: Any) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Stiffness, damping and torque limit of each joint; of a motor that is a network, the last alone."""
    motors = {}
    for actuator in robot.actuators.values():
        stiffness, damping, torque = (
            tensor_of(each)[0].tolist() for each in (actuator.stiffness, actuator.damping, actuator.effort_limit)
        )
        if hasattr(actuator.cfg, "network_file"):
            stiffness = damping = [None] * len(torque)
        motors |= dict(zip(actuator.joint_names, zip(stiffness, damping, torque, strict=True), strict=True))
    return motors
