"""What a log tells of how its process ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LINES = 8
TAIL_BYTES = 16384


def evidence(log: Path) -> list[str]:
    """The lines of a worker's output that tell most: those of a crash in C code, or else the last."""
    lines: list[str] = []
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    crash = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    return lines[crash[-1] :][:LINES] if crash else lines[-LINES:]
