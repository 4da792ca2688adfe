"""What `status` says of a sweep that runs, is over, was interrupted or was killed; and that it only looks."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, status, wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from go1_sweep import cli, lock, trials_table
from go1_sweep.paths import SweepPaths, TrialPaths, write_atomically
from go1_sweep.protocol import Progress
from go1_sweep.status import as_json, last_progress, read
from go1_sweep.trials_table import INTERRUPTED, TrialRecord


def a_sweep(folder: Path, *states: str, result: dict | None = None) -> SweepPaths:
    """The folder of a sweep of two trials, as its driver may leave it."""
    paths = SweepPaths(folder)
    search = {**SMALL["search"], "trials": 2}
    paths.spec.write_text(yaml.safe_dump({**SMALL, "search": search}))
    records = [TrialRecord(f"{i:04d}", {"learning_rate": 1e-3}, i, state) for i, state in enumerate(states)]
    for record in records:
        record.why = INTERRUPTED if record.state == "interrupted" else ""
    trials_table.write(paths, records, [])
    if result is not None:
        paths.result.write_text(json.dumps(result))
    return paths


NO_WINNER = {"winner": None, "no_winner": "none", "baseline": None, "verdict": None, "sim_to_sim": None}
NO_WINNER |= {"video": None, "no_video": "", "baseline_video": None}
RESULT = {"phase": "finished", **NO_WINNER, "importances": [], "seconds": {"wall": 1.5, "evaluation": 0.5}}


def refused(arguments: list[str], capsys) -> str:
    assert cli.main(["status", *arguments]) == 2
    return capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert refused([str(tmp_path / "no")], capsys) == f"error: {tmp_path / 'no'}: no such folder\n"


def test_a_folder_that_is_no_sweep_is_refused(tmp_path, capsys):
    assert f"{tmp_path} is no sweep's folder: it has no spec.yaml" in refused([str(tmp_path), "--json"], capsys)
    (tmp_path / "spec.yaml").write_text("[")
    assert "spec.yaml" in refused([str(tmp_path)], capsys)


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    a_sweep(tmp_path, "completed")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "go1_sweep", "status", str(tmp_path), "--json"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("phase", "states", "has_result", "is_held"),
    [
        ("running", [], False, True),
        ("running", ["completed"], False, True),
        ("running", ["completed", "running"], False, True),
        ("running", ["interrupted", "running"], False, True),
        ("final_stage", ["completed", "early_stopped"], False, True),
        ("running", ["interrupted"], False, True),
        ("final_stage", ["completed", "completed"], True, True),
        ("finished", ["completed", "failed"], True, False),
        ("interrupted", ["interrupted"], False, False),
        ("died", [], False, False),
        ("died", ["completed", "running"], False, False),
        ("died", ["completed", "completed"], False, False),
    ],
)
def test_the_phase_follows_from_the_lock_the_trials_and_the_result(tmp_path, phase, states, has_result, is_held):
    paths = a_sweep(tmp_path, *states, result=RESULT if has_result else None)
    with lock.held(paths.lock, slots=2):
        if is_held:
            assert read(tmp_path).phase == phase
    if not is_held:
        assert read(tmp_path).phase == phase
        assert "running" not in {record.state for record in read(tmp_path).records}


LINES = [
    json.dumps({"time": 1.5 * i, **vars(Progress(iterations=i, env_steps=24 * i, train_seconds=0.5 * i))})
    for i in range(1, 200)
]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, sum(len(line) + 1 for line in LINES)), st.binary(max_size=40).filter(lambda b: b"\n" not in b))
def test_of_a_file_of_progress_the_last_complete_line_counts(tmp_path_factory, length, garbage):
    paths = TrialPaths(tmp_path_factory.mktemp("trial"))
    content = "".join(line + "\n" for line in LINES)[:length]
    paths.progress.write_bytes(content.encode())
    complete = content.count("\n")
    expected = Progress(complete, 24 * complete, 0.5 * complete, None) if complete else None
    assert last_progress(paths) == expected
    if content.endswith("\n"):
        paths.progress.write_bytes(content.encode() + garbage + b"}\n")  # as a power cut may leave it
        assert last_progress(paths) == expected


def test_a_running_trial_is_as_far_as_its_own_file_says(tmp_path):
    paths = a_sweep(tmp_path, "running")
    paths.trial("0000").folder.mkdir(parents=True)
    paths.trial("0000").progress.write_text(LINES[0] + "\n" + LINES[1] + "\n" + LINES[2][:20])
    with lock.held(paths.lock, slots=2):
        assert read(tmp_path).records[0].progress.iterations == 2


def test_files_that_are_replaced_meanwhile_do_no_harm(tmp_path):
    paths = a_sweep(tmp_path, "running")
    paths.trial("0000").folder.mkdir(parents=True)
    is_over = threading.Event()

    def replace() -> None:
        while not is_over.is_set():
            for states in (["running"], ["completed", "running"]):
                records = [TrialRecord(f"{i:04d}", {"gamma": 0.5}, i, state) for i, state in enumerate(states)]
                trials_table.write(paths, records, [])
                write_atomically(paths.result, json.dumps(RESULT))
                paths.trial("0000").progress.write_text("\n".join(LINES[: 1 + len(states)]))
                paths.result.unlink()

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        with lock.held(paths.lock, slots=1):
            for _ in range(100):
                assert read(tmp_path).phase in ("running", "final_stage")
    finally:
        is_over.set()
        thread.join()


def test_a_result_that_is_broken_or_has_a_nan_is_no_result(tmp_path):
    paths = a_sweep(tmp_path, "completed")
    odd = [
        {**RESULT, "winner": "x"},
        {**RESULT, "winner": {"trial": "0000"}},
        {**RESULT, "seconds": []},
        {"winner": None},
    ]
    for content in ("", "[1]", '{"winner": NaN}', "{", *map(json.dumps, odd)):
        paths.result.write_text(content)
        assert as_json(read(tmp_path))["winner"] is None


def test_it_needs_neither_ray_nor_optuna_and_writes_nothing(tmp_path):
    a_sweep(tmp_path, "completed", "running", result=RESULT)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    code = (
        "import sys; from go1_sweep import cli; assert cli.main(sys.argv[1:]) == 0; "
        "print(sorted({'ray', 'optuna', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, "status", str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout.splitlines()[-1], done.stderr) == ("[]", "")
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


def test_a_killed_sweep_died_and_its_trials_are_as_far_as_they_came(sweep):
    search = {**SMALL["search"], "fixed": {"env.step_seconds": 0.05}}
    running = sweep(search=search, budget={"unit": "iterations", "max": 1000})
    command = running.start()
    progress = TrialPaths(running.folder / "trials" / "0000")
    wait_for(lambda: last_progress(progress), 60, "the first report")
    assert status(running.folder)[0]["phase"] == "running"

    os.kill(command.process.pid, signal.SIGKILL)
    command.finish()

    said, text = status(running.folder)
    last = last_progress(progress)
    assert last is not None
    assert (said["phase"], said["eta_seconds"]) == ("died", None)
    assert set(said["states"]) == {"interrupted"}
    assert said["trials"][0]["iterations"] == last.iterations
    assert said["trials"][0]["why"] == "the sweep died"
    assert text.startswith("sweep: died (process ")


WATCH = [sys.executable, "-m", "go1_sweep", "status", "--watch"]


def test_watch_shows_on_a_terminal_what_changes_until_the_sweep_is_over(tmp_path):
    paths, written = a_sweep(tmp_path, "running"), bytearray()
    ours, theirs = pty.openpty()

    def has_shown(text: str) -> bool:
        with contextlib.suppress(BlockingIOError, OSError):  # EIO: the program has ended
            written.extend(os.read(ours, 65536))
        return text in written.decode(errors="replace")

    os.set_blocking(ours, False)
    with lock.held(paths.lock, slots=1):
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24"}
        watching = subprocess.Popen([*WATCH, str(tmp_path)], stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        wait_for(lambda: has_shown("1 running, 1 not drawn"), 30, "the first table")
        records = [TrialRecord(f"{i:04d}", {"gamma": 0.5}, i, state) for i, state in enumerate(["failed", "running"])]
        records[0].why = "told to fail"
        trials_table.write(paths, records, [])
        wait_for(lambda: has_shown("last failure: trial 0000: told to fail"), 30, "the failure")
        assert watching.poll() is None
        paths.result.write_text(json.dumps({**RESULT, "no_winner": "there was none"}))
    wait_for(lambda: has_shown("there was none"), 30, "what came of it")
    assert watching.wait(30) == 0
    os.close(ours)


def test_watch_without_a_terminal_tells_what_changes_in_a_line_and_at_the_end_all(tmp_path):
    paths = a_sweep(tmp_path, "completed", "running")
    with lock.held(paths.lock, slots=1):
        watching = subprocess.Popen([*WATCH, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert watching.stdout
        assert watching.stdout.readline().startswith("running: 1 running, 1 completed; 0:00:0")
        a_sweep(tmp_path, "completed", "failed")
        assert watching.stdout.readline().startswith("final stage: 1 completed, 1 failed; 0:00:")
        paths.result.write_text(json.dumps(RESULT))
    out, _ = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert out.startswith("sweep: finished") and "0000 completed" in " ".join(out.split())


def test_ctrl_c_leaves_watch_and_is_no_failure(tmp_path):
    paths = a_sweep(tmp_path, "running")
    ours, theirs = pty.openpty()
    with lock.held(paths.lock, slots=1):
        watching = subprocess.Popen([*WATCH, str(tmp_path)], stdout=theirs, stderr=theirs)
        os.close(theirs)
        assert os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    os.close(ours)


def test_of_each_rung_is_told_how_many_came_and_how_many_were_stopped(tmp_path, capsys):
    paths = a_sweep(tmp_path)
    stopping = {"scheduler": "asha", "grace": 0.1, "reduction_factor": 3}
    budget = {"unit": "iterations", "max": 90}
    paths.spec.write_text(yaml.safe_dump({**SMALL, "budget": budget, "early_stopping": stopping}))
    came = {"0000": ("early_stopped", 9), "0001": ("early_stopped", 10), "0002": ("early_stopped", 27)}
    came |= {"0003": ("completed", 90), "0004": ("running", 8), "baseline": ("completed", 90)}
    records = [
        TrialRecord(trial, {"gamma": 0.5}, 0, state, progress=Progress(iterations=iterations))
        for trial, (state, iterations) in came.items()
    ]
    trials_table.write(paths, records, [])
    assert cli.main(["status", str(tmp_path)]) == 0
    assert "rungs [iterations]: 4 at 9, 2 stopped; 2 at 27, 1 stopped\n" in capsys.readouterr().out
