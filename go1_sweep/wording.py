"""How names, numbers and times are spelt wherever a user reads of a sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from go1_sweep.paths import BASELINE, shown

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


def export_command(folder: Path) -> str:
    """What brings the best policy of a sweep, as it can be typed in a shell."""
    return f"python -m go1_sweep export {shlex.quote(shown(folder))} --out DIR"


def in_play(summary: dict[str, Any]) -> str:
    """How a policy did in play, from the summary of its evaluation."""
    overall = summary["overall"]
    return (
        f"return {overall['total_reward']:.2f}, length {overall['length']:.0f}, "
        f"off by {overall['lin_vel_rmse']:.2f} m/s and {overall['ang_vel_rmse']:.2f} rad/s, "
        f"{summary['falls']} of {summary['episodes']} fell"
    )


def opened_at(address: str) -> str:
    """Where a viewer can be seen, ``http://HOST:PORT`` of this machine."""
    port = address.rpartition(":")[2]
    return f"Open {address} in a browser; on another machine after ssh -L {port}:127.0.0.1:{port}"


def value(value: Any) -> str:
    """The value of a parameter."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def number(value: float | None) -> str:
    """A score."""
    return "none yet" if value is None else f"{value:.4g}"


def clock(seconds: float) -> str:
    """A duration [s] as hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
