"""A sweep that was ended, however, goes on and ends as the undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from conftest import Command, Sweep, start, wait_for, write_sweep
from test_repeat import told

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


def test_stop_lets_each_trial_publish_where_it_stands_and_run_goes_on_from_there(tmp_path):
    sweep = write_sweep(
        tmp_path,
        search={
            "trials": 3,
            "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
            "fixed": {"env.step_seconds": 0.02, "agent.save_interval": 1000},
        },
        budget={"unit": "iterations", "max": 60},
        resources={"gpus": 0, "concurrent": 2},
    )
    running = sweep.start()
    wait_for(lambda: sweep.iterations("0000") and sweep.iterations("0001"), 90, "the first reports")

    code, _, err = sweep.run()
    assert code == 2
    assert f"{sweep.folder} runs already (process {running.process.pid} on " in err
    code, out, err = start("stop", str(sweep.folder)).finish()
    assert (code, err) == (0, "")
    assert f"Stopped. Go on: python -m go1_sweep resume {sweep.folder}" in out
    code, _, err = running.finish()
    assert code == 130
    assert f"interrupted; go on: python -m go1_sweep resume {sweep.folder}" in err
    assert {row["state"] for row in sweep.trials().values()} == {"interrupted"}
    stood = {}
    for trial in ("0000", "0001"):
        (published,) = checkpoint.read_manifest(TrialPaths(sweep.folder / "trials" / trial))
        stood[trial] = published.progress.iterations
        assert sweep.iterations(trial)[-1] == stood[trial] >= int(sweep.trials()[trial]["iterations"])
    assert start("stop", str(sweep.folder)).finish()[1] == f"{sweep.folder} does not run (interrupted)\n"

    code, out, err = sweep.run()
    assert code == 0, err
    assert "Going on: 0 trials are over, 2 were interrupted" in out
    assert {row["state"] for row in sweep.trials().values()} == {"completed"}
    for trial, iterations in stood.items():
        assert sweep.iterations(trial) == list(range(1, 61))
        log = (sweep.folder / "trials" / trial / "progress.jsonl").read_text().splitlines()
        pause = json.loads(log[iterations])["time"] - json.loads(log[iterations - 1])["time"]
        assert pause > 2, f"{trial} went on from its checkpoint, with a fresh process between"
