"""Whatever a simulator does, the sweep ends, says what became of each trial, and leaves no process behind."""

from __future__ import annotations

import os
import signal

import optuna
import psutil
import pytest
from conftest import wait_for

FAULTS = {
    "": ("completed", "whole budget"),
    "slow": ("completed", "whole budget"),
    "child": ("completed", "whole budget"),
    "crash": ("failed", "SIGSEGV"),
    "exit": ("failed", "exit code 0"),
    "raise": ("failed", "told to fail"),
    "hang": ("failed", "said nothing for"),
    "nan": ("failed", "NaN"),
    "oom": ("infeasible", "out of memory"),
    "garbage": ("failed", "not a message"),
    "half_line": ("failed", "exit code 1"),
}


def study_of(sweep) -> dict[str, optuna.trial.FrozenTrial]:
    """The sweep's Optuna trials by our id."""
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep.folder / 'optuna.db'}")
    return {trial.user_attrs["trial"]: trial for trial in study.trials}


@pytest.mark.timeout(600)
def test_every_fault_ends_its_own_trial_with_the_right_state(sweep):
    parameters = {"env.fault": {"choice": list(FAULTS)}, "learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    search = {"trials": 14, "sampler": "random", "seed": 139, "parameters": parameters}
    faulty = sweep(search=search, resources={"gpus": 0, "stall_timeout": 25})

    code, _, err = faulty.run(seconds=580)

    assert code == 0, err
    rows, study = faulty.trials(), study_of(faulty)
    assert {row["env.fault"] for row in rows.values()} == set(FAULTS), "the seed must draw every fault"
    for trial, row in rows.items():
        state, why = FAULTS[row["env.fault"]]
        assert (row["state"], trial) == (state, trial), row
        assert why in row["why"]
        assert study[trial].user_attrs["state"] == state
        expected = {"completed": "COMPLETE", "failed": "FAIL", "infeasible": "PRUNED"}[state]
        assert study[trial].state.name == expected
        assert (max(study[trial].constraints.values(), default=0) > 0) == (state == "infeasible")


def test_a_killed_actor_fails_its_trial_alone_and_takes_its_worker_along(sweep):
    search = {
        "trials": 3,
        "parameters": {"env.fault": {"choice": ["hang"]}, "learning_rate": {"uniform": [1e-3, 2e-3]}},
    }
    running = sweep(search=search, resources={"gpus": 0, "stall_timeout": 20, "concurrent": 1})
    command = running.start()

    def in_training() -> list[psutil.Process]:
        workers = [p for p in command.descendants() if "go1_sweep.trial" in p.cmdline()]
        reported = running.folder / "trials" / "0000" / "progress.jsonl"
        return workers if reported.exists() and reported.read_text() else []

    (worker,) = wait_for(in_training, 60, "the first report")
    actor = worker.parent()
    assert actor is not None
    os.kill(actor.pid, signal.SIGKILL)
    wait_for(lambda: not worker.is_running(), 10, "the end of the worker, which hangs with its signals blocked")

    code, _, err = command.finish()

    assert code == 3, err
    states = {trial: (row["state"], row["why"]) for trial, row in running.trials().items()}
    assert states["0000"] == ("failed", "its actor was lost (killed, or its host went down)")
    assert [state for state, _ in states.values()] == ["failed"] * 3
    assert all("said nothing" in why for trial, (_, why) in states.items() if trial != "0000")


@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupted_sweep_says_so_and_ends(sweep, interrupts):
    search = {
        "trials": 4,
        "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
        "fixed": {"env.step_seconds": 0.05},
    }
    running = sweep(search=search, budget={"unit": "iterations", "max": 1000})
    command = running.start()
    reported = running.folder / "trials" / "0000" / "progress.jsonl"
    wait_for(lambda: reported.exists() and reported.read_text(), 60, "the first report")

    for _ in range(interrupts):
        os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does it: to the whole foreground group

    code, _, err = command.finish(60)
    assert code == 130, err
    assert "Traceback" not in err
    assert {row["state"] for row in running.trials().values()} == {"interrupted"}
    assert {trial.state.name for trial in study_of(running).values()} == {"RUNNING"}


def test_a_sweep_in_which_all_trials_fail_exits_with_3(sweep):
    failing = sweep(search={"trials": 2, "parameters": {"env.fault": {"choice": ["raise"]}}})

    code, out, err = failing.run()

    assert code == 3
    assert "no trial succeeded" in err
    assert str(failing.folder / "trials.csv") in err
    assert "told to fail" in out, "the failure carries its evidence"
