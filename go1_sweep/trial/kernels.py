"""Kernels that are not in the cache cost minutes of a GPU: one process compiles them, and others of its kind wait."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path


@contextlib.contextmanager
def compiled_once(folder: Path | None, what: Mapping[str, object]) -> Iterator[bool]:
    """Enter before an env is made, and leave when it has made its first steps; whether its kernels may be missing.

    Where that is so, nobody else of the same kind is in here. Without a lock (not every file system has them) kernels
    may be compiled twice, which does no harm.

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
            if not done.exists():
                fcntl.flock(locked.enter_context(open(lock, "a")), fcntl.LOCK_EX)
        if done.exists():
            locked.close()
            yield False
        else:
            yield True
            with contextlib.suppress(OSError):
                done.touch()
