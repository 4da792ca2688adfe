"""What a user can be told: each error is one message without a traceback, and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The work failed for a reason that the user can act on."""

    exit_code = 1


class BadInput(UserError):
    """What was asked for cannot be done as it was asked for; nothing was started."""

    exit_code = 2


class NoTrialSucceeded(UserError):
    """The sweep ended, and no trial reached the end of its budget."""

    exit_code = 3


class Interrupted(UserError):
    """The user ended the sweep."""

    exit_code = 130


def one_line(error: BaseException) -> str:
    """The error as one line for people, of at most 500 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest known word, else ``; known: a, b, c``."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
