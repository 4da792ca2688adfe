"""What the input and the output of an mjlab policy mean, read from the env's managers and its MuJoCo model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import mujoco
from mjlab.envs import ManagerBasedRlEnv, mdp
from mjlab.envs.mdp.actions import JointPositionAction
from mjlab.managers.observation_manager import ObservationTermCfg

from go1_sweep.simulators import managers
from go1_sweep.simulators.base import ConfigError
from go1_sweep.simulators.managers import AXES, first_row
from go1_sweep.simulators.policy_interface import JointAction, ObservationTerm


def observation_terms(env: ManagerBasedRlEnv, group: str) -> list[ObservationTerm]:
    """The parts of an observation group, in order."""
    manager = env.observation_manager
    terms = []
    for name, shape in zip(manager.active_terms[group], manager.group_obs_term_dim[group], strict=True):
        cfg = manager.get_term_cfg(group, name)
        describe = DESCRIBED.get(cfg.func, _undescribed)
        delay = [cfg.delay_min_lag, cfg.delay_max_lag]
        terms.append(managers.observation_term(name, shape, cfg, delay=delay, **describe(env, cfg)))
    return terms


def _sensor(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    name = cfg.params["sensor_name"]
    kinds = cast(Any, mujoco).mjtSensor
    kind = kinds(env.sim.mj_model.sensor(name).type[0])
    known = {
        kinds.mjSENS_VELOCIMETER: ("imu_lin_vel", "linear velocity of the IMU, in its frame", "m/s"),
        kinds.mjSENS_GYRO: ("base_ang_vel", "angular velocity of the IMU, in its frame", "rad/s"),
    }
    if kind not in known:
        return {"quantity": f"MuJoCo's sensor {name}", "unit": "", "parts": AXES}
    return dict(zip(("name", "quantity", "unit"), known[kind], strict=True), parts=AXES)


def _gravity(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.GRAVITY_DIRECTION


def _joint_positions(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.of_joints(env, cfg, "joint_pos", "joint positions", "rad", lambda data: data.default_joint_pos)


def _joint_velocities(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.of_joints(env, cfg, "joint_vel", "joint velocities", "rad/s", lambda data: data.default_joint_vel)


def _last_action(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.last_action([joint.name for joint in joint_actions(env)])


def _command(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.COMMAND


def _height_scan(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    sensor = env.scene[cfg.params["sensor_name"]]
    points, _ = sensor.cfg.pattern.generate_rays(env.sim.mj_model, "cpu")
    return managers.height_scan(points, cfg.params.get("offset", 0.0))


def _undescribed(env: ManagerBasedRlEnv, cfg: ObservationTermCfg) -> dict[str, Any]:
    return managers.undescribed("mjlab", cfg.func)


DESCRIBED: dict[Any, Callable[[ManagerBasedRlEnv, ObservationTermCfg], dict[str, Any]]] = {
    mdp.builtin_sensor: _sensor,
    mdp.projected_gravity: _gravity,
    mdp.joint_pos_rel: _joint_positions,
    mdp.joint_vel_rel: _joint_velocities,
    mdp.last_action: _last_action,
    mdp.generated_commands: _command,
    mdp.height_scan: _height_scan,
}


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
        limits = robot.data.joint_pos_limits[0].tolist()
        scales, offsets = first_row(term.scale, term), first_row(term.offset, term)
        for i, joint in enumerate(term.target_names):
            actuator = actuators[joint]
            joints.append(
                JointAction(
                    name=joint,
                    scale=scales[i],
                    default_position=offsets[i],
                    stiffness=float(model.actuator_gainprm[actuator, 0]),
                    damping=float(-model.actuator_biasprm[actuator, 2]),
                    torque_limit=float(model.actuator_forcerange[actuator, 1]) or None,
                    position_limits=limits[robot.joint_names.index(joint)],
                    target_limits=None if term.cfg.clip is None else term._clip[0, i].tolist(),
                )
            )
    return joints
