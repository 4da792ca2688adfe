"""Ctrl-C, SIGTERM and a terminal that hangs up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

NUMBERS = (signal.SIGINT, signal.SIGTERM)
"""A terminal that hangs up (a dropped ssh) counts as a first one, unless ``nohup`` began us; never as a second:
kernel and shell both tell of it.
"""


@contextlib.contextmanager
def twice(stop: Callable[[], None], say: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) calls both; the second raises ``KeyboardInterrupt``.

    Args:
        stop: called by the handler.
        say: prints; called in a thread, since the signal may have come in the middle of another print.
    """

    def first(signum: int, frame: Any) -> None:
        for number in NUMBERS:  # at once: the second may come before this is done
            signal.signal(number, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop()  # before anything is said: who reads it may answer with the second
        threading.Thread(target=say, daemon=True).start()

    with _handled_by(first):
        yield


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise ``KeyboardInterrupt``: both, also where a shell began us with Ctrl-C ignored (``&``)."""

    def end(signum: int, frame: Any) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    with _handled_by(end):
        yield


def held(call: Callable[[], T]) -> T:
    """What the call returns; Ctrl-C and SIGTERM wait for its end.

    In the middle of a transaction they would leave a database locked.
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    came: list[int] = []
    before = {number: signal.signal(number, lambda signum, _: came.append(signum)) for number in NUMBERS}
    try:
        return call()
    finally:
        for number, former in before.items():
            signal.signal(number, former)
        for signum in came:
            signal.raise_signal(signum)


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, former)
