"""The world in place of PhysX: Go1s whose motors move their joints, and whose joints move their bodies, smoothly.

Isaac Lab's own classes (env, scene, articulation, actuators, sensors, managers) work on it as they do on PhysX's
views. Only what reads USD is replaced: see ``enter``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import isaaclab.sim as sim_utils
import torch
from isaaclab.markers import VisualizationMarkers
from isaaclab.scene import InteractiveScene
from isaaclab.sensors import RayCaster
from isaaclab.terrains import TerrainImporter
from isaaclab.utils.math import convert_quat, euler_xyz_from_quat, quat_apply, quat_from_euler_xyz, wrap_to_pi
from omni.physics.tensors.impl.api import ArticulationView

from isaacsim import kit

LEGS = ("FL", "FR", "RL", "RR")
JOINTS = [f"{leg}_{part}_joint" for part in ("hip", "thigh", "calf") for leg in LEGS]
BODIES = ["trunk", *(f"{leg}_{part}" for part in ("hip", "thigh", "calf", "foot") for leg in LEGS)]
FEET = slice(13, 17)
JOINT_LIMITS = [[-0.863, 0.863]] * 4 + [[-0.686, 4.501]] * 4 + [[-2.818, -0.888]] * 4
STANDING = [0.1, -0.1, 0.1, -0.1, 0.8, 0.8, 1.0, 1.0, -1.5, -1.5, -1.5, -1.5]
INERTIA = 0.06  # of a joint [kg m2]
HEIGHT = 0.3  # of the standing trunk [m]
FALLEN = 0.6  # tilt from which the trunk touches the ground [rad]


def ground(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The height of the rough terrain [m]."""
    return 0.05 * torch.sin(1.7 * x) * torch.cos(2.3 * y)


class Robots(ArticulationView):
    """All robots as one articulation view of PhysX: ``get_<quantity>()`` and ``set_<quantity>(values, indices)``."""

    max_fixed_tendons = max_spatial_tendons = 0
    _backend = "torch"
    shared_metatype = SimpleNamespace(
        fixed_base=False, dof_count=len(JOINTS), link_count=len(BODIES), dof_names=JOINTS, link_names=BODIES
    )

    def __init__(self, count: int, device: str) -> None:
        self.count = count
        self.max_shapes = len(BODIES)
        self.link_paths = [[f"/World/envs/env_{index}/Robot/{body}" for body in BODIES] for index in range(count)]
        zeros = functools.partial(torch.zeros, device=device)
        joints, bodies = (count, len(JOINTS)), (count, len(BODIES))
        self.state = {
            "root_transforms": zeros(count, 7),
            "root_velocities": zeros(count, 6),
            "link_transforms": zeros(*bodies, 7),
            "link_velocities": zeros(*bodies, 6),
            "link_accelerations": zeros(*bodies, 6),
            "dof_positions": torch.tensor([STANDING] * count, device=device),
            "dof_velocities": zeros(joints),
            "dof_actuation_forces": zeros(joints),
            "dof_position_targets": zeros(joints),
            "dof_velocity_targets": zeros(joints),
            "dof_limits": torch.tensor([JOINT_LIMITS] * count),
            "dof_friction_properties": torch.zeros(*joints, 3),
            **{f"dof_{name}": torch.zeros(joints) for name in ("stiffnesses", "dampings", "armatures")},
            **{f"dof_{name}": torch.full(joints, 100.0) for name in ("max_velocities", "max_forces")},
            "masses": torch.ones(bodies),
            "inertias": torch.full((*bodies, 9), 0.01),
            "coms": torch.zeros(*bodies, 7),
            "material_properties": torch.zeros(*bodies, 3),
        }
        for name in ("root_transforms", "link_transforms", "coms"):
            self.state[name][..., 6] = 1.0  # quaternions are xyzw here

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb, _, quantity = name.partition("_")
        if verb not in ("get", "set") or quantity not in self.state:
            raise AttributeError(name)
        return functools.partial(getattr(self, f"_{verb}"), quantity)

    def apply_forces_and_torques_at_position(self, **_: object) -> None: ...

    def _get(self, quantity: str) -> torch.Tensor:
        return self.state[quantity].clone()

    def _set(self, quantity: str, values: torch.Tensor, indices: torch.Tensor) -> None:
        mine = self.state[quantity]
        indices = indices.to(mine.device, torch.long)
        mine[indices] = values.to(mine.device)[indices]


