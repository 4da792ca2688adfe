"""The table of a running sweep: it fits the terminal, shows what matters, and leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import time

import pytest
from conftest import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from go1_sweep import live
from go1_sweep.parameters import Value
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord, best
from go1_sweep.wording import COLORS

HEADING = r"  trial +state"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
SPEC = Spec.model_validate(
    {
        "name": "x",
        "task": "flat",
        "search": {
            "trials": 80,
            "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}, "gamma": {"uniform": [0.9, 0.99]}},
            "fixed": {"lam": 0.95},
        },
        "budget": {"unit": "env_steps", "max": 147_456_000},
    }
)
PARAMETERS: dict[str, Value] = {
    "lam": 0.95,
    "learning_rate": 0.0012345,
    "gamma": 0.9712345,
    "env.rewards.upright.weight": 1.0,
}
many_records = st.lists(
    st.tuples(st.sampled_from(["running", *COLORS]), st.none() | st.floats(-1e6, 1e6), st.integers(0, 147_456_000)),
    max_size=80,
).map(
    lambda drawn: [
        TrialRecord(f"{i:04d}", PARAMETERS, i, state, "why", Progress(i, used, 1.0, score), gpu=str(i % 8))
        for i, (state, score, used) in enumerate(drawn)
    ]
)


def rendered(records: list[TrialRecord], width: int = 120, rows: int | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(live.view(records, SPEC, 70.0, 720.0, rows))
    return capture.get().splitlines()


def ids(lines: list[str]) -> list[str]:
    return [match[1] for line in lines if (match := re.match(r"[* ] (\d{4}) ", line))]


@settings(max_examples=30, deadline=None)
@given(many_records, st.integers(60, 200), st.integers(5, 70))
def test_no_line_is_broken_and_the_table_is_never_higher_than_the_terminal(records, width, height):
    rows = height - live.OTHER_LINES
    lines = rendered(records, width, rows)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    shown = ids(lines)
    assert len(shown) <= rows
    hidden = len(records) - len(shown)
    assert (f"{hidden} trials not shown" in lines[-1]) == (hidden > 0)
    assert max(map(len, rendered(records, 20, rows))) <= 20


@settings(max_examples=30, deadline=None)
@given(many_records, st.integers(2, 70))
def test_the_winner_so_far_is_always_there_and_alone_is_marked_and_what_the_mark_means_is_said(records, rows):
    winner, lines = best(records, "max"), rendered(records, 200, rows)
    marked = [line for line in lines if line.startswith("* ")]
    assert ids(marked) == ([winner.trial] if winner else [])
    assert any("* best score of the completed" in line for line in lines) == (winner is not None)


@settings(max_examples=30, deadline=None)
@given(many_records, st.integers(2, 70))
def test_trials_that_run_come_first_and_leave_a_row_to_the_best_of_those_that_ended(records, rows):
    shown = ids(rendered(records, rows=rows))
    running = [record.trial for record in records if record.state == "running"]
    expected = running if len(records) <= rows else running[: rows - (len(running) < len(records))]
    assert shown[: len(expected)] == expected
    assert not set(running) & set(shown[len(expected) :])


def test_a_row_says_how_far_its_trial_is_on_which_gpu_and_what_it_tries():
    record = TrialRecord("0003", PARAMETERS, 1, progress=Progress(500, 73_728_000, 1.0, 1.23456), gpu="5")
    heading, row, states, times = rendered([record])
    assert heading.split() == ["trial", "state", "env_steps", "of", "147456000", "score", "GPU", "parameters"]
    assert row.split()[:3] == ["0003", "running", "73728000"]
    assert re.search(r"━+ +1\.235 5 +learning_rate=0\.00123, gamma=0\.971, upright\.weight=1 *$", row)
    assert states == "1 running, 80 not drawn"
    assert times == "0:01:10 elapsed, about 0:12:00 left"


def test_parameters_that_do_not_fit_are_left_out_as_a_whole():
    record = TrialRecord("0003", PARAMETERS, 1)
    assert rendered([record], 100)[1].rstrip().endswith("learning_rate=0.00123, gamma=0.971, ...")
    assert rendered([record], 80)[1].rstrip().endswith(" ...")


@pytest.fixture
def terminal(monkeypatch):
    """A console on a pseudo terminal, and a call that gives what was written there when the cursor is back."""
    for name, content in (("TERM", "xterm"), ("COLUMNS", "100"), ("LINES", "20")):
        monkeypatch.setenv(name, content)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    text = bytearray()

    def is_cursor_back() -> bool:
        with contextlib.suppress(BlockingIOError):
            text.extend(os.read(ours, 65536))
        return text.rfind(SHOW.encode()) > text.rfind(HIDE.encode()) > 0

    def written() -> str:
        wait_for(is_cursor_back, 10, f"the cursor, after {text}")
        return text.decode()

    with open(theirs, "w") as file:
        yield Console(file=file, soft_wrap=True), written
    os.close(ours)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_the_cursor_comes_back_whatever_ends_the_trials(terminal, error):
    console, written = terminal
    console.print("before")
    with pytest.raises(error), live.shown(console, SPEC, {}, 1, time.monotonic()):
        console.print("above")
        raise error
    text = written()
    assert text.index("before") < text.index("above") < text.rindex("trial")


def test_where_stdout_is_no_terminal_nothing_is_written_also_when_colors_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    with live.shown(Console(file=file), SPEC, {"0000": TrialRecord("0000", {}, 0)}, 1, time.monotonic()):
        pass
    assert file.getvalue() == ""
