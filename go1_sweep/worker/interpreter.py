"""The Python interpreter that has a simulator: what is started, and with which variables."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 120.0
"""Seconds for a script to start Python."""

TELL = "import json, os, sys; print(json.dumps([sys.executable, dict(os.environ)]))"

CLEARED = ("PYTHONPATH", "WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PYOPENGL_PLATFORM")
"""Left out of a worker's environment: rsl_rl would read the ranks as its own, and MuJoCo sets the platform itself."""


class NoInterpreter(Exception):
    """It cannot be started. The text is one line for people."""


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter.

    Attributes:
        executable: its program.
        sets: variables that it is started with, besides those of ``inherited``.
    """

    executable: str
    sets: dict[str, str] = field(default_factory=dict)


@functools.cache
def interpreter(python: str | None) -> Interpreter:
    """Find an interpreter.

    Isaac Lab's ``isaaclab.sh -p`` starts Python with variables that Isaac Sim needs, and as a grandchild that gets none
    of our pipes: it is asked once what it starts, and with what.

    Args:
        python: a path, or ``isaaclab.sh`` with or without ``-p``; ``None``: the current one.

    Raises:
        NoInterpreter: the script does not start one.
    """
    if python is None:
        return Interpreter(sys.executable)
    if match := re.fullmatch(r"(.*\.sh)(?: +(-p))? *", python):
        return _of_script(str(Path(match[1]).expanduser()))
    return Interpreter(str(Path(python).expanduser()))


def _of_script(script: str) -> Interpreter:
    given = inherited(is_ours=False)
    said = ""
    try:
        done = subprocess.run(
            ["bash", script, "-p", "-c", TELL], env=given, capture_output=True, text=True, timeout=TIMEOUT
        )
        said = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1]
        executable, environment = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise NoInterpreter(f"{script} -p starts no Python: {said or error}") from None
    return Interpreter(executable, {key: value for key, value in environment.items() if given.get(key) != value})


def inherited(*, is_ours: bool) -> dict[str, str]:
    """What a child process inherits of our environment.

    Args:
        is_ours: whether it runs in our interpreter; otherwise it is not told that our environment is the active one,
            where a script would start Python.
    """
    active = () if is_ours else (("VIRTUAL_ENV", sys.prefix), ("CONDA_PREFIX", sys.prefix))
    return {key: value for key, value in os.environ.items() if key not in CLEARED and (key, value) not in active}
