"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def twice(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) calls ``stop``; the second raises ``KeyboardInterrupt``."""

    def first(signum: int, frame: Any) -> None:
        for number in numbers:  # at once: the second may come before this is done
            signal.signal(number, second)
        stop()

    def second(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, first) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise ``KeyboardInterrupt``: both, also where a shell began us with Ctrl-C ignored (``&``)."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
