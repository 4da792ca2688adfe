"""Tells whether a sweep or a run goes on: its driver holds a lock, which the system takes back however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from go1_sweep import strict_json, wording
from go1_sweep.paths import alive

RESUME, STOP = "GO1_SWEEP_RESUME", "GO1_SWEEP_STOP"
"""Variables of a job that brings a cluster of its own: what is typed instead of ``resume`` (with ``{folder}`` where the
sweep's belongs) and of ``stop``, on a machine from which such jobs are submitted."""
LOOKS = 20
ALIVE_SECONDS = 120.0
"""A driver that uploads no sign of life for so long, by this machine's clock and the store's, is dead."""


@dataclass(frozen=True)
class Driver:
    """The process that runs, or ran, a sweep or a single training.

    Attributes:
        started: when it began, UTC, ISO 8601.
        slots: how many trainings run side by side.
        done: how many whole budgets of training had been done before.
        address: of the cluster that it ran on, or of the dashboard that it was submitted to; ``None``: this machine.
        resume, stop: see ``RESUME``; ``None``: it ran in no such job.
    """

    pid: int
    host: str
    started: str
    slots: int
    done: float
    address: str | None = None
    resume: str | None = None
    stop: str | None = None

    def resume_command(self, folder: Path) -> str:
        """What lets its sweep go on where it ran, as it can be typed in a shell."""
        return wording.resume_command(folder, self.address, self.resume)


@contextlib.contextmanager
def held(path: Path, slots: int, done: float = 0.0, address: str | None = None) -> Iterator[None]:
    """Hold the lock, in a file that says who does; the file stays.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be written, or its file system has no locks.
    """
    with open(path, "a", encoding="utf-8") as file:
        _lock(file)
        file.truncate(0)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        job = os.environ.get(RESUME), os.environ.get(STOP)
        json.dump(asdict(Driver(os.getpid(), platform.node(), started, slots, done, address, *job)), file)
        file.flush()
        yield


def _lock(file: TextIO) -> None:
    for _ in range(LOOKS):  # an `is_held` that looks just now is soon over
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock, here or, of a sweep in an object store, on another host."""
    if is_locked(path):
        return True
    who = driver(path)
    try:
        is_fresh = time.time() - alive(path).stat().st_mtime < ALIVE_SECONDS
    except OSError:
        return False
    return is_fresh and who is not None and who.host != platform.node()


def is_locked(path: Path) -> bool:
    """Whether a process of a host that has this very file holds the lock."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def driver(path: Path) -> Driver | None:
    """Who holds the lock, or held it last; ``None`` if the file does not say."""
    try:
        found = Driver(**strict_json.loads(path.read_text(encoding="utf-8")))
        datetime.fromisoformat(found.started)
        if not all(isinstance(each, str | None) for each in (found.address, found.resume, found.stop)):
            return None
    except (OSError, ValueError, TypeError):
        return None
    return found
