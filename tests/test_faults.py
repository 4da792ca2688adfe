"""Whatever a simulator does, the sweep ends, says what became of each trial, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from conftest import alive, wait_for

from go1_sweep.errors import UserError
from go1_sweep.sweep import local_ray

FAULTS = {
    "": ("completed", "whole budget"),
    "slow": ("completed", "whole budget"),
    "child": ("completed", "whole budget"),
    "crash": ("failed", "SIGSEGV"),
    "exit": ("failed", "exit code 0"),
    "raise": ("failed", "told to fail"),
    "hang": ("failed", "said nothing for"),
    "nan": ("failed", "NaN"),
    "inf": ("failed", "diverged in iteration 2: mean_reward was not finite"),
    "oom": ("infeasible", "out of memory"),
    "garbage": ("failed", "not a message"),
    "half_line": ("failed", "exit code 1"),
}
DIVERGED = {"divergence": 1.0}


def study_of(sweep) -> dict[str | int, optuna.trial.FrozenTrial]:
    """The sweep's Optuna trials by our id, which one has that was drawn to its end."""
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep.folder / 'optuna.db'}")
    return {trial.user_attrs.get("trial", trial.number): trial for trial in study.trials}


@pytest.mark.timeout(600)
def test_every_fault_ends_its_own_trial_with_the_right_state(sweep):
    parameters = {"env.fault": {"choice": list(FAULTS)}, "learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    search = {"trials": 14, "sampler": "random", "seed": 326, "parameters": parameters}
    faulty = sweep(search=search, resources={"gpus": 0, "stall_timeout": 40, "retries": 0})

    code, _, err = faulty.run(seconds=580)

    assert code == 0, err
    rows, study = faulty.trials(), study_of(faulty)
    for row in rows.values():
        row["env.fault"] = row["env.fault"].strip("'")  # no fault is text without a letter, in quotes
    assert {row["env.fault"] for row in rows.values()} == set(FAULTS), "the seed must draw every fault"
    for trial, row in rows.items():
        state, why = FAULTS[row["env.fault"]]
        assert (row["state"], trial) == (state, trial), row
        assert why in row["why"]
        assert study[trial].user_attrs["state"] == state
        violated = {"oom": {"memory": 1.0}, "nan": DIVERGED, "inf": DIVERGED}.get(row["env.fault"], {})
        expected = "PRUNED" if violated else {"completed": "COMPLETE", "failed": "FAIL"}[state]
        assert study[trial].state.name == expected
        assert study[trial].constraints == violated


def first_report(sweep) -> Callable[[], bool]:
    progress = sweep.folder / "trials" / "0000" / "progress.jsonl"
    return lambda: progress.exists() and bool(progress.read_text())


@pytest.mark.parametrize("victim", ["actor", "driver"])
def test_whoever_is_killed_takes_the_whole_process_tree_along(sweep, victim):
    search = {
        "trials": 3,
        "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
        "fixed": {"env.fault": "child", "env.fault_iteration": 1, "env.step_seconds": 0.02},
    }
    budget = {"unit": "train_seconds", "max": 5}
    running = sweep(search=search, budget=budget, resources={"gpus": 0, "concurrent": 1})
    command = running.start()
    wait_for(first_report(running), 60, "the first report")
    workers = [p for p in command.descendants() if "go1_sweep.trial" in p.cmdline()]
    tree = [*workers, *(p for p in command.descendants() if "sleep" in p.cmdline())]
    assert len(tree) > len(workers) >= 1
    actor = next(p for p in workers[0].parents() if p.name().startswith("ray::"))

    os.kill(actor.pid if victim == "actor" else command.process.pid, signal.SIGKILL)

    wait_for(lambda: not alive(tree), 20, "the end of the worker and of what it started")
    code, out, err = command.finish()
    if victim == "driver":
        return
    assert code == 0, err
    assert "Traceback" not in err
    states = {trial: (row["state"], row["why"]) for trial, row in running.trials().items()}
    assert {state for state, _ in states.values()} == {"completed"}
    assert "trial 0000: its actor died (killed, or its host went down): it goes on in another one" in out
    iterations = running.iterations("0000")
    assert iterations == list(range(1, len(iterations) + 1)), "each once"


def test_an_interrupted_sweep_lets_each_trial_end_its_iteration_and_says_so(sweep):
    search = {
        "trials": 4,
        "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}},
        "fixed": {"env.step_seconds": 0.05},
    }
    running = sweep(search=search, budget={"unit": "iterations", "max": 1000})
    command = running.start()
    wait_for(first_report(running), 60, "the first report")

    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does it: to the whole foreground group

    code, out, err = command.finish(60)
    assert (code, "Traceback" in err) == (130, False), err
    assert "Stopping: each trial ends with its current iteration." in out
    assert str(running.folder) in err
    assert_all_interrupted(running)


def test_the_second_interrupt_ends_a_sweep_whose_trials_hang(sweep):
    search = {"trials": 4, "parameters": {"env.fault": {"choice": ["hang"]}}}
    running = sweep(search=search, resources={"gpus": 0, "concurrent": 2})
    command = running.start()
    wait_for(first_report(running), 60, "the first report")
    lines: list[str] = []
    assert command.process.stdout is not None

    os.killpg(command.process.pid, signal.SIGINT)
    while not (lines and "Stopping:" in lines[-1]):
        lines.append(command.process.stdout.readline())
    os.killpg(command.process.pid, signal.SIGINT)

    code, _, err = command.finish(60)
    assert (code, "Traceback" in err) == (130, False), err
    assert str(running.folder) in err
    assert_all_interrupted(running)
    assert json.loads((running.folder / "result.json").read_text())["winner"] is None


def assert_all_interrupted(sweep) -> None:
    assert {row["state"] for row in sweep.trials().values()} == {"interrupted"}
    drawn = study_of(sweep).values()  # one that a second Ctrl-C came upon while it was drawn has not begun
    assert {(t.state.name, t.user_attrs.get("state", "interrupted")) for t in drawn} == {("RUNNING", "interrupted")}


def test_a_sweep_in_which_all_trials_fail_exits_with_3(sweep):
    failing = sweep(search={"trials": 2, "parameters": {"env.fault": {"choice": ["raise"]}}})

    code, out, err = failing.run()

    assert code == 3
    assert "no trial succeeded" in err
    assert str(failing.folder / "trials.csv") in err
    assert "told to fail" in out, "the failure carries its evidence"


def test_a_ray_that_does_not_start_is_an_error_and_leaves_nothing_behind(monkeypatch, tmp_path):
    began: list[subprocess.Popen[bytes]] = []

    def init(**_: Any) -> None:
        began.append(subprocess.Popen(["sleep", "60"]))
        raise Exception("The current node timed out during startup.")  # as Ray raises it

    monkeypatch.setattr(local_ray.ray, "init", init)
    for name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"):  # are changed, and given back after the test
        monkeypatch.setenv(name, "")
    with (
        pytest.raises(UserError, match="Ray did not start: Exception: The current node timed out"),
        local_ray.local_ray(str(tmp_path), "try again"),
    ):
        pytest.fail("it did not start")
    assert began[0].wait(10) == -signal.SIGKILL
