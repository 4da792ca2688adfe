"""Asks an interpreter what it and its machine can do, in processes of their own: a crash there is an answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from go1_sweep.errors import BadInput
from go1_sweep.worker.interpreter import NoInterpreter, interpreter
from go1_sweep.worker.process import how_it_ended, worker_environment

NOTHING_FOUND: dict[str, dict[str, Any]] = {
    "packages": {"python": "", "versions": {}},
    "isaaclab": {"release": ""},
    "torch": {"version": "", "cuda": "", "available": False, "devices": []},
    "graphics": {"renderer": "", "devices": []},
    "encoder": {"ffmpeg": ""},
}
"""What each section of ``trial/probe.py`` has, besides ``problem`` and ``mend``, when nothing was found."""


def probe(
    python: str | None, *sections: str, timeout: float = 120.0, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run the probe in the interpreter, each section in a process of its own, side by side.

    Args:
        python: the interpreter; ``None``: the current one, with what it can import.
        sections: of ``NOTHING_FOUND``; none given: all.
        timeout: seconds for all of them together.
        variables: of the environment, besides our own.

    Returns:
        Each section as ``trial/probe.py`` describes it. What crashes, hangs or prints no JSON is a ``problem``.

    Raises:
        BadInput: the interpreter cannot be started.
        OSError: there is no folder for temporary files.
    """
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="go1_sweep-", ignore_cleanup_errors=True) as scratch:
        try:
            environment = worker_environment(Path(scratch), python, threads=1, gl="egl") | dict(variables or {})
        except NoInterpreter as error:
            raise BadInput(str(error)) from None
        running: dict[str, subprocess.Popen[str]] = {}
        try:
            for section in sections or NOTHING_FOUND:
                running[section] = _start(interpreter(python).executable, section, environment)
            return {section: _answer(section, process, deadline, timeout) for section, process in running.items()}
        finally:
            for process in running.values():
                _kill(process)


def _start(python: str, section: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [python, "-m", "go1_sweep.trial.probe", section],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise BadInput(f"the interpreter {python} cannot be started: {error.strerror}") from None


def _answer(section: str, process: subprocess.Popen[str], deadline: float, timeout: float) -> dict[str, Any]:
    found = {"problem": "", "mend": "", **NOTHING_FOUND[section]}
    try:
        out, err = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return {**found, "problem": f"the probe gave no answer within {timeout:g} s"}
    try:
        return {**found, **json.loads(out.splitlines()[-1])[section]}
    except (IndexError, KeyError, TypeError, ValueError):
        last_words = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "")
        said = f": {last_words[:300]}" if last_words else ""
        return {**found, "problem": f"the probe {how_it_ended(process.returncode)} without an answer{said}"}


def _kill(process: subprocess.Popen[str]) -> None:
    """End the process and what it started, and close its pipes."""
    if process.returncode is None:  # not reaped: the number of its group is still its own
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
