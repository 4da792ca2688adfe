"""A full disk pauses what needs to write; nothing that is there is damaged, and all goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command, Sweep, start, wait_for, write_sweep

from go1_sweep import checkpoint
from go1_sweep.paths import TrialPaths
from go1_sweep.patience import POLL_SECONDS, is_full, patiently, raise_if_full


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Take all room that there is."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return filler


def heard(command: Command) -> list[str]:
    """The lines that the command prints, as they come."""
    lines: list[str] = []
    assert command.process.stdout is not None
    threading.Thread(target=lines.extend, args=(command.process.stdout,), daemon=True).start()
    return lines


def small_sweep(disk: Path) -> Sweep:
    return write_sweep(
        disk,
        search={
            "trials": 3,
            "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
            "fixed": {"env.step_seconds": 0.02, "agent.save_interval": 1},
        },
        budget={"unit": "iterations", "max": 25},
        resources={"gpus": 0, "concurrent": 2, "keep_checkpoints": 2, "stall_timeout": 60},
    )


def waiting(sweep: Sweep, disk: Path) -> tuple[Command, list[str], Path]:
    """The sweep when it waits for room; what it prints, as it comes; and what takes the room."""
    command = sweep.start()
    lines = heard(command)
    wait_for(lambda: (sweep.folder / "trials/0001/model_2.pt").exists(), 90, "checkpoints")
    filler = fill(disk)
    wait_for(lambda: any("is full" in line for line in lines), 60, f"word of it, after {lines}")
    return command, lines, filler


def test_a_sweep_waits_for_room_and_goes_on_as_if_nothing_had_been(small_disk):
    sweep = small_sweep(small_disk)
    command, lines, filler = waiting(sweep, small_disk)
    fill(small_disk)
    before = sweep.trials()
    assert before, "the table is whole"
    filler.unlink()

    command.process.wait(180)
    assert command.process.returncode == 0, lines
    left_out = "no report.html: No space left on device; later: "  # it takes 5 MB
    wait_for(lambda: any(left_out in line for line in lines), 10, "the word of it")
    assert command.process.stderr is not None
    assert "Traceback" not in command.process.stderr.read()
    assert {row["state"] for row in sweep.trials().values()} == {"completed"}
    for trial in ("0000", "0001", "0002"):
        assert sweep.iterations(trial) == list(range(1, 26))
        paths = TrialPaths(sweep.folder / "trials" / trial)
        assert checkpoint.intact(paths, pytest.fail) == checkpoint.read_manifest(paths)
        assert not list(paths.folder.glob(".*.tmp"))


def test_a_sweep_that_waits_for_room_can_be_ended_and_resumed(small_disk):
    sweep = small_sweep(small_disk)
    command, lines, filler = waiting(sweep, small_disk)
    for _ in range(2):
        command.process.send_signal(2)
        wait_for(lambda: any("Stopping" in line for line in lines), 30, "the answer")
    command.process.wait(90)
    assert command.process.returncode in (1, 130)
    assert command.process.stderr is not None
    assert "Traceback" not in command.process.stderr.read()
    filler.unlink()
    code, _, err = start("resume", str(sweep.folder)).finish()
    assert code == 0, err
    assert {row["state"] for row in sweep.trials().values()} == {"completed"}
    assert sweep.iterations("0000") == list(range(1, 26))


def test_what_fails_for_want_of_room_is_tried_until_there_is_some_and_all_else_three_times():
    errors: list[Exception] = [OSError(28, "No space left on device"), OSError(122, "Disk quota exceeded")]
    pauses: list[None] = []

    def write() -> str:
        if errors:
            raise errors.pop()
        return "written"

    assert patiently(write, lambda: pauses.append(None)) == "written"
    assert len(pauses) == 2
    errors += [OSError(5, "Input/output error")] * 2
    assert patiently(write, pytest.fail) == "written", "storage hiccups"
    errors += [PermissionError(13, "Permission denied")] * 3
    with pytest.raises(PermissionError):
        patiently(write, pytest.fail)
    caused = RuntimeError("the study")
    caused.__cause__ = RuntimeError("(sqlite3.OperationalError) database or disk is full")
    assert is_full(caused)
    assert POLL_SECONDS < 10, "an actor waits for a word that often"


def test_a_writer_that_does_not_say_why_it_failed_is_asked_for_the_room(small_disk):
    os.truncate(fill(small_disk), 1)
    raise_if_full(Path("/"))
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        raise_if_full(small_disk)
