"""Publishes a trial's checkpoints beside its training, which waits for a copy in memory and not for a disk.

But for those of its rungs and its end, which are there before the sweep hears that it has come so far.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from go1_sweep import checkpoint, turn
from go1_sweep.errors import one_line
from go1_sweep.paths import TrialPaths
from go1_sweep.patience import is_full, patiently
from go1_sweep.protocol import Progress
from go1_sweep.turn import TurnIsOver


class Publisher:
    """One checkpoint at a time, in their order. What cannot be written is told the training, in its own thread."""

    def __init__(self, paths: TrialPaths, keep: int, mode: str, pause: Callable[[], None], turn: int = 0) -> None:
        """Begin.

        Args:
            paths: the trial's folder.
            keep: see ``checkpoint.publish``.
            mode: likewise.
            pause: see ``patiently``; called by whoever calls a method of this, so that it may speak for the training.
            turn: see ``turn.take``.
        """
        self._paths, self._keep, self._mode, self._pause, self._turn = paths, keep, mode, pause, turn
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")
        self._write: Callable[[], object] = lambda: None
        self._last: Future[object] | None = None

    def publish(self, content: memoryview, progress: Progress) -> None:
        """Begin to publish a checkpoint; before that, wait for the one before.

        Args:
            content: of the file; nobody may change it.
            progress: where the training stood.

        Raises:
            OSError: the one before could not be written.
            TurnIsOver: it was not to be.
        """

        def write(path: Path) -> None:
            path.write_bytes(content)
            turn.take(self._paths, self._turn)

        self.finish()
        self._write = partial(checkpoint.publish, self._paths, progress, write, keep=self._keep, mode=self._mode)
        self._last = self._thread.submit(patiently, self._write, _give_up)

    def look(self) -> None:
        """Wait for room if the last one did not find any.

        Raises:
            OSError: it could not be written for another reason.
        """
        if self._last is not None and self._last.done():
            self.finish()

    def finish(self) -> None:
        """Wait until the last one is there.

        Raises:
            OSError: it cannot be written, and not for want of room.
        """
        if self._last is None:
            return
        error, self._last = self._last.exception(), None
        if error is not None and not is_full(error):
            raise error
        if error is not None:
            patiently(self._write, self._pause)

    def close(self) -> None:
        """The trial is over, and nobody waits for room any more; returns when nothing is written any more."""
        self._thread.shutdown()
        try:
            if self._last is not None and self._last.exception() is not None:
                self._write()
        except (OSError, TurnIsOver) as error:
            print(f"[go1_sweep] warning: the last checkpoint was not published: {one_line(error)}", flush=True)
        self._last = None


def _give_up() -> NoReturn:
    """Raise the error that is being handled: the training's thread waits for room, and says so."""
    raise
