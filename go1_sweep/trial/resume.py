"""Brings a training to where a checkpoint was taken."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import torch
from rsl_rl.runners import OnPolicyRunner

from go1_sweep.errors import one_line
from go1_sweep.protocol import Progress
from go1_sweep.simulators.base import Simulator
from go1_sweep.trial.policy import PolicyError, check_fits, read_checkpoint

OURS = "go1_sweep"
"""Our entry in the ``infos`` of a checkpoint; rsl_rl keeps no counters but its iteration, and no curriculum."""


def infos(simulator: Simulator, runner: OnPolicyRunner, progress: Progress) -> dict[str, Any]:
    """What a checkpoint keeps besides what rsl_rl and the simulator put into it."""
    return {OURS: {"progress": dataclasses.asdict(progress), "curriculum": simulator.curriculum(runner.env)}}


def progress_of(path: Path) -> Progress:
    """Where the training stood; of a checkpoint that is not ours, rsl_rl's iteration is all that is known.

    Raises:
        PolicyError: it is no checkpoint that can be trained further.
    """
    return _progress(_read(path))


def resume(simulator: Simulator, runner: OnPolicyRunner, task_id: str, path: Path) -> Progress:
    """Load policy, critic, optimizer, rates, statistics, counters and curriculum, and reset the envs.

    A fixed learning rate is the configuration's, an adaptive one that of the checkpoint.

    Returns:
        Where the training stood.

    Raises:
        PolicyError: see ``progress_of``, and where the checkpoint is of another network.
    """
    content = _read(path)
    check_fits(path, content["actor_state_dict"], runner.alg.get_policy().state_dict(), task_id)
    configured = runner.alg.learning_rate
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:  # rsl_rl takes files alone, of its own version
        torch.save(content, file.name)
        try:
            runner.load(file.name, map_location=str(runner.device))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise PolicyError(f"{path} does not fit {task_id} as it is configured now: {one_line(error)}") from None
    if runner.alg.schedule == "fixed":
        for group in runner.alg.optimizer.param_groups:
            group["lr"] = configured
    runner.alg.learning_rate = runner.alg.optimizer.param_groups[0]["lr"]
    simulator.restore_curriculum(runner.env, _ours(content).get("curriculum", {}))
    progress = _progress(content)
    runner.current_learning_iteration = progress.iterations
    runner.logger.tot_timesteps, runner.logger.tot_time = progress.env_steps, progress.train_seconds
    return progress


def _read(path: Path) -> dict[str, Any]:
    content = read_checkpoint(path)
    missing = {"critic_state_dict", "optimizer_state_dict", "iter", "infos"} - content.keys()
    if missing:
        raise PolicyError(f"{path} can be played, but not trained further: it has no {', '.join(sorted(missing))}")
    try:
        _progress(content)
        _ = _ours(content).get("curriculum", {}).items()
    except (AttributeError, KeyError, TypeError):
        raise PolicyError(f"{path} can be played, but not trained further: its counters are damaged") from None
    return content


def _progress(content: dict[str, Any]) -> Progress:
    ours = _ours(content)
    progress = Progress(**ours["progress"]) if ours else Progress(iterations=content["iter"])
    if type(progress.iterations) is not int:
        raise TypeError("no number of iterations")
    return progress


def _ours(content: dict[str, Any]) -> dict[str, Any]:
    return (content["infos"] or {}).get(OURS, {})
