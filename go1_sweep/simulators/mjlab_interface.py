"""What the input and the output of an mjlab policy mean, read from the env's managers and its MuJoCo model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import mujoco
import torch
from mjlab.entity import Entity
from mjlab.envs import ManagerBasedRlEnv, mdp
from mjlab.envs.mdp.actions import JointPositionAction
from mjlab.managers.observation_manager import ObservationTermCfg

from go1_sweep.simulators.base import ConfigError
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm

AXES = ["x", "y", "z"]


def observation_terms(env: ManagerBasedRlEnv, group: str) -> list[ObservationTerm]:
    """The parts of an observation group, in order."""
    manager = env.observation_manager
    terms = []
    for name, shape in zip(manager.active_terms[group], manager.group_obs_term_dim[group], strict=True):
        cfg = manager.get_term_cfg(group, name)
        describe = DESCRIBED.get(cfg.func, _undescribed)
        terms.append(
            ObservationTerm(
                name=name,
                size=torch.Size(shape).numel(),
                clip=None if cfg.clip is None else list(cfg.clip),
                scale=1.0 if cfg.scale is None else torch.as_tensor(cfg.scale).tolist(),
                delay=[cfg.delay_min_lag, cfg.delay_max_lag],
                history=max(1, cfg.history_length),
                **describe(env, cfg),
            )
        )
    return terms


def _sensor(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    name = cfg.params["sensor_name"]
    kinds = cast(Any, mujoco).mjtSensor
    kind = kinds(env.sim.mj_model.sensor(name).type[0])
    known = {
        kinds.mjSENS_VELOCIMETER: ("linear velocity of the IMU, in its frame", "m/s"),
        kinds.mjSENS_GYRO: ("angular velocity of the IMU, in its frame", "rad/s"),
    }
    quantity, unit = known.get(kind, (f"MuJoCo's sensor {name}", ""))
    return {"quantity": quantity, "unit": unit, "parts": AXES}


def _gravity(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return {"quantity": "direction of gravity in the base frame, a unit vector", "unit": "", "parts": AXES}


def _joint_positions(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return _of_joints(env, cfg, "joint positions", "rad", lambda data: data.default_joint_pos)


def _joint_velocities(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return _of_joints(env, cfg, "joint velocities", "rad/s", lambda data: data.default_joint_vel)


def _last_action(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    names = [joint.name for joint in joint_actions(env)]
    return {"quantity": "the policy's last output as it was; 0 before the first", "unit": "", "parts": names}


def _command(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return {
        "quantity": "commanded velocity in the base frame",
        "unit": "m/s, m/s, rad/s",
        "parts": ["forward", "left", "turn left"],
    }


def _height_scan(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    sensor = env.scene[cfg.params["sensor_name"]]
    offsets, _ = sensor.cfg.pattern.generate_rays(env.sim.mj_model, "cpu")
    return {
        "quantity": "height of the base above the ground, at points x forward and y left of it [m]",
        "unit": "m",
        "parts": [f"x={x:+.2f} y={y:+.2f}" for x, y, _ in offsets.tolist()],
        "offset": [cfg.params.get("offset", 0.0)] * len(offsets),
    }


def _undescribed(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    function = getattr(cfg.func, "__name__", type(cfg.func).__name__)
    return {"quantity": f"what mjlab's {function} gives", "unit": "", "parts": []}


DESCRIBED: dict[Any, Callable[[ManagerBasedRlEnv, ObservationTermCfg], dict[str, Any]]] = {
    mdp.builtin_sensor: _sensor,
    mdp.projected_gravity: _gravity,
    mdp.joint_pos_rel: _joint_positions,
    mdp.joint_vel_rel: _joint_velocities,
    mdp.last_action: _last_action,
    mdp.generated_commands: _command,
    mdp.height_scan: _height_scan,
}


def _of_joints(
    env: ManagerBasedRlEnv, cfg: ObservationTermCfg, quantity: str, unit: str, default: Callable[[Any], torch.Tensor]
) -> dict[str, Any]:
    """A quantity of the joints that the term observes, relative to its default, shape (num_envs, num_joints)."""
    asset = cfg.params.get("asset_cfg")
    robot: Entity = env.scene[asset.name if asset else "robot"]
    given = asset.joint_ids if asset else slice(None)
    ids = list(range(robot.num_joints))[given] if isinstance(given, slice) else [int(i) for i in given]
    parts, offset = [robot.joint_names[i] for i in ids], default(robot.data)[0, ids].tolist()
    return {"quantity": quantity, "unit": unit, "parts": parts, "offset": offset}


def joint_actions(env: ManagerBasedRlEnv) -> list[JointAction]:
    """The numbers of the policy's output, in order.

    Raises:
        ConfigError: they are not all targets of joint positions.
    """
    joints = []
    model = env.sim.mj_model
    for term_name in env.action_manager.active_terms:
        term = env.action_manager.get_term(term_name)
        if not isinstance(term, JointPositionAction):
            raise ConfigError(f"the action '{term_name}' is no target of joint positions, and only those are exported")
        robot = env.scene[term.cfg.entity_name]
        actuators = {actuator.target.split("/")[-1]: actuator.id for actuator in robot.spec.actuators}
        scales, offsets = _first_row(term.scale, term), _first_row(term.offset, term)
        for i, joint in enumerate(term.target_names):
            actuator = actuators[joint]
            joints.append(
                JointAction(
                    name=joint,
                    scale=scales[i],
                    default_position=offsets[i],
                    stiffness=float(model.actuator_gainprm[actuator, 0]),
                    damping=float(-model.actuator_biasprm[actuator, 2]),
                    target_limits=None if term.cfg.clip is None else term._clip[0, i].tolist(),
                )
            )
    return joints


def _first_row(value: torch.Tensor | float, term: JointPositionAction) -> list[float]:
    """The value of the first env for each joint, from one for all or one per env and joint."""
    return torch.as_tensor(value).cpu().broadcast_to(term.num_envs, term.action_dim)[0].tolist()
