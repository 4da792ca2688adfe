"""A Go1 in plain MuJoCo, which is told and asked what a real one is: targets of its joints, and measurements."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from go1_sweep.deploy.policy import BundleError, Policy

mujoco: Any = importlib.import_module("mujoco")  # whose names no type checker knows
mujoco.set_mju_user_warning(lambda _: None)  # it would write a file where it runs; ``has_fallen`` says it

MODEL = "asset_zoo/robots/unitree_go1/xmls/go1.xml"
"""MuJoCo Menagerie's model of the robot, as the package mjlab brings it."""

PHYSICS_SECONDS = 0.002
"""A step of MuJoCo is at most that long [s]: finer than in training."""

ROTOR_INERTIA = 0.000111842
GEARS = {"hip": 6.0, "thigh": 6.0, "calf": 9.0}
"""What turns with a joint behind its gear [kg m^2], and the ratio: unitree_ros, go1.urdf."""

STIFFNESS, DAMPING = 20.0, 0.5
"""Of the controllers [N m/rad, N m s/rad] where training had a network for the motors: those of the robot that the
network was made of (Margolis and Agrawal, "Walk These Ways", 2022)."""

FALLEN = np.cos(np.deg2rad(70.0))
"""Less of gravity than that along its own axis, and a robot has fallen, as in mjlab's tasks."""

GROUND_GROUP, RAY_HEIGHT = 0, 20.0


class Go1:
    """The robot of a policy, on flat ground.

    Attributes:
        model: MuJoCo's.
        data: its state.
    """

    def __init__(self, policy: Policy) -> None:
        """Build it, with the controllers that the policy was trained with.

        Raises:
            BundleError: the policy observes what this robot cannot be asked for, or its joints are not a Go1's.
            ModuleNotFoundError: mjlab, which brings the model, is not installed.
        """
        self._policy = policy
        self._terms = {term["name"]: term for term in policy.description["observations"]}
        if unknown := [name for name in policy.inputs if name not in self._measurements()]:
            raise BundleError(f"nobody can measure {', '.join(unknown)} of a Go1 in MuJoCo")
        self.model = _model(policy)
        self.data: Any = mujoco.MjData(self.model)
        self._qpos = self._places(policy.joints, "qposadr")
        self._measured_qpos, self._measured_qvel = (
            self._places(self._terms[name]["parts"] if name in self._terms else [], address)
            for name, address in (("joint_pos", "qposadr"), ("joint_vel", "dofadr"))
        )
        self._substeps = math.ceil(round(policy.step_seconds / PHYSICS_SECONDS, 6))
        self.model.opt.timestep = policy.step_seconds / self._substeps
        self._points = _points(self._terms["height_scan"]["parts"]) if "height_scan" in policy.inputs else None
        self.reset()

    def reset(self) -> None:
        """Stand still at the joints' default positions."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._qpos] = self.data.ctrl[:] = self._policy.default_positions
        mujoco.mj_forward(self.model, self.data)
        feet = [self.data.geom(f"{leg}_foot_collision").xpos[2] for leg in ("FR", "FL", "RR", "RL")]
        self.data.qpos[2] -= min(feet) - self.model.geom("FR_foot_collision").size[0]
        mujoco.mj_forward(self.model, self.data)

    def act(self, targets: np.ndarray) -> None:
        """Let one control period pass, with these targets of the policy's joints [rad]."""
        self.data.ctrl[:] = targets
        mujoco.mj_step(self.model, self.data, self._substeps)

    def push(self, velocity: np.ndarray) -> None:
        """Change the velocity of its base at once, (3,) in the world's frame [m/s]."""
        self.data.qvel[:3] += velocity

    def observe(self, command: Any) -> dict[str, np.ndarray]:
        """What the policy is to be told, where that is its command."""
        measured = self._measurements()
        return {name: command if name == "command" else measured[name]() for name in self._policy.inputs}

    @property
    def velocity(self) -> np.ndarray:
        """Forward and left [m/s], and how fast it turns left [rad/s], (3,), in the frame of its base."""
        return np.array([*self._base_lin_vel()[:2], self.data.qvel[5]])

    @property
    def power(self) -> float:
        """What the motors put in over the robot's weight [W/N]."""
        motors = self.data.actuator_force * self.data.actuator_velocity
        return float(np.clip(motors, 0.0, None).sum() / (self.model.body("trunk").subtreemass[0] * 9.81))

    @property
    def has_fallen(self) -> bool:
        """Whether it lies, or was moved faster than MuJoCo can follow."""
        return bool(-self._gravity()[2] < FALLEN) or any(warning.number for warning in self.data.warning)

    def _measurements(self) -> dict[str, Any]:
        return {
            "base_lin_vel": self._base_lin_vel,
            "imu_lin_vel": lambda: self.data.sensor("imu_lin_vel").data,
            "base_ang_vel": lambda: self.data.sensor("imu_ang_vel").data,
            "projected_gravity": self._gravity,
            "joint_pos": lambda: self.data.qpos[self._measured_qpos],
            "joint_vel": lambda: self.data.qvel[self._measured_qvel],
            "command": None,
            "height_scan": self._height_scan,
        }

    def _rotation(self) -> np.ndarray:
        return self.data.body("trunk").xmat.reshape(3, 3)

    def _base_lin_vel(self) -> np.ndarray:
        return self._rotation().T @ self.data.qvel[:3]

    def _gravity(self) -> np.ndarray:
        return -self._rotation()[2]

    def _places(self, joints: list[str], address: str) -> np.ndarray:
        """Where in MuJoCo's state those joints are."""
        return np.array([getattr(self.model.joint(joint), address)[0] for joint in joints], dtype=int)

    def _height_scan(self) -> np.ndarray:
        assert self._points is not None
        forward = self._rotation()[:2, 0]
        forward = forward / np.linalg.norm(forward)
        turn = np.array([forward, [-forward[1], forward[0]]])  # heights are looked up beside it, however it leans
        base = self.data.body("trunk").xpos
        groups, geom = np.eye(mujoco.mjNGROUP, dtype=np.uint8)[GROUND_GROUP], np.zeros(1, dtype=np.int32)
        heights = []
        for x, y in base[:2] + self._points @ turn:
            start, down = np.array([x, y, base[2] + RAY_HEIGHT]), np.array([0.0, 0.0, -1.0])
            distance = mujoco.mj_ray(self.model, self.data, start, down, groups, 1, -1, geom)
            heights.append(distance - RAY_HEIGHT)
        return np.array(heights)


