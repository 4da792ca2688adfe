"""A sweep that was ended, however, goes on and ends as the undisturbed one does."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Command, Sweep, start, wait_for, write_sweep
from test_repeat import told
from test_wandb import WANDB, of_trials, upload
from wandb_files import Run
from wandb_server import serving

from go1_sweep import checkpoint
from go1_sweep.paths import TrialPaths

SEARCH = {
    "trials": 12,  # the last two by TPE
    "seed": 3,
    "parameters": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}},
    # 128 episodes end in each iteration, so that rsl_rl's mean of the last 100 remembers none from before a kill
    "fixed": {"schedule": "fixed", "num_envs": 128, "env.step_seconds": 0.01, "agent.save_interval": 2},
}


def make(folder: Path) -> Sweep:
    folder.mkdir()
    return write_sweep(
        folder,
        search=SEARCH,
        baseline=True,
        budget={"unit": "iterations", "max": 8},
        early_stopping={"window": 1, "grace": 0.5, "reduction_factor": 2},
        resources={"gpus": 0, "concurrent": 1},
    )


def kill_in(sweep: Sweep, command: Command, trial: str, iteration: int) -> None:
    """Kill the driver when the trial has come that far."""
    wait_for(lambda: iteration in sweep.iterations(trial), 90, f"iteration {iteration} of {trial}")
    os.kill(command.process.pid, signal.SIGKILL)
    command.finish()


def test_a_sweep_that_is_killed_twice_and_resumed_ends_as_the_undisturbed_one(tmp_path):
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    undisturbed = one.start()
    kill_in(other, other.start(), "0001", 3)
    kill_in(other, start("resume", str(other.folder)), "0006", 2)
    code, out, err = start("resume", str(other.folder)).finish()
    assert code == 0, err
    assert "Going on: " in out
    assert undisturbed.finish()[0] == 0
    assert told(other) == told(one)
    rows = other.trials()
    assert {row["state"] for row in rows.values()} == {"completed", "early_stopped"}
    for trial, row in rows.items():
        assert other.iterations(trial) == list(range(1, int(row["iterations"]) + 1)), "each iteration once"

    code, out, err = other.run()
    assert (code, err) == (0, "")
    assert f"{other.folder} is finished; for more trials: python -m go1_sweep resume" in out

    code, _, err = other.run("--set", "budget.max=30", "--set", "search.parameters.gamma={uniform: [0.9, 0.99]}")
    assert code == 2
    assert f"{other.folder} exists already, and is another sweep:" in err
    assert "budget.max: 8 before, 30 now" in err
    assert "search.parameters.gamma.uniform: null before, [0.9, 0.99] now" in err

    study = (other.folder / "optuna.db").read_bytes()
    (other.folder / "optuna.db").unlink()
    code, _, err = start("resume", str(other.folder), "--trials", "14").finish()
    assert code == 2
    assert "optuna.db, which says which parameters its trials have, is lost" in err
    (other.folder / "optuna.db").write_bytes(study)
    (other.folder / "trials.csv").write_text("damaged")

    code, out, err = start("resume", str(other.folder), "--trials", "14").finish()
    assert code == 0, err
    assert "What the sweep itself has judged is taken" in out
    after = other.trials()
    assert {trial: after[trial] for trial in rows} == rows, "what is done stays"
    assert set(after) - set(rows) == {"0012", "0013"}
    assert json.loads((other.folder / "result.json").read_text())["phase"] == "finished"


A_DAY = 86400.0
"""That the sweep is said to have taken until it was stopped."""


@dataclass
class Course:
    """A sweep that was killed, resumed, stopped and run to its end.

    Attributes:
        killed: what W&B had when it was killed, before it had a checkpoint.
        refused: the end of another driver while it ran.
        stop: the end of ``stop``.
        stopped: the end of the sweep that was stopped.
        again: the end of ``stop`` of a sweep that does not run.
        rows: what was in ``trials.csv`` then.
        stood: the iterations that each trial had published.
        logged: those in its ``logs.csv``.
        at_w_and_b: why each trial had ended.
        out: what the sweep said that came to its end.
    """

    sweep: Sweep
    killed: dict[str, Run]
    refused: tuple[int, str, str]
    stop: tuple[int, str, str]
    stopped: tuple[int, str, str]
    again: tuple[int, str, str]
    rows: dict[str, dict[str, str]]
    stood: dict[str, int]
    logged: dict[str, list[int]]
    at_w_and_b: set[str]
    out: str


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    sweep = write_sweep(
        tmp_path_factory.mktemp("course"),
        search={
            "trials": 2,
            "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
            "fixed": {"env.step_seconds": 0.02, "agent.save_interval": 1000},
        },
        budget={"unit": "iterations", "max": 120},
        resources={"gpus": 0, "concurrent": 2},
        tracking={"wandb": {**WANDB, "mode": "offline"}},
    )

    def come_to(iteration: int) -> None:
        for trial in ("0000", "0001"):
            wait_for(lambda trial=trial: iteration in sweep.iterations(trial), 90, f"iteration {iteration} of {trial}")

    running = sweep.start()
    come_to(3)
    os.kill(running.process.pid, signal.SIGKILL)
    running.finish()  # no process is left
    killed = of_trials(sweep)

    running = start("resume", str(sweep.folder))
    come_to(15)
    refused, stop = sweep.run(), start("stop", str(sweep.folder)).finish()
    stopped, again = running.finish(), start("stop", str(sweep.folder)).finish()
    rows, stood = sweep.trials(), {}
    for trial in rows:
        (published,) = checkpoint.read_manifest(TrialPaths(sweep.folder / "trials" / trial))
        stood[trial] = published.progress.iterations
    logged = {trial: sweep.iterations(trial) for trial in rows}
    at_w_and_b = {run.summary["why"] for run in of_trials(sweep).values()}
    result = json.loads((sweep.folder / "result.json").read_text())
    result["seconds"]["wall"] = A_DAY
    (sweep.folder / "result.json").write_text(json.dumps(result))

    code, out, err = sweep.run()
    assert code == 0, err
    return Course(sweep, killed, refused, stop, stopped, again, rows, stood, logged, at_w_and_b, out)


def test_stop_lets_each_trial_publish_where_it_stands_and_run_goes_on_from_there(course):
    folder = course.sweep.folder
    assert course.refused[0] == 2
    assert re.search(rf"{folder} runs already \(process \d+ on ", course.refused[2])
    assert (course.stop[0], course.stop[2]) == (0, "")
    assert f"Stopped. Go on: python -m go1_sweep resume {folder}" in course.stop[1]
    assert course.stopped[0] == 130
    assert f"interrupted; go on: python -m go1_sweep resume {folder}" in course.stopped[2]
    assert {row["state"] for row in course.rows.values()} == {"interrupted"}
    for trial, row in course.rows.items():
        assert course.logged[trial][-1] == course.stood[trial] >= int(row["iterations"])
    assert course.again[1] == f"{folder} does not run (interrupted)\n"

    assert "Going on: trials that are over: 0, interrupted: 2" in course.out
    wall = json.loads((folder / "result.json").read_text())["seconds"]["wall"]
    assert A_DAY < wall < A_DAY + 600, "what it took before and since, together"
    assert {row["state"] for row in course.sweep.trials().values()} == {"completed"}
    for trial, iterations in course.stood.items():
        assert course.sweep.iterations(trial) == list(range(1, 121))
        log = (folder / "trials" / trial / "progress.jsonl").read_text().splitlines()
        pause = json.loads(log[iterations])["time"] - json.loads(log[iterations - 1])["time"]
        assert pause > 2, f"{trial} went on from its checkpoint, with a fresh process between"


def test_a_sweep_that_is_killed_stopped_and_resumed_logs_each_iteration_once_at_w_and_b(course, tmp_path):
    assert {tuple(run.tags) for run in course.killed.values()} == {("fake", "flat", "interrupted")}
    assert course.killed["0000"].history, "which are all trained again: there was no checkpoint yet"
    assert course.at_w_and_b == {"the sweep was interrupted"}
    found = of_trials(course.sweep)
    for trial, run in found.items():
        assert run.record.run_id == course.killed[trial].record.run_id
        assert [row["_step"] for row in run.history] == course.sweep.iterations(trial) == list(range(1, 121))
        assert run.tags == ["fake", "flat", "completed"]
    assert len(found) == 2

    (said,) = re.findall("W&B: (.*)", course.out)
    with serving() as server:
        upload(said, tmp_path, WANDB_BASE_URL=server.address)
    for run in found.values():
        assert [row["iteration"] for row in server.runs[run.record.run_id].history] == list(range(1, 121))
