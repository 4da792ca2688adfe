"""Whose turn it is to write into a trial's folder.

An actor on a host that was cut off may live on for a minute when another one has taken over its trial, and its host may
be back meanwhile. Hence the driver counts the actors that it gives a trial to, and each looks before it writes whether
a later one has begun.
"""

from __future__ import annotations

from go1_sweep.paths import TrialPaths, write_atomically


class TurnIsOver(Exception):
    """Another actor has the trial; nobody waits for this one."""

    def __init__(self) -> None:
        super().__init__("another actor has taken over the trial")


def number(text: str | bytes) -> int:
    """What a trial's file says; 0 where it is damaged."""
    try:
        return int(text)
    except ValueError:
        return 0


def last(paths: TrialPaths) -> int:
    """The turn that was taken last; 0: none was.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return number(paths.turn.read_bytes())
    except FileNotFoundError:
        return 0


def take(paths: TrialPaths, turn: int) -> None:
    """Take the turn, or make sure that it is not over; 0: nobody else may have the folder.

    Raises:
        TurnIsOver: a later one was taken.
        OSError: it cannot be read or written.
    """
    if turn and (taken := last(paths)) != turn:
        if taken > turn:
            raise TurnIsOver
        write_atomically(paths.turn, f"{turn}\n")