def model_file() -> Path:
    """The robot's model.

    Raises:
        ModuleNotFoundError: mjlab is not installed.
    """
    found = importlib.util.find_spec("mjlab")  # not imported: that takes seconds, and torch
    if found is None or found.origin is None:
        raise ModuleNotFoundError("mjlab, which brings the model of the Go1, is not installed", name="mjlab")
    return Path(found.origin).parent / MODEL


def _model(policy: Policy) -> Any:
    spec = mujoco.MjSpec.from_file(str(model_file()))
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST  # stiff joints of little inertia
    _add_ground(spec)
    for i, name in enumerate(policy.joints):
        joint = spec.joint(name)
        if joint is None:
            raise BundleError(f"a Go1 has no joint {name}")
        joint.armature = ROTOR_INERTIA * GEARS[name.split("_")[1]] ** 2
        has_gains = np.isfinite(policy.stiffness[i])
        stiffness, damping = (policy.stiffness[i], policy.damping[i]) if has_gains else (STIFFNESS, DAMPING)
        motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.set_to_position(kp=stiffness, kv=damping)
        if np.isfinite(limit := policy.torque_limits[i]):
            motor.forcerange = [-limit, limit]
    return spec.compile()


def _add_ground(spec: Any) -> None:
    """A plane, with tiles of half a meter by which one sees that it moves."""
    light, dark = [0.62, 0.66, 0.7], [0.5, 0.54, 0.58]
    checker = {"type": mujoco.mjtTexture.mjTEXTURE_2D, "builtin": mujoco.mjtBuiltin.mjBUILTIN_CHECKER}
    spec.add_texture(name="ground", **checker, rgb1=light, rgb2=dark, width=256, height=256)
    material = spec.add_material(name="ground", texuniform=True, texrepeat=[1, 1])
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    plane = {"type": mujoco.mjtGeom.mjGEOM_PLANE, "size": [0, 0, 0.05], "group": GROUND_GROUP}
    spec.worldbody.add_geom(name="ground", material="ground", **plane)


def _points(parts: list[str]) -> np.ndarray:
    """Where a scan looks for the ground, (number, 2), forward and left of the base [m]."""
    return np.array([re.fullmatch(r"x=(\S+) y=(\S+)", part).groups() for part in parts], dtype=float)  # pyright: ignore
