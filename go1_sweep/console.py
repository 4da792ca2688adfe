"""What commands that last print to: stdout as long as somebody takes it."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from rich.console import Console


class _Lasting:
    """A text file whose words are lost, and no more than that, when a pipe is closed or a disk is full."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write the text if that is still possible."""
        try:
            return self._file.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._file.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._file.fileno())  # what is buffered goes there, now or when Python ends
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def lasting() -> Console:
    """A console on stdout. A training is worth more than its words: it goes on where they find no reader."""
    return Console(file=_Lasting(sys.stdout), highlight=False, soft_wrap=True)  # pyright: ignore[reportArgumentType]
