"""What cannot be written now may be soon, and a training is worth the wait: a full disk, a storage that hiccups."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 2.0
RETRY_SECONDS = 0.2
TRIES = 3
"""Of a write that fails for another reason than a full disk; network storage has many."""
NO_ROOM_BYTES = 16 * 2**20


def patiently(write: Callable[[], T], pause: Callable[[], None]) -> T:
    """What ``write`` returns, as soon as there is room for it.

    Args:
        write: may be done again after it failed in the middle.
        pause: called after each failure for want of room; may raise to give up.

    Raises:
        Exception: what ``write`` raises for another reason.
    """
    tries_left = TRIES
    while True:
        try:
            return write()
        except Exception as error:
            if is_full(error):
                pause()
                continue
            tries_left -= 1
            if not (isinstance(error, OSError) or "database is locked" in str(error)) or not tries_left:
                raise
            time.sleep(RETRY_SECONDS)


def is_full(error: BaseException | None) -> bool:
    """Whether the error says that a disk (or a quota) is full; that of a database says it in words."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "disk is full" in str(error) or is_full(error.__cause__)


def raise_if_full(folder: Path) -> None:
    """For writers whose errors do not say why (torch's): see whether there is room.

    Raises:
        OSError: there is none.
    """
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < NO_ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
