"""Kernels that are not in the cache cost minutes of a GPU: one process compiles them, and others wait."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from go1_sweep.paths import write_atomically

PATIENCE_SECONDS = 400.0
"""So long others are waited for: longer than a compilation takes. Who hangs, or went down with a lock of a network file
system, must not hold up all until each has said nothing for too long (``stall_timeout``)."""
POLL_SECONDS = 0.2
SETTINGS = ("env.sim.", "env.scene.")
"""Parameters that begin like this may take other kernels: solvers, limits of contacts, sensors."""
UNFINISHED = re.compile(r"_p\d+_t\d+$")
"""Ends the name of a folder that Warp compiles in: a process and a thread."""


def kernel_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that kernels hang on; not the number of envs."""
    return {name: value for name, value in parameters.items() if name.startswith(SETTINGS)}


@contextlib.contextmanager
def compiled_once(
    folder: Path | None, what: Mapping[str, object], look: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Enter before an env is made, and leave when it has made its first steps; whether its kernels may be missing.

    Where that is so, nobody else whose kernels may be missing is in here, of whichever task: most kernels are the same.
    Without a lock (not every file system has them), or after a long wait for it, kernels may be compiled twice, which
    does no harm.

    Args:
        folder: of the kernels, as ``Simulator.kernel_cache`` gives it; processes of several hosts may share it.
        what: all that the kernels hang on; not the number of envs.
        look: called now and then while others compile; what it raises ends the wait.
    """
    if folder is None:
        yield False
        return
    kind = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    done = folder / f"go1_sweep_{kind}.compiled"
    with contextlib.ExitStack() as locked:
        lock = None
        if not _are_there(folder, done):
            with contextlib.suppress(OSError):
                lock = locked.enter_context(open(folder / "go1_sweep.lock", "a"))
        if lock:
            _wait_for(lock, look)
        if _are_there(folder, done):
            locked.close()
            yield False
        else:
            yield True
            with contextlib.suppress(OSError):
                write_atomically(done, "".join(f"{name}\n" for name in sorted(_kernels(folder))))


def _kernels(folder: Path) -> set[str]:
    """Warp has a folder for each of its modules."""
    return {each.name for each in folder.iterdir() if each.is_dir() and not UNFINISHED.search(each.name)}


def _are_there(folder: Path, done: Path) -> bool:
    """Whether they were compiled, and none was deleted since."""
    try:
        return set(done.read_text(errors="replace").splitlines()) <= _kernels(folder)
    except OSError:
        return False


def _wait_for(lock: IO[str], look: Callable[[], None]) -> None:
    """Lock it as soon as nobody else has it locked, or give up."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _is_taken(lock) and time.monotonic() <= deadline:
        look()
        time.sleep(POLL_SECONDS)


def _is_taken(lock: IO[str]) -> bool:
    """Whether somebody else has it locked; if not, it is locked now, unless its file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
