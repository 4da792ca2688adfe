"""On the path of a sweep's processes: every n-th flush of a simulator worker to its storage fails."""

import errno
import os

EVERY = int(os.environ.get("GO1_SWEEP_FLAKY", "0"))
_fsync, _count = os.fsync, 0


def _flaky(file: int) -> None:
    global _count
    _count += 1
    if _count % EVERY == 0:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _fsync(file)


if EVERY:
    with open("/proc/self/cmdline") as _cmdline:
        if "go1_sweep.trial" in _cmdline.read():
            os.fsync = _flaky
