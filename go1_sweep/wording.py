"""How names, numbers and times are spelt wherever a user reads of a sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from go1_sweep.paths import BASELINE, shown, shown_anywhere
from go1_sweep.yaml_file import in_yaml

if TYPE_CHECKING:
    from go1_sweep.spec import Spec
    from go1_sweep.trials_table import TrialRecord

COLORS = {
    "completed": "green",
    "early_stopped": "cyan",
    "infeasible": "yellow",
    "failed": "red",
    "interrupted": "magenta",
}
"""The color of a state of a trial."""


def title(trial: str, checkpoint: str = "") -> str:
    """A trial, a checkpoint of it, or (``trial`` is empty) of none, in a sentence."""
    whose = trial if trial in (BASELINE, "") else f"trial {trial}"
    return ", ".join(filter(None, (whose, checkpoint)))


def short(name: str) -> str:
    """A parameter in a narrow place: of a path its last two names."""
    return ".".join(name.split(".")[-2:])


def amount(used: float) -> str:
    """So much of the budget, or a budget, in its unit: never in powers of ten."""
    return f"{used:.10g}"


def export_command(folder: Path) -> str:
    """What brings the best policy of a sweep, as it can be typed in a shell."""
    return f"python -m go1_sweep export {shlex.quote(shown(folder))} --out DIR"


def resume_command(folder: Path, address: str | None = None, job: str | None = None) -> str:
    """What lets a sweep go on where it ran, as it can be typed in a shell.

    Args:
        folder: of the sweep.
        address: of the cluster; ``None``: it ran on one machine.
        job: what submits another job like the one whose cluster that was, with ``{folder}``; ``None``: it was none's.
    """
    if job:
        return job.replace("{folder}", shlex.quote(shown_anywhere(folder)))
    if address and "://" in address:  # of a dashboard
        return submit_command("resume", shown_anywhere(folder), address)
    where = f" --address {shlex.quote(address)}" if address else ""
    return f"python -m go1_sweep resume {shlex.quote(shown(folder))}{where}"


def submit_command(command: str, folder: str, dashboard: str) -> str:
    """What does that to a sweep as a job of a cluster with that dashboard, as it can be typed in a shell."""
    return f"python -m go1_sweep {command} {shlex.quote(folder)} --submit {shlex.quote(dashboard)}"


def report_command(folder: Path) -> str:
    """What writes a sweep's page, as it can be typed in a shell."""
    return f"python -m go1_sweep report {shlex.quote(shown(folder))}"


def play_command(checkpoint: Path) -> str:
    """What plays a checkpoint, as it can be typed in a shell."""
    return f"python -m go1_sweep play --checkpoint {shlex.quote(shown(checkpoint))}"


def train_command(spec: Spec, record: TrialRecord) -> str:
    """What trains a trial's parameters again, by themselves, up to where it ended."""
    settings = spec.of_simulator(spec.simulator)
    flags = {
        "task": spec.task,
        "simulator": spec.simulator,
        "python": settings.python,
        "physics": settings.launch.get("physics"),
        "device": None if spec.resources.gpus else "cpu",
        "num-envs": record.parameters.get("num_envs"),
        "seed": record.seed,
        "max-iterations": record.progress.iterations + 1,
    }
    given = [f"--{name} {shlex.quote(str(flag))}" for name, flag in flags.items() if flag is not None]
    parameters = {name: setting for name, setting in record.parameters.items() if name != "num_envs"}
    given += [f"--set {shlex.quote(f'{name}={in_yaml(setting)}')}" for name, setting in parameters.items()]
    return f"python -m go1_sweep train {' '.join(given)}"


def in_exam(summary: dict[str, Any]) -> str:
    """How a policy did in the exam, from the summary of its evaluation."""
    overall = summary["overall"]
    return (
        f"score {overall['score']:.3f}, return {overall['total_reward']:.2f}, "
        f"off by {overall['lin_vel_rmse']:.2f} m/s and {overall['ang_vel_rmse']:.2f} rad/s, "
        f"{summary['falls']} of {summary['episodes']} fell"
    )


FIGURES = (
    ("score", "score", ".3f", ""),
    ("return", "total_reward", ".2f", ""),
    ("length", "length", ".0f", " steps"),
    ("off by", "lin_vel_rmse", ".3f", " m/s"),
    ("off by", "ang_vel_rmse", ".3f", " rad/s"),
    ("stayed up", "survival_rate", ".1%", ""),
    ("cost of transport", "cost_of_transport", ".2f", ""),
    ("targets move", "target_rate", ".2f", " rad/s"),
)
"""A figure of an evaluation: what it is called, its attribute, its form, its unit."""


def figures_of(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Each figure's name, and what it is, with its interval where there is one; of the summary of an evaluation."""
    overall, intervals = summary["overall"], summary["intervals"]
    found = []
    for name, attribute, form, unit in FIGURES:
        if (figure := overall[attribute]) is None:
            continue
        text = f"{figure:{form}}{unit}"
        if attribute in intervals:
            low, high = intervals[attribute]
            text += f" ({low:{form}} to {high:{form}})"
        found.append((name, text))
    return found


def opened_at(address: str) -> str:
    """Where a viewer can be seen: ``http://HOST:PORT``, of this machine alone but for one with a token."""
    if "?token=" in address:
        return f"Open {address} in a browser, on any machine; who has this address can steer, and nothing is encrypted"
    port = address.rpartition(":")[2]
    return f"Open {address} in a browser; on another machine after ssh -L {port}:127.0.0.1:{port}"


def value(value: Any) -> str:
    """The value of a parameter."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """A score."""
    return "none" if value is None else f"{value:.4g}"


def clock(seconds: float) -> str:
    """A duration [s] as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
