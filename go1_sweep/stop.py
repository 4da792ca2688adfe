"""``stop``: ends a sweep that runs, as Ctrl-C in its terminal does."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from pathlib import Path

from rich.console import Console

from go1_sweep import lock, status
from go1_sweep.errors import BadInput, UserError
from go1_sweep.paths import SweepPaths, shown, shown_anywhere
from go1_sweep.wording import submit_command

POLL_SECONDS = 0.2


def stop(folder: Path, console: Console) -> None:
    """Tell the sweep to end, and wait until it has. Told twice, it ends at once.

    Raises:
        BadInput: it is no sweep's folder, or the sweep runs on another host.
        UserError: it is somebody else's.
    """
    paths = SweepPaths(folder)
    status.refuse_what_is_no_sweep(paths)
    driver = lock.driver(paths.lock)
    if driver is None or not lock.is_held(paths.lock):
        console.print(f"{shown(folder)} does not run ({status.read(folder).phase})", markup=False)
        return
    if driver.host != platform.node():
        command = driver.stop
        if driver.address and "://" in driver.address:
            command = submit_command("stop", shown_anywhere(folder), driver.address)
        there = f", or {command}" if command else ""
        raise BadInput(f"{shown(folder)} runs on {driver.host} (process {driver.pid}): stop it there{there}")
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        try:
            os.kill(driver.pid, signal.SIGTERM)
        except PermissionError:
            raise UserError(f"process {driver.pid}, which runs {shown(folder)}, is another user's") from None
    console.print("Stopping: each trial ends with its current iteration (stop it again: at once)", markup=False)
    while lock.is_held(paths.lock):
        time.sleep(POLL_SECONDS)
    phase = status.read(folder).phase
    then = f"Go on: {driver.resume_command(folder)}" if phase != "finished" else "It had just finished."
    console.print(f"Stopped. {then}", markup=False)
