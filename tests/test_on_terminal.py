"""A sweep on a terminal as its user sees it, and what `status` says of it meanwhile and afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import MARK, SMALL, Command, Sweep, status, wait_for, write_sweep
from test_live import HEADING, HIDE, SHOW


@dataclass
class OnTerminal:
    """A sweep that runs, or ran, with a pseudo terminal as its stdout and stderr.

    Attributes:
        running: what ``status --json`` said, and what ``status`` said, while trials ran.
    """

    sweep: Sweep
    command: Command
    written: bytearray
    running: tuple[dict[str, Any], str]

    @property
    def text(self) -> str:
        """What was written, without colors."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.written.decode())


@contextlib.contextmanager
def on_terminal(sweep: Sweep, rows: int = 24, columns: int = 100) -> Iterator[OnTerminal]:
    """Start the sweep on a terminal of that size; entered when two trials have reported."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    mark, written = uuid.uuid4().hex, bytearray()
    process = subprocess.Popen(
        [sys.executable, "-m", "go1_sweep", "run", str(sweep.file)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        text=True,
        env={**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, "TERM": "xterm", MARK: mark},
        start_new_session=True,
    )
    os.close(theirs)

    def keep() -> None:
        with contextlib.suppress(OSError):  # EIO: the last one who had it open is gone
            while chunk := os.read(ours, 65536):
                written.extend(chunk)

    reader = threading.Thread(target=keep)
    reader.start()
    progress = [sweep.folder / "trials" / trial / "progress.jsonl" for trial in ("0000", "0001")]
    try:
        wait_for(lambda: all(p.exists() and p.stat().st_size for p in progress), 60, f"reports, after {written}")
        yield OnTerminal(sweep, Command(process, mark), written, status(sweep.folder))
        Command(process, mark).finish(120)
        reader.join(20)
    finally:
        process.kill()
        process.wait()
        reader.join(20)
        os.close(ours)


def _small(folder: Path, seconds: float, iterations: int) -> Sweep:
    return write_sweep(
        folder,
        search={**SMALL["search"], "fixed": {"env.step_seconds": seconds}},
        budget={"unit": "iterations", "max": iterations},
        resources={"gpus": 0, "concurrent": 2},
    )


@pytest.fixture(scope="module")
def finished_on_terminal(tmp_path_factory: pytest.TempPathFactory) -> OnTerminal:
    """A sweep of four trials that ran to its end."""
    with on_terminal(_small(tmp_path_factory.mktemp("finished"), 0.06, 8)) as run:
        pass
    return run


@pytest.fixture(scope="module")
def interrupted_on_terminal(tmp_path_factory: pytest.TempPathFactory) -> OnTerminal:
    """A sweep that Ctrl-C ended while two of its trials ran."""
    with on_terminal(_small(tmp_path_factory.mktemp("interrupted"), 0.05, 1000)) as run:
        os.killpg(run.command.process.pid, signal.SIGINT)
    return run


def test_a_sweep_on_a_terminal_shows_its_trials_and_prints_its_events_above(finished_on_terminal):
    text = finished_on_terminal.text
    tables = re.split(HEADING, text)
    assert finished_on_terminal.command.process.returncode == 0
    assert len(tables) > 4
    assert any("2 running" in table and "left" in table for table in tables)
    assert "4 completed" in tables[-1]
    for trial in range(4):
        assert re.search(rf"\d:\d\d:\d\d  trial {trial:04d} completed: score .*\r\n{HEADING}", text)


def test_at_the_end_of_a_sweep_the_cursor_is_back_and_the_result_comes_below_the_table(finished_on_terminal):
    rest = re.split(HEADING, finished_on_terminal.text)[-1]
    assert rest.index("4 completed") < rest.index(SHOW) < rest.index("Done") < rest.index("Winner")
    assert "\x1b[1A" not in rest, "nothing goes up into the table any more"


def test_after_ctrl_c_the_last_table_says_so_and_the_cursor_is_back(interrupted_on_terminal):
    text = interrupted_on_terminal.text
    rest = re.split(HEADING, text)[-1]
    assert interrupted_on_terminal.command.process.returncode == 130
    assert rest.index("2 interrupted, 2 not drawn") < rest.index(SHOW) < rest.index("go1_sweep: interrupted;")
    assert text.rindex(SHOW) > text.rindex(HIDE)
    assert "Stopping: each trial ends" in text
    assert "Traceback" not in text


def test_a_running_sweep_says_how_far_its_trials_are_and_when_it_ends(finished_on_terminal):
    said, text = finished_on_terminal.running
    assert (said["phase"], said["winner"], said["trials_total"]) == ("running", None, 4)
    assert (said["driver"]["pid"], said["driver"]["slots"]) == (finished_on_terminal.command.process.pid, 2)
    running = [trial for trial in said["trials"] if trial["state"] == "running"]
    assert len(running) == said["states"]["running"]
    assert sum(trial["iterations"] for trial in said["trials"]) >= 2
    assert said["elapsed_seconds"] > 0
    assert said["eta_seconds"] > 0
    assert text.startswith("sweep: running (process ")
    assert "\x1b" not in text
    assert " left" in text


def test_a_finished_sweep_says_what_its_files_say(finished_on_terminal):
    sweep = finished_on_terminal.sweep
    said, text = status(sweep.folder)
    result = json.loads((sweep.folder / "result.json").read_text())
    assert (said["phase"], said["eta_seconds"], said["states"]) == ("finished", None, {"completed": 4})
    assert (said["winner"], said["best"]) == (result["winner"], result["winner"]["trial"])
    assert said["elapsed_seconds"] == result["seconds"]["wall"]
    for trial in said["trials"]:
        row = sweep.trials()[trial["trial"]]
        assert (str(trial["score"]), str(trial["env_steps"])) == (row["score"], row["env_steps"])
        assert trial["parameters"]["learning_rate"] == float(row["learning_rate"])
    assert f"Winner: trial {said['best']}" in text
    assert f"* {said['best']}" in text


def test_an_interrupted_sweep_is_interrupted(interrupted_on_terminal):
    said, text = status(interrupted_on_terminal.sweep.folder)
    assert (said["phase"], said["states"], said["eta_seconds"]) == ("interrupted", {"interrupted": 2}, None)
    assert text.startswith("sweep: interrupted")
    assert "2 not drawn" in text
