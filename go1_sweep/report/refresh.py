"""Keeps the page of a sweep that runs fresh, by a process beside the driver: a long page does not hold up a trial."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from go1_sweep.paths import SweepPaths, beside
from go1_sweep.report.page import REFRESH_SECONDS

MOST_OF_A_CORE = 0.05
"""A page that takes long is written less often."""


@contextlib.contextmanager
def refreshed(folder: Path) -> Iterator[None]:
    """Have the sweep's page written about once a minute, until the context is left."""
    is_over = threading.Event()
    thread = threading.Thread(target=_refresh, args=(folder, is_over), name="report", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _refresh(folder: Path, is_over: threading.Event) -> None:
    pause = REFRESH_SECONDS
    while not is_over.wait(pause):
        began = time.monotonic()
        with contextlib.suppress(OSError):  # no process can be started now: the next time
            _write(folder, is_over)
        pause = max(REFRESH_SECONDS, (time.monotonic() - began) / MOST_OF_A_CORE)


def _write(folder: Path, is_over: threading.Event) -> None:
    """Write it, or leave it where the sweep ends meanwhile: then the driver writes the last one."""
    writer = subprocess.Popen(
        ["nice", "-n", "19", sys.executable, "-m", "go1_sweep", "report", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the user's Ctrl-C is the driver's
    )
    while writer.poll() is None:
        if is_over.wait(0.1):
            writer.kill()
            writer.wait()
            beside(SweepPaths(folder).report, writer.pid).unlink(missing_ok=True)
