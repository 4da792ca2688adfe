"""Helpers for tests that run the real command line, Ray included."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

MARK = "GO1_SWEEP_TEST"


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def marked_processes(mark: str) -> list[psutil.Process]:
    """All processes that descend from a command which was started with the mark, wherever they ended up."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return alive(found)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run: a zombie that nobody has reaped yet does not."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


@dataclass
class Command:
    """A running ``python -m go1_sweep ...``."""

    process: subprocess.Popen[str]
    mark: str

    def finish(self, seconds: float = 240) -> tuple[int, str, str]:
        """Wait for the end; the exit code, stdout and stderr. No descendant may be left."""
        out, err = self.process.communicate(timeout=seconds)
        wait_for(lambda: not self.descendants(), 20, f"the end of {self.descendants()}")
        return self.process.returncode, out, err

    def descendants(self) -> list[psutil.Process]:
        return [p for p in marked_processes(self.mark) if p.pid != self.process.pid]


@dataclass
class Sweep:
    """A sweep file in a folder of its own, and the folder that the sweep leaves behind."""

    file: Path
    folder: Path

    def start(self, *arguments: str, command: str = "run") -> Command:
        return start(command, str(self.file), *arguments)

    def run(self, *arguments: str, seconds: float = 240) -> tuple[int, str, str]:
        return self.start(*arguments).finish(seconds)

    def trials(self) -> dict[str, dict[str, str]]:
        """The rows of ``trials.csv`` by trial."""
        with open(self.folder / "trials.csv", newline="") as file:
            return {row["trial"]: row for row in csv.DictReader(file)}


def start(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Command:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "go1_sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {}), MARK: mark},
        start_new_session=True,
    )
    return Command(process, mark)


SMALL: dict[str, Any] = {
    "name": "sweep",
    "task": "flat",
    "simulator": "fake",
    "search": {"trials": 4, "parameters": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}},
    "budget": {"unit": "iterations", "max": 6},
    "early_stopping": {"scheduler": "none", "window": 2},
    "resources": {"gpus": 0},
    "baseline": False,
}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """Makes a small sweep over the fake simulator; keyword arguments replace sections of it."""

    def make(**sections: Any) -> Sweep:
        content = {**SMALL, "storage": str(tmp_path / "runs"), **sections}
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump(content))
        return Sweep(file, tmp_path / "runs" / content["name"])

    return make
