"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


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
        threading.Thread(target=say, daemon=True).start()
        stop()

    with _handled_by(first):
        yield


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise ``KeyboardInterrupt``: both, also where a shell began us with Ctrl-C ignored (``&``)."""
    with _handled_by(signal.default_int_handler):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
