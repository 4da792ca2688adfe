"""Spares a worker of the fake simulator what no trial of it uses: most of its time is its start."""

from __future__ import annotations

import sys

UNUSED = ("wandb", "boto3")
"""rsl_rl and TensorBoard import them where they are installed, for half a second."""


def launch(device: str, *, draws: bool) -> None:
    """Let them look as if they were not installed."""
    sys.modules.update(dict.fromkeys(UNUSED))  # pyright: ignore[reportCallIssue, reportArgumentType]
