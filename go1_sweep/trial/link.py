"""The worker's end of the pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import threading
import time
from typing import NoReturn

from go1_sweep import protocol

PULSE_SECONDS = 5.0


def guard(incoming: int, outgoing: int) -> None:
    """Fork a guardian that kills the whole process group when the other side closes its pipe.

    It sees that also when the worker hangs inside C code or is dead already, and it reaches what the worker
    started. A worker whose guardian was killed ends too. To be called before anything heavy is imported: a fork copies
    all of it.
    """
    if guardian := os.fork():
        threading.Thread(target=_end_with, args=(guardian,), name="guardian", daemon=True).start()
        os.set_inheritable(incoming, False)  # what the worker starts shall not hold the pipes open
        os.set_inheritable(outgoing, False)
        return
    os.close(outgoing)
    hang_up = select.poll()
    hang_up.register(incoming, 0)  # nothing is read: only the end of the pipe is awaited
    hang_up.poll()
    _end_process_group()


def _end_with(guardian: int) -> None:
    os.waitpid(guardian, 0)
    _end_process_group()


class Link:
    """Messages to and from the other side; a thread reads, so that ``Stop`` is there when it is looked for."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._outgoing = outgoing
        self._last_pulse = time.monotonic()
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

    def pulse(self, done: int, steps: int) -> None:
        """Say how far a job is, if that was not said lately; to be called in each of its steps."""
        now = time.monotonic()
        if now - self._last_pulse > PULSE_SECONDS:
            self._last_pulse = now
            self.send(protocol.Working(done, steps))

    def receive(self) -> protocol.Message:
        """Wait for the next message."""
        return self._inbox.get()

    def waiting(self) -> protocol.Message | None:
        """The next message if it is there already."""
        try:
            return self._inbox.get_nowait()
        except queue.Empty:
            return None

    def _read(self, incoming: int) -> None:
        with contextlib.suppress(protocol.ProtocolError), os.fdopen(incoming, "rb") as lines:
            for line in lines:
                self._inbox.put(protocol.decode(line))
        _end_process_group()


def _end_process_group() -> NoReturn:
    if os.getpgrp() == os.getsid(0):  # ours alone: the actor made a session for it
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