class World:
    """PhysX's simulation view, and the laws of this world.

    Attributes:
        robots: the only thing that moves.
        forces: of contact on each body [N], (num_envs, 17, 3).
    """

    def __init__(self, count: int, device: str, rough: bool) -> None:
        self._backend = self
        self._rough = rough
        self.robots = Robots(count, device)
        self.forces = torch.zeros(count, len(BODIES), 3, device=device)
        self._standing = torch.tensor(STANDING, device=device)
        # How the joints' angles and speeds move the trunk: forward, sideways, up; roll, pitch, yaw.
        columns = torch.arange(6 * len(JOINTS), device=device).view(len(JOINTS), 6)
        self._motion = torch.cos(3.0 * columns) * torch.tensor([1.0, 0.6, 0.1, 1.0, 1.0, 1.2], device=device)

    def step(self, dt: float) -> None:
        """The state after ``dt`` seconds under the motors' torques."""
        state = self.robots.state
        state["dof_velocities"] += dt / INERTIA * state["dof_actuation_forces"]
        low, high = state["dof_limits"].to(self.forces.device).unbind(-1)
        state["dof_positions"] = (state["dof_positions"] + dt * state["dof_velocities"]).clamp(low, high)
        bent = state["dof_positions"] - self._standing
        motion = bent @ self._motion
        position, orientation = state["root_transforms"].split([3, 4], dim=-1)
        angles = torch.stack(euler_xyz_from_quat(convert_quat(orientation, to="wxyz")), dim=-1)
        tilt = wrap_to_pi(angles[:, :2])
        spin = torch.cat([8.0 * (motion[:, 3:5].tanh() - tilt), 1.5 * motion[:, 5:].tanh()], dim=-1)
        quaternion = quat_from_euler_xyz(*(angles + dt * spin).unbind(-1))
        height = HEIGHT + (ground(position[:, 0], position[:, 1]) if self._rough else 0.0)
        wanted = torch.cat([motion[:, :2].tanh(), motion[:, 2:3]], dim=-1)
        wanted[:, 2] += 5.0 * (height - position[:, 2])
        velocity = state["root_velocities"][:, :3]
        velocity = velocity + 10.0 * dt * (quat_apply(quaternion, wanted) - velocity)
        state["root_velocities"] = torch.cat([velocity, spin], dim=-1)
        state["root_transforms"] = torch.cat([position + dt * velocity, convert_quat(quaternion, to="xyzw")], dim=-1)
        state["link_transforms"][:] = state["root_transforms"].unsqueeze(1)
        state["link_velocities"][:] = state["root_velocities"].unsqueeze(1)
        self.forces[:, FEET, 2] = 30.0 * (bent[:, 8:] < 0.05)
        self.forces[:, 0, 2] = 50.0 * (tilt.norm(dim=-1) > FALLEN)

    def get_gravity(self) -> tuple[float, float, float]:
        return (0.0, 0.0, -9.81)

    def update_articulations_kinematic(self) -> None: ...

    def initialize_kinematic_bodies(self) -> None: ...

    def create_articulation_view(self, _: str) -> Robots:
        return self.robots

    def create_rigid_body_view(self, path: str) -> Any:
        paths = [each for robot in self.robots.link_paths for each in robot]
        return SimpleNamespace(count=len(paths), prim_paths=paths, max_shapes=1)

    def create_rigid_contact_view(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(filter_count=0, get_net_contact_forces=lambda dt: self.forces.view(-1, 3))


class Terrain(TerrainImporter):
    """Isaac Lab's terrain without its mesh; the levels and origins are real."""

    def import_ground_plane(self, name: str, size: tuple[float, float] = (0.0, 0.0)) -> None: ...

    def import_mesh(self, name: str, mesh: Any) -> None: ...


class _NoMesh:
    """A terrain generator that says only where the sub-terrains are."""

    terrain_mesh = None
    flat_patches: dict[str, torch.Tensor] = {}

    def __init__(self, cfg: Any, device: str) -> None:
        x = (torch.arange(cfg.num_rows) - (cfg.num_rows - 1) / 2) * cfg.size[0]
        y = (torch.arange(cfg.num_cols) - (cfg.num_cols - 1) / 2) * cfg.size[1]
        self.terrain_origins = torch.stack([*torch.meshgrid(x, y, indexing="ij"), torch.zeros(len(x), len(y))], dim=-1)


class HeightScanner(RayCaster):
    """Isaac Lab's ray caster, whose rays fall straight down on the ground of this world."""

    def _initialize_warp_meshes(self) -> None: ...

    def _obtain_trackable_prim_view(self, target_prim_path: str) -> Any:
        self._physics_sim_view = kit.WORLD
        nowhere = torch.zeros(self._num_envs, 3, device=self._device)
        unturned = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * self._num_envs, device=self._device)
        return kit.WORLD.robots, (nowhere, unturned)

    def _update_buffers_impl(self, env_ids: Any) -> None:
        self._update_ray_infos(env_ids)
        starts = self._ray_starts_w[env_ids]
        self._data.ray_hits_w[env_ids] = torch.stack(
            [starts[..., 0], starts[..., 1], ground(starts[..., 0], starts[..., 1])], dim=-1
        )


