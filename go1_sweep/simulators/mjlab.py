"""mjlab: MuJoCo Warp, on CPU and GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

import mjlab.tasks  # noqa: F401  (registers the tasks)
import numpy as np
import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
from mjlab.sim import Simulation
from mjlab.tasks import registry
from mjlab.viewer import NativeMujocoViewer, ViserPlayViewer
from mjlab.viewer.base import BaseViewer, EnvProtocol, PolicyProtocol
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from viser import ViserServer

from go1_sweep.simulators.base import Actor, Purpose, RobotState, Simulator, TaskConfig
from go1_sweep.simulators.managers import (
    command_limits,
    levels_on_same_terrain,
    place_on_terrain,
    specific_power,
    velocity_command,
)
from go1_sweep.simulators.mjlab_interface import joint_actions, observation_terms
from go1_sweep.simulators.policy_interface import NOT_MEASURED_TERMS, PolicyInterface
from go1_sweep.simulators.render_context import render_context_made_once
from go1_sweep.simulators.warp_kernels import instead, load_together, warp_cache


class Mjlab(Simulator):
    """The tasks of mjlab's registry."""

    name = "mjlab"
    test_paths = (
        *Simulator.test_paths,
        "env.scale_rewards_by_dt",
        "env.auto_reset",
        "env.metrics.*",
    )

    default_num_envs = 4096
    """mjlab registers its tasks with one env; its train script and its papers use this many."""

    def __init__(self) -> None:
        self._loaded: set[str] = set()
        """What kernels were loaded for."""

    def kernel_cache(self) -> Path:
        """Warp's."""
        return warp_cache()

    def versions(self) -> dict[str, str]:
        """The packages that a result depends on."""
        packages = ("mjlab", "mujoco", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch", "numpy")
        return {package: version(package) for package in packages}

    def tasks(self) -> list[str]:
        """The ids of mjlab's registry."""
        return registry.list_tasks()

    def load_config(self, task_id: str, purpose: Purpose = "train") -> TaskConfig:
        """Copies of the registered configuration, with the usual number of envs."""
        env = registry.load_env_cfg(task_id, play=purpose == "play")
        env.episode_length_s = registry.load_env_cfg(task_id).episode_length_s  # mjlab plays for 1e9 s
        env.scene.num_envs = self.default_num_envs
        env.is_finite_horizon &= purpose == "train"  # the wrapper tells of time-outs only where it is False
        if purpose == "exam":
            env.curriculum = {}
        agent = registry.load_rl_cfg(task_id)
        agent.logger, agent.upload_model = "tensorboard", False  # W&B is the sweep's business
        return TaskConfig(task_id, env, agent, purpose)

    def make_blind(self, config: TaskConfig) -> bool:
        """The critic goes on to see it: that stays in the simulator."""
        groups = asdict(config.agent)["obs_groups"]["actor"]
        terms = [config.env.observations[group].terms for group in groups]
        return bool([each.pop(name) for each in terms for name in NOT_MEASURED_TERMS if name in each])

    def make_env(
        self, config: TaskConfig, seed: int, device: str, *, frame_size: tuple[int, int] | None = None
    ) -> VecEnv:
        """A ``ManagerBasedRlEnv``; its constructor seeds Python, NumPy, torch and Warp."""
        config.set_seed(seed)
        if frame_size:
            _draw_plainly(config.env, frame_size)
        kernels = f"{config.task_id} {config.env.sim}"
        with render_context_made_once(), _without_graphs(load_kernels=kernels not in self._loaded):
            env = ManagerBasedRlEnv(config.env, device=device, render_mode="rgb_array" if frame_size else None)
        env.sim.create_graph()
        self._loaded.add(kernels)
        return RslRlVecEnvWrapper(env, clip_actions=config.agent.clip_actions)

    def make_runner(self, env: VecEnv, config: TaskConfig, log_dir: Path | None) -> OnPolicyRunner:
        """The runner class that the task registered."""
        runner_class = registry.load_runner_cls(config.task_id) or MjlabOnPolicyRunner
        return runner_class(env, asdict(config.agent), str(log_dir) if log_dir else None, str(env.device))

    def step_seconds(self, env: VecEnv) -> float:
        """The physics step times the decimation."""
        return _unwrapped(env).step_dt

    def robot_state(self, env: VecEnv) -> RobotState:
        """Velocities of the robot's root, and what its actuators do."""
        term = velocity_command(_unwrapped(env))
        data, robot = term.robot.data, term.robot
        mass = torch.as_tensor(_unwrapped(env).sim.mj_model.body_mass[robot.indexing.body_ids.cpu().numpy()].sum())
        return RobotState(
            lin_vel=data.root_link_lin_vel_b,
            ang_vel=data.root_link_ang_vel_b,
            command=term.vel_command_b.clone(),
            power=specific_power(data.qfrc_actuator, data.joint_vel, mass),
        )

    def set_command(self, env: VecEnv, command: torch.Tensor) -> None:
        """Overrule the velocity command's own timer and its modes (heading, standing, world frame)."""
        term = velocity_command(_unwrapped(env))
        for mode in (term.is_heading_env, term.is_standing_env, term.is_world_env, term.is_forward_env):
            mode[:] = False
        term.time_left[:] = float("inf")
        term.vel_command_b[:] = command.to(term.vel_command_b)

    def set_terrain(self, env: VecEnv, difficulty: torch.Tensor) -> None:
        """Levels are rows of the generated terrain, and kinds its columns."""
        place_on_terrain(_unwrapped(env).scene.terrain, difficulty)

    def render(self, env: VecEnv) -> np.ndarray:
        """MuJoCo's own offscreen picture, with arrows for the commanded and the actual velocity."""
        frame = _unwrapped(env).render()
        assert frame is not None
        return frame

    def interface(self, env: VecEnv, config: TaskConfig) -> PolicyInterface:
        """Read from the env's managers and its MuJoCo model."""
        unwrapped = _unwrapped(env)
        groups = asdict(config.agent)["obs_groups"]["actor"]
        return PolicyInterface(
            observations=[term for group in groups for term in observation_terms(unwrapped, group)],
            actions=joint_actions(unwrapped),
            action_clip=config.agent.clip_actions,
            joints=list(velocity_command(unwrapped).robot.joint_names),
            decimation=unwrapped.cfg.decimation,
        )

    def command_limits(self, config: TaskConfig, steps: int) -> list[list[float]]:
        """Of the task's last stage that began by then."""
        for term in config.env.curriculum.values():
            for stage in term.params.get("velocity_stages", ()):
                if stage["step"] <= steps:
                    ranges = config.env.commands[term.params["command_name"]].ranges
                    vars(ranges).update({name: limits for name, limits in stage.items() if name != "step" and limits})
        return command_limits(config.env.commands.values())

    def view(self, env: VecEnv, actor: Actor, *, in_window: bool, steps: int, opened: Callable[[str], None]) -> None:
        """MuJoCo's own window, or viser's page."""
        with _viewer(env, cast(PolicyProtocol, actor), in_window, opened) as viewer:
            viewer.run(steps or None, catch_sigint=False)

    @contextlib.contextmanager
    def watching(self, env: VecEnv, *, in_window: bool, opened: Callable[[str], None]) -> Iterator[None]:
        """The same viewers, brought up to date by the env's own steps."""

        def step_and_show(actions: torch.Tensor) -> Any:
            nonlocal shown_at
            result = step(actions)
            if time.monotonic() - shown_at >= viewer.frame_time and viewer.is_running():
                viewer.sync_env_to_viewer()
                shown_at = time.monotonic()
            return result

        shown_at = 0.0
        with _viewer(env, _nobody, in_window, opened) as viewer:
            viewer.setup()
            with contextlib.closing(viewer), instead(env, "step", step_and_show) as step:
                yield

    def save(self, runner: OnPolicyRunner, file: Path | BinaryIO, infos: dict[str, Any] | None = None) -> None:
        """Mjlab's checkpoint without the ONNX file that its Go1 runner exports at every save."""
        MjlabOnPolicyRunner.save(cast(MjlabOnPolicyRunner, runner), cast(str, file), infos)

    def curriculum(self, env: VecEnv) -> dict[str, torch.Tensor]:
        """The level and the kind of terrain of each env, shape (num_envs,); mjlab's checkpoint counts steps alone."""
        terrain = _unwrapped(env).scene.terrain
        if terrain is None or terrain.terrain_origins is None:
            return {}
        return {"terrain_levels": terrain.terrain_levels.cpu(), "terrain_types": terrain.terrain_types.cpu()}

    def restore_curriculum(self, env: VecEnv, curriculum: dict[str, torch.Tensor]) -> None:
        """Set the levels, each env's from one on the same kind of terrain, then reset."""
        unwrapped = _unwrapped(env)
        terrain = unwrapped.scene.terrain
        if curriculum and terrain is not None and terrain.terrain_origins is not None:
            terrain.terrain_levels[:] = levels_on_same_terrain(
                terrain.terrain_levels, terrain.terrain_types, curriculum
            )
        steps = unwrapped.common_step_counter
        unwrapped.common_step_counter = 0  # the curriculum moves no robot that has not walked yet
        unwrapped.reset()
        unwrapped.common_step_counter = steps


def _unwrapped(env: VecEnv) -> ManagerBasedRlEnv:
    return cast(RslRlVecEnvWrapper, env).unwrapped


@contextlib.contextmanager
def _without_graphs(*, load_kernels: bool) -> Iterator[None]:
    """Leave an env's graphs to be recorded when it is there: mjlab does so two or three times while it makes one.

    Their kernels, if they are to be loaded, are there before: some are launched while it is made, one after the other.
    """

    def forget_graphs(self: Simulation) -> None:
        wanted = self.use_cuda_graph  # nowhere but on a GPU
        if wanted and load_kernels:
            load_together(lambda: create_graph(self))
        self.use_cuda_graph = False
        create_graph(self)
        self.use_cuda_graph = wanted

    with instead(Simulation, "create_graph", forget_graphs) as create_graph:
        yield


@contextlib.contextmanager
def _viewer(env: VecEnv, actor: PolicyProtocol, in_window: bool, opened: Callable[[str], None]) -> Iterator[BaseViewer]:
    """A viewer that is not set up yet. A page can steer the robots, so only this machine may open it."""
    shown = cast(EnvProtocol, env)
    if in_window:
        opened("")
        yield NativeMujocoViewer(shown, actor)
        return
    server = ViserServer(host="127.0.0.1", label="go1_sweep", verbose=False)  # on the next free port from 8080
    try:
        opened(f"http://127.0.0.1:{server.get_port()}")
        yield ViserPlayViewer(shown, actor, viser_server=server)
    finally:
        server.stop()


def _nobody(obs: torch.Tensor) -> torch.Tensor:
    raise AssertionError("somebody else steps the env")


def _draw_plainly(env_cfg: Any, frame_size: tuple[int, int]) -> None:
    """One robot and no shadows: a software renderer takes a sixth of the time so. No marks of sensors."""
    viewer = env_cfg.viewer
    viewer.width, viewer.height = frame_size
    viewer.enable_shadows = viewer.enable_reflections = False
    viewer.max_extra_envs = 0
    for sensor in env_cfg.scene.sensors or ():
        if hasattr(sensor, "debug_vis"):
            sensor.debug_vis = False
