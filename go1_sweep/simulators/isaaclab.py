"""Isaac Lab: 2.3 (PhysX in Isaac Sim 5) and 3.0 (PhysX in Isaac Sim 6, or Newton without it).

``isaaclab_app`` has launched Isaac Sim ("Kit"), where there is one; Isaac Lab is imported after it, in functions.
"""

from __future__ import annotations

import importlib
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner

from go1_sweep.simulators import isaaclab_app, isaaclab_release
from go1_sweep.simulators.base import ConfigError, Purpose, RobotState, Simulator, TaskConfig
from go1_sweep.simulators.managers import (
    command_limits,
    levels_on_same_terrain,
    place_on_terrain,
    specific_power,
    velocity_command,
)
from go1_sweep.simulators.policy_interface import NOT_MEASURED_TERMS, PolicyInterface

CAMERA = (1.8, 1.8, 1.0)
"""Where the camera stands, seen from the robot [m]."""

BLACK_PICTURES = 50
"""Isaac Sim's renderer gives black ones until it is warm, and for ever where the GPU cannot trace rays."""


class IsaacLab(Simulator):
    """The tasks that Isaac Lab registers with Gymnasium, as far as they have a configuration for rsl_rl."""

    name = "isaaclab"

    @property
    def max_trials(self) -> int | None:
        """Kit does not give back all that a stage took."""
        return None if self._launched.kit is None else 20

    @property
    def _launched(self) -> isaaclab_app.Launched:
        assert isaaclab_app.launched is not None
        return isaaclab_app.launched

    @cached_property
    def _is_3(self) -> bool:
        """Asked in every step of an exam, and on 2.3 each answer is a search of the whole path."""
        return isaaclab_release.is_3()

    def kernel_cache(self) -> Path | None:
        """Warp's, where Newton runs on it."""
        if self._launched.physics != "newton":
            return None
        from go1_sweep.simulators.warp_kernels import warp_cache

        return warp_cache()

    def versions(self) -> dict[str, str]:
        """The packages that a result depends on, as far as they are installed."""
        packages = ("isaacsim", "newton", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch", "numpy")
        found = {"isaaclab": isaaclab_release.release(), "physics": self._launched.physics}
        for package in packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        return found

    def tasks(self) -> list[str]:
        """The ids of Gymnasium's registry; a play variant is none of its own."""
        return sorted(name for name in _registered() if not _is_play(name))

    def load_config(self, task_id: str, purpose: Purpose = "train") -> TaskConfig:
        """Fresh configuration objects; a task without a play variant is played as it is."""
        head, _, release = task_id.rpartition("-")
        variant = f"{head}-Play-{release}"
        name = variant if purpose == "play" and variant in _registered() else task_id
        env, agent = self._config(name, "env_cfg_entry_point"), self._config(name, "rsl_rl_cfg_entry_point")
        if purpose == "play":
            env.episode_length_s = self._config(task_id, "env_cfg_entry_point").episode_length_s
        if purpose != "train":
            env.is_finite_horizon = False  # the wrapper tells of time-outs only so
        if purpose == "exam":
            for term in vars(env.curriculum):
                setattr(env.curriculum, term, None)
        if agent.class_name != "OnPolicyRunner":
            raise ConfigError(f"{task_id} is trained by rsl_rl's {agent.class_name}, and only PPO is supported")
        agent.logger = "tensorboard"
        return TaskConfig(task_id, env, agent, purpose)

    def make_blind(self, config: TaskConfig) -> bool:
        """The critic sees what the policy does, where both have one group."""
        groups = [getattr(config.env.observations, group) for group in _actor_groups(config.agent)]
        found = [
            (each, name) for each in groups for name in NOT_MEASURED_TERMS if getattr(each, name, None) is not None
        ]
        for group, name in found:
            setattr(group, name, None)  # as Isaac Lab's own flat task does it
        return bool(found)

    def make_env(
        self, config: TaskConfig, seed: int, device: str, *, frame_size: tuple[int, int] | None = None
    ) -> VecEnv:
        """A ``ManagerBasedRLEnv``; its constructor seeds Python, NumPy, torch and Warp."""
        import gymnasium
        from isaaclab_rl.rsl_rl import RslRlVecEnvWrapper  # pyright: ignore[reportMissingImports]

        env_cfg, agent_cfg = config.env, config.agent
        config.set_seed(seed)
        env_cfg.sim.device = agent_cfg.device = device
        if frame_size:
            if self._launched.physics == "newton" and not torch.cuda.is_available():
                raise ConfigError("Newton's viewer draws only where there is an NVIDIA GPU: it wants pinned memory")
            _follow_with_camera(env_cfg, frame_size)
        if self._launched.kit is not None:
            _new_stage()
        env = gymnasium.make(config.task_id, cfg=env_cfg, render_mode="rgb_array" if frame_size else None)
        return RslRlVecEnvWrapper(env, clip_actions=agent_cfg.clip_actions)

    def make_runner(self, env: VecEnv, config: TaskConfig, log_dir: Path | None) -> OnPolicyRunner:
        """rsl_rl's own runner."""
        return OnPolicyRunner(env, config.agent.to_dict(), str(log_dir) if log_dir else None, config.agent.device)

    def step_seconds(self, env: VecEnv) -> float:
        """The physics step times the decimation."""
        return _unwrapped(env).step_dt

    def robot_state(self, env: VecEnv) -> RobotState:
        """Velocities of the robot's root, and what its actuators do."""
        term = velocity_command(_unwrapped(env))
        data = term.robot.data
        masses = tensor_of(data.body_mass if self._is_3 else data.default_mass)
        return RobotState(
            lin_vel=tensor_of(data.root_lin_vel_b).clone(),
            ang_vel=tensor_of(data.root_ang_vel_b).clone(),
            command=term.vel_command_b.clone(),
            power=specific_power(
                tensor_of(data.applied_torque), tensor_of(data.joint_vel), masses[0].sum().to(term.device)
            ),
        )

    def set_command(self, env: VecEnv, command: torch.Tensor) -> None:
        """Overrule the velocity command's own timer and its modes (heading, standing)."""
        term = velocity_command(_unwrapped(env))
        term.is_heading_env[:] = term.is_standing_env[:] = False
        term.time_left[:] = float("inf")
        term.vel_command_b[:] = command.to(term.vel_command_b)

    def set_terrain(self, env: VecEnv, difficulty: torch.Tensor) -> None:
        """Levels are rows of the generated terrain, and kinds its columns."""
        place_on_terrain(_terrain(_unwrapped(env)), difficulty)

    def render(self, env: VecEnv) -> np.ndarray:
        """Isaac Sim's viewport, or the picture of Newton's viewer."""
        unwrapped = _unwrapped(env)
        self._aim(unwrapped)
        for _ in range(BLACK_PICTURES):
            frame = unwrapped.render()
            if frame is not None and frame.any():
                return frame
        raise RuntimeError(f"{BLACK_PICTURES} pictures in a row were black: Isaac Lab cannot draw on this machine")

    def _aim(self, unwrapped: Any) -> None:
        """Look at the first robot; in 2.3 Isaac Sim's camera follows it by itself."""
        if not self._is_3:
            return
        at = tensor_of(velocity_command(unwrapped).robot.data.root_pos_w)[0].tolist()
        eye = tuple(position + offset for position, offset in zip(at, CAMERA, strict=True))
        if self._launched.kit is None:
            unwrapped.video_recorder._capture.update_camera(eye, tuple(at))
        else:
            kit = importlib.import_module("isaaclab_physx.renderers.kit_viewport_utils")
            kit.set_kit_renderer_camera_view(eye, at, unwrapped.cfg.viewer.cam_prim_path)

    def interface(self, env: VecEnv, config: TaskConfig) -> PolicyInterface:
        """Read from the env's managers."""
        from go1_sweep.simulators.isaaclab_interface import joint_actions, observation_terms

        unwrapped = _unwrapped(env)
        return PolicyInterface(
            observations=[
                term for group in _actor_groups(config.agent) for term in observation_terms(unwrapped, group)
            ],
            actions=joint_actions(unwrapped),
            action_clip=config.agent.clip_actions,
            joints=list(velocity_command(unwrapped).robot.joint_names),
            decimation=unwrapped.cfg.decimation,
        )

    def command_limits(self, config: TaskConfig, steps: int) -> list[list[float]]:
        """Isaac Lab's tasks have no stages of them."""
        return command_limits(vars(config.env.commands).values())

    def curriculum(self, env: VecEnv) -> dict[str, torch.Tensor]:
        """The env's step counter, and the level and the kind of terrain of each env, shape (num_envs,)."""
        unwrapped = _unwrapped(env)
        kept = {"common_step_counter": torch.tensor(unwrapped.common_step_counter)}
        if (terrain := _terrain(unwrapped)) is not None:
            kept |= {"terrain_levels": terrain.terrain_levels.cpu(), "terrain_types": terrain.terrain_types.cpu()}
        return kept

    def restore_curriculum(self, env: VecEnv, curriculum: dict[str, torch.Tensor]) -> None:
        """Set the levels, each env's from one on the same kind of terrain, then reset."""
        unwrapped = _unwrapped(env)
        if (terrain := _terrain(unwrapped)) is not None and "terrain_levels" in curriculum:
            terrain.terrain_levels[:] = levels_on_same_terrain(
                terrain.terrain_levels, terrain.terrain_types, curriculum
            )
            terrain.env_origins[:] = terrain.terrain_origins[terrain.terrain_levels, terrain.terrain_types]
        manager = unwrapped.curriculum_manager
        compute = manager.compute
        manager.compute = lambda env_ids=None: None  # it would move all robots down: none has walked yet
        try:
            unwrapped.reset()
        finally:
            manager.compute = compute
        unwrapped.common_step_counter = int(curriculum.get("common_step_counter", 0))

    def _config(self, name: str, entry_point: str) -> Any:
        """A configuration of the registry, by 3.0's presets for the physics and for the rsl_rl that is installed."""
        utils = importlib.import_module("isaaclab_tasks.utils")
        config = utils.load_cfg_from_registry(name, entry_point)
        if not self._is_3:
            return config
        hydra = importlib.import_module("isaaclab_tasks.utils.hydra")
        config = hydra.resolve_presets(config, ("newton_mjwarp",) if self._launched.physics == "newton" else ())
        if entry_point == "rsl_rl_cfg_entry_point":
            rsl_rl = importlib.import_module("isaaclab_rl.rsl_rl")
            config = rsl_rl.handle_deprecated_rsl_rl_cfg(config, version("rsl-rl-lib"))
        return config


def tensor_of(value: Any) -> torch.Tensor:
    """A tensor of an asset's data; 3.0 has them as Warp arrays, with the tensor as an attribute."""
    return value if isinstance(value, torch.Tensor) else value.torch


def _new_stage() -> None:
    """An empty stage: Isaac Sim keeps what the env before has put on its own."""
    importlib.import_module("isaaclab.sim").create_new_stage()


def _registered() -> set[str]:
    import gymnasium

    wanted = {"env_cfg_entry_point", "rsl_rl_cfg_entry_point"}
    return {name for name, spec in gymnasium.registry.items() if wanted <= (spec.kwargs or {}).keys()}


def _is_play(name: str) -> bool:
    return "-Play-" in name


def _follow_with_camera(env_cfg: Any, frame_size: tuple[int, int]) -> None:
    viewer = env_cfg.viewer
    viewer.origin_type, viewer.asset_name, viewer.env_index = "asset_root", "robot", 0
    viewer.eye, viewer.lookat, viewer.resolution = CAMERA, (0.0, 0.0, 0.0), frame_size
    if (recorder := getattr(env_cfg, "video_recorder", None)) is not None:  # 3.0
        recorder.window_width, recorder.window_height = frame_size


def _actor_groups(agent_cfg: Any) -> list[str]:
    """The groups of observations that the actor takes: rsl_rl 3 calls it ``policy``, as the group is by default."""
    groups = agent_cfg.to_dict().get("obs_groups")
    groups = groups if isinstance(groups, dict) else {}
    return list(groups.get("actor") or groups.get("policy") or ["policy"])


def _unwrapped(env: VecEnv) -> Any:
    return cast(Any, env).unwrapped


def _terrain(unwrapped: Any) -> Any:
    """The terrain, if it has levels."""
    terrain = unwrapped.scene.terrain
    return terrain if terrain is not None and terrain.terrain_origins is not None else None
