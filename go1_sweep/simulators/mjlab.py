"""mjlab: MuJoCo Warp, on CPU and GPU."""

from __future__ import annotations

import gc
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import mjlab.tasks  # noqa: F401  (registers the tasks)
import torch
from mjlab.envs import ManagerBasedRlEnv
from mjlab.rl import MjlabOnPolicyRunner, RslRlVecEnvWrapper
from mjlab.tasks import registry
from mjlab.utils.torch import configure_torch_backends
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner

from go1_sweep.simulators.base import Simulator, TaskConfig, same_names

ROUGH = "Mjlab-Velocity-Rough-Unitree-Go1"
FLAT = "Mjlab-Velocity-Flat-Unitree-Go1"


class Mjlab(Simulator):
    """The tasks of mjlab's registry."""

    name = "mjlab"
    aliases = {
        "rough": ROUGH,
        "flat": FLAT,
        "Isaac-Velocity-Rough-Unitree-Go1-v0": ROUGH,
        "Isaac-Velocity-Flat-Unitree-Go1-v0": FLAT,
        "Isaac-Velocity-Rough-Unitree-Go1-Play-v0": ROUGH,
        "Isaac-Velocity-Flat-Unitree-Go1-Play-v0": FLAT,
    }
    paths = {
        "num_envs": "env.scene.num_envs",
        "num_steps_per_env": "agent.num_steps_per_env",
        "save_interval": "agent.save_interval",
        **same_names(
            "agent.algorithm",
            "learning_rate",
            "schedule",
            "desired_kl",
            "entropy_coef",
            "gamma",
            "lam",
            "clip_param",
            "value_loss_coef",
            "max_grad_norm",
            "num_learning_epochs",
            "num_mini_batches",
        ),
    }

    default_num_envs = 4096
    """mjlab registers its tasks with one env; its train script and its papers use this many."""

    def versions(self) -> dict[str, str]:
        """The packages that a result depends on."""
        packages = ("mjlab", "mujoco", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch", "numpy")
        return {package: version(package) for package in packages}

    def tasks(self) -> list[str]:
        """The ids of mjlab's registry."""
        return registry.list_tasks()

    def load_config(self, task_id: str) -> TaskConfig:
        """Copies of the registered configuration, with the usual number of envs."""
        config = TaskConfig(task_id, registry.load_env_cfg(task_id), registry.load_rl_cfg(task_id))
        config.env.scene.num_envs = self.default_num_envs
        config.agent.upload_model = False  # W&B is the sweep's business
        return config

    def make_env(self, config: TaskConfig, seed: int, device: str) -> VecEnv:
        """A ``ManagerBasedRlEnv``; its constructor seeds Python, NumPy, torch and Warp."""
        configure_torch_backends()
        config.env.seed = config.agent.seed = seed
        env = ManagerBasedRlEnv(config.env, device=device)
        return RslRlVecEnvWrapper(env, clip_actions=config.agent.clip_actions)

    def make_runner(
        self, env: VecEnv, config: TaskConfig, log_dir: Path, writer: dict[str, Any] | str
    ) -> OnPolicyRunner:
        """The runner class that the task registered."""
        runner_class = registry.load_runner_cls(config.task_id) or MjlabOnPolicyRunner
        train_cfg = asdict(config.agent) | {"logger": writer}
        return runner_class(env, train_cfg, str(log_dir), str(env.device))

    def save(self, runner: OnPolicyRunner, path: Path) -> None:
        """Mjlab's checkpoint without the ONNX file that its Go1 runner exports at every save."""
        MjlabOnPolicyRunner.save(cast(MjlabOnPolicyRunner, runner), str(path))

    def close(self, env: VecEnv) -> None:
        """Close the env; what it held on the GPU is free when its last reference is gone."""
        super().close(env)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
