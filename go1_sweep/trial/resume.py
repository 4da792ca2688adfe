"""Brings a training to where a checkpoint was taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsl_rl.runners import OnPolicyRunner

from go1_sweep.errors import one_line
from go1_sweep.protocol import Progress
from go1_sweep.simulators.base import Simulator
from go1_sweep.trial.checkpoints import PolicyError, read_checkpoint
from go1_sweep.trial.policy import check_fits
from go1_sweep.trial.runner import Runner

OURS = "go1_sweep"
"""Our entry in the ``infos`` of a checkpoint; rsl_rl keeps no counters but its iteration, and no curriculum."""


def infos(simulator: Simulator, runner: OnPolicyRunner, progress: Progress) -> dict[str, Any]:
    """What a checkpoint keeps besides what rsl_rl and the simulator put into it."""
    return {OURS: {"progress": asdict(progress), "curriculum": simulator.curriculum(runner.env)}}


@dataclass(frozen=True)
class Start:
    """A checkpoint to train further.

    Attributes:
        path: its file.
        content: of the file, as the rsl_rl that is installed has it.
        progress: where the training stood; of a checkpoint that is not ours, rsl_rl's iteration is all
            that is known.
        curriculum: where the simulator's curriculum stood; empty where that is not known.
    """

    path: Path
    content: dict[str, Any]
    progress: Progress
    curriculum: dict[str, Any]


def read_start(path: Path) -> Start:
    """Read a checkpoint to train it further.

    Raises:
        PolicyError: it is no checkpoint, or none that can be trained further.
    """
    content = read_checkpoint(path)
    missing = {"critic_state_dict", "optimizer_state_dict", "iter", "infos"} - content.keys()
    if missing:
        raise PolicyError(f"{path} can be played, but not trained further: it has no {', '.join(sorted(missing))}")
    try:
        ours = (content["infos"] or {}).get(OURS, {})
        progress = Progress(**ours["progress"]) if ours else Progress(iterations=content["iter"])
        if type(progress.iterations) is not int:
            raise TypeError("no number of iterations")
        curriculum = dict(ours.get("curriculum", {}))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise PolicyError(f"{path} can be played, but not trained further: its counters are damaged") from None
    return Start(path, content, progress, curriculum)


def resume(simulator: Simulator, runner: Runner, task_id: str, start: Start) -> None:
    """Load policy, critic, optimizer, rates, statistics, counters and curriculum, and reset the envs.

    Raises:
        PolicyError: the checkpoint is of another network.
    """
    check_fits(start.path, start.content["actor_state_dict"], runner.actor.state_dict(), task_id)
    try:
        runner.load(start.content, start.progress)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{start.path} does not fit {task_id} as it is configured now: {one_line(error)}") from None
    simulator.restore_curriculum(runner.rsl_rl.env, start.curriculum)
