"""Ctrl-C, SIGTERM and a terminal that hangs up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def twice(stop: Callable[[], None], say: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) calls both; the second raises ``KeyboardInterrupt``.

    A terminal that hangs up (a dropped ssh) counts as a first one, unless ``nohup`` began us; never as a
    second: kernel and shell both tell of it.

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

    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    with _handled_by(first, NUMBERS if is_nohup else (*NUMBERS, signal.SIGHUP)):
        yield


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise ``KeyboardInterrupt``: both, also where a shell began us with Ctrl-C ignored (``&``)."""
    with _handled_by(signal.default_int_handler):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, Any], None], numbers: Iterable[signal.Signals] = NUMBERS) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
