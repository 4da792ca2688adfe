"""Whoever runs a sweep's Ray ends when Ray does, and the other way round: Ray itself would wait for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from go1_sweep.errors import UserError
from go1_sweep.worker import leftovers

OWN_RAY = "GO1_SWEEP_RAY_TOKEN"
"""A variable of the actors': the token's file of a Ray of ours; not set on somebody's cluster."""
LOOK_SECONDS = 1.0
"""How often processes look after each other."""
PATIENCE_SECONDS = 15.0
"""How long a driver whose Ray has died may take to notice."""


HEAD_SECONDS = 45.0
"""How long a cluster's head may be silent; after 60 Ray ends its driver."""


def end_with_raylet() -> None:
    """Let an actor's process end with the raylet that started it, and take the rest of a Ray of our own along.

    Ray would wait for the call that runs to return; its agents ask a dead gcs_server for a minute.
    """
    raylet, token = os.getppid(), os.environ.get(OWN_RAY)

    def watch() -> None:
        while os.getppid() == raylet:
            time.sleep(LOOK_SECONDS)
        if token:
            kill_all(Path(token))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ending_with_head(address: str, then: str) -> Iterator[None]:
    """End this process where the head of its cluster is gone, with a sentence; Ray would, a little later, with a trace.

    Nothing more can be done in good order: each call to Ray waits for the head.

    Args:
        address: HOST:PORT of the head.
        then: the command for the user.
    """
    host, _, port = address.rpartition(":")
    is_over = threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not is_over.wait(LOOK_SECONDS):
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=LOOK_SECONDS):
                answered = time.monotonic()
            if time.monotonic() > answered + HEAD_SECONDS and not is_over.is_set():
                lost = f"the cluster's head at {address} has not answered for {HEAD_SECONDS:g} s"
                print(f"error: {lost}; when there is a cluster again, {then}", file=sys.stderr, flush=True)
                os._exit(UserError.exit_code)

    threading.Thread(target=watch, name="head", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


class Watch(threading.Thread):
    """Interrupts the main thread when a process dies that Ray cannot do without.

    Attributes:
        dead: the names of those that died.
        work_is_over: nobody needs Ray any more.
        ray_is_over: it has been shut down.
    """

    def __init__(self, token: Path, then: str) -> None:
        super().__init__(daemon=True)
        self._token = token
        self._then = then
        self._vital = {pid: name for pid, name in _processes(token) if name in ("raylet", "gcs_server")}
        self.dead: list[str] = []
        self.work_is_over = threading.Event()
        self.ray_is_over = threading.Event()

    def problem(self) -> str:
        """What happened, for the user."""
        return f"Ray has ended: its {self.dead[0]} died; {self._then}"

    def look(self) -> bool:
        """Whether one has died."""
        alive = dict(_processes(self._token))
        dead = [name for pid, name in self._vital.items() if pid not in alive]
        if dead and not self.work_is_over.is_set():  # else it ended in good order while we looked
            self.dead = dead
        return bool(self.dead)

    def run(self) -> None:
        """Look again and again."""
        while not self.work_is_over.wait(LOOK_SECONDS):
            if self.look():
                self._interrupt()  # asks for an end in good order, which may need Ray
                if not self.work_is_over.wait(LOOK_SECONDS):
                    self._interrupt()
                if not self.ray_is_over.wait(PATIENCE_SECONDS):  # the main thread waits for the dead
                    kill_all(self._token)
                    print(f"error: {self.problem()}", file=sys.stderr, flush=True)
                    os._exit(UserError.exit_code)

    def _interrupt(self) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def kill_all(token: Path) -> None:
    """End what is left of our Ray: its agents outlive a raylet that was killed."""
    for pid, _ in _processes(token):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes(token: Path) -> Iterator[tuple[int, str]]:
    """Number and name of the processes that hold the token's path but for this one: those of our Ray alone do."""
    for pid in leftovers.with_variable("RAY_AUTH_TOKEN_PATH", str(token)) - {os.getpid()}:
        with contextlib.suppress(OSError):  # it has just ended
            yield pid, Path(f"/proc/{pid}/comm").read_text().strip()
