"""The worker's end of the pipes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from typing import NoReturn

from go1_sweep import protocol


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere the pipe alone tells).

    Covers a worker that hangs inside C code, where the thread that watches the pipe cannot run.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Link:
    """Messages to and from the other side.

    A thread reads, so that the end of the pipe is seen at once, also in the middle of an iteration:
    then the worker kills its whole process group, itself included.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._outgoing = outgoing
        self._inbox: queue.SimpleQueue[protocol.Message] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(incoming,), name="link", daemon=True).start()

    def send(self, message: protocol.Message) -> None:
        """Send one message."""
        rest = protocol.encode(message)
        try:
            while rest:
                rest = rest[os.write(self._outgoing, rest) :]
        except BrokenPipeError:
            _end_process_group()

    def receive(self) -> protocol.Message:
        """Wait for the next message."""
        return self._inbox.get()

    def _read(self, incoming: int) -> None:
        with contextlib.suppress(protocol.ProtocolError), os.fdopen(incoming, "rb") as lines:
            for line in lines:
                self._inbox.put(protocol.decode(line))
        _end_process_group()


def _end_process_group() -> NoReturn:
    if os.getpgrp() == os.getpid():  # ours alone: the actor made a session for it
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
