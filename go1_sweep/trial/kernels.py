"""Kernels that are not in the cache cost minutes of a GPU: one process compiles them, and others of its kind wait."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

PATIENCE_SECONDS = 400.0
"""So long others are waited for: longer than a compilation takes. Who hangs, or went down with a lock of a network file
system, must not hold up all until each has said nothing for too long (``stall_timeout``)."""
POLL_SECONDS = 0.2


@contextlib.contextmanager
def compiled_once(folder: Path | None, what: Mapping[str, object]) -> Iterator[bool]:
    """Enter before an env is made, and leave when it has made its first steps; whether its kernels may be missing.

    Where that is so, nobody else of the same kind is in here. Without a lock (not every file system has them), or after
    a long wait for it, kernels may be compiled twice, which does no harm.

    Args:
        folder: of the kernels, as ``Simulator.kernel_cache`` gives it; processes of several hosts may share it.
        what: all that the kernels hang on; not the number of envs.
    """
    if folder is None:
        yield False
        return
    kind = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    done, lock = (folder / f"go1_sweep_{kind}.{name}" for name in ("compiled", "lock"))
    with contextlib.ExitStack() as locked:
        with contextlib.suppress(OSError):
            if not _are_there(folder, done):
                _wait_for(locked.enter_context(open(lock, "a")))
        if _are_there(folder, done):
            locked.close()
            yield False
        else:
            yield True
            with contextlib.suppress(OSError):
                done.write_text("".join(f"{name}\n" for name in sorted(_kernels(folder))))


def _kernels(folder: Path) -> set[str]:
    """Warp has a folder for each of its modules."""
    return {each.name for each in folder.iterdir() if each.is_dir()}


def _are_there(folder: Path, done: Path) -> bool:
    """Whether they were compiled, and none was deleted since."""
    try:
        return set(done.read_text(errors="replace").splitlines()) <= _kernels(folder)
    except OSError:
        return False


def _wait_for(lock: IO[str]) -> None:
    """Lock it as soon as nobody else has it locked, or give up.

    Raises:
        OSError: it cannot be locked.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return None
        time.sleep(POLL_SECONDS)