def _prims(path: str) -> list[Any]:
    """What USD would find for the two kinds of patterns that assets and sensors look for."""

    def prim(path: str) -> Any:
        return SimpleNamespace(GetPath=lambda: SimpleNamespace(pathString=path), HasAPI=lambda _: True)

    if path.endswith("/Robot/.*"):
        return [prim(each) for each in kit.WORLD.robots.link_paths[0]]
    return [prim(each[0].rpartition("/")[0]) for each in kit.WORLD.robots.link_paths]


def enter() -> None:
    """Put this world in the place of USD and PhysX."""
    make_scene = InteractiveScene.__init__

    def make_scene_in_world(self: InteractiveScene, cfg: Any) -> None:
        stage = sim_utils.get_current_stage()
        if stage.occupied:
            raise ValueError("A prim already exists at path: '/World/ground/terrain'.")
        stage.occupied = True
        sim = sim_utils.SimulationContext.instance()
        kit.WORLD = World(cfg.num_envs, sim.device, cfg.terrain.terrain_type == "generator")
        make_scene(self, _without_usd(cfg))

    InteractiveScene.__init__ = make_scene_in_world
    VisualizationMarkers.__init__ = lambda self, cfg: None  # type: ignore[method-assign]
    VisualizationMarkers.set_visibility = VisualizationMarkers.visualize = lambda *_, **__: None
    sim_utils.find_matching_prims = _prims
    sim_utils.find_first_matching_prim = lambda path: _prims(path)[0]
    sim_utils.find_matching_prim_paths = lambda path: [path]


def _without_usd(cfg: Any) -> Any:
    """A copy of a scene's configuration that needs no assets."""
    cfg = cfg.copy()
    cfg.robot.spawn = None
    cfg.robot.articulation_root_prim_path = ""
    cfg.terrain.class_type = Terrain
    if cfg.terrain.terrain_generator is not None:
        cfg.terrain.terrain_generator.class_type = _NoMesh
    if cfg.height_scanner is not None:
        cfg.height_scanner.class_type = HeightScanner
    cfg.sky_light = None
    return cfg
