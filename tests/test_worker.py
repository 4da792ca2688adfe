"""The simulator worker, spoken to directly, as the trial actor does."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
import yaml
from conftest import alive, logs, wait_for

from go1_sweep import checkpoint, protocol, simulators
from go1_sweep.paths import TrialPaths
from go1_sweep.simulators.fake_env import FakeEnv
from go1_sweep.sweep import trainable
from go1_sweep.trial.link import Link
from go1_sweep.trial.progress import TrialLog
from go1_sweep.trial.train import train
from go1_sweep.worker import leftovers, process
from go1_sweep.worker.process import WorkerFailed, WorkerSpec

TIMEOUT = 240.0


def request(folder: Path, trial: str = "a", **changes) -> protocol.Train:
    (folder / trial).mkdir(parents=True, exist_ok=True)
    fields = {
        "trial": trial,
        "folder": str(folder / trial),
        "task": "flat",
        "parameters": {},
        "seed": 7,
        "budget_unit": "iterations",
        "budget_max": 4,
        "checkpoints_at": [],
        "metric": "mean_reward",
        "window": 2,
    }
    return protocol.Train(**{**fields, **changes})


class Talk:
    """A worker, and the actor's half of the conversation."""

    def __init__(self, simulator: str, log: Path, python: Path | None = None) -> None:
        self.worker = WorkerSpec(simulator, str(python) if python else None, "cpu", 1, 60).start(log)
        self.hello = self.receive()

    def receive(self) -> protocol.Message:
        return self.worker.receive(TIMEOUT)

    def begin(self, train: protocol.Train) -> None:
        self.worker.send(train)
        started = self.receive()
        assert isinstance(started, protocol.Started)
        assert (started.trial, started.gpu_memory) == (train.trial, [])
        assert started.memory > 2**25

    def train(self, train: protocol.Train) -> protocol.Ended:
        self.begin(train)
        while isinstance(message := self.receive(), protocol.Report):
            self.worker.send(protocol.Continue(train.trial))
        assert isinstance(message, protocol.Ended)
        return message


@pytest.fixture
def talk(tmp_path):
    talks: list[Talk] = []

    def start(simulator: str = "fake") -> Talk:
        talks.append(Talk(simulator, tmp_path / f"worker{len(talks)}.log"))
        return talks[-1]

    yield start
    for each in talks:
        each.worker.close()


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Iterator[Talk]:
    """One worker for all tests whose trials complete: it repeats a fresh one, as a test below says."""
    talk = Talk("fake", tmp_path_factory.mktemp("warm") / "worker.log")
    yield talk
    talk.worker.close()


def without_times(folder: Path) -> list[dict[str, str]]:
    timed = ("train_seconds", "steps_per_second", "collection_seconds", "learning_seconds")
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in logs(folder)]


def test_a_trial_leaves_what_rsl_rl_users_know_and_the_manifest_names_complete_files(warm, tmp_path):
    ended = warm.train(request(tmp_path, checkpoints_at=[3.0], parameters={"save_interval": 2}))
    paths = TrialPaths(tmp_path / "a")

    assert (ended.state, ended.progress.iterations) == ("completed", 4)
    assert [row["iteration"] for row in logs(paths.folder)] == ["1", "2", "3", "4"]
    assert [json.loads(line)["iterations"] for line in paths.progress.read_text().splitlines()] == [1, 2, 3, 4]
    assert list(paths.folder.glob("events.out.tfevents*"))
    assert "Learning iteration" in paths.worker_log.read_text()
    published = checkpoint.read_manifest(paths)
    assert [entry.file for entry in published] == ["model_2.pt", "model_3.pt", "model_4.pt"]
    for entry in published:
        assert (paths.folder / entry.file).stat().st_size == entry.size
        assert torch.load(paths.folder / entry.file, weights_only=True)["iter"] == entry.progress.iterations
    assert sorted(p.name for p in paths.folder.glob("*.pt")) == [entry.file for entry in published]


def test_a_trial_has_the_memory_that_the_one_before_it_had(warm, tmp_path):
    most = {"num_envs": 5000, "env.memory_envs": 5000}
    for trial in ("a", "b"):
        ended = warm.train(request(tmp_path, trial, parameters=most, budget_max=1))
        assert (ended.state, ended.why) == ("completed", "used its whole budget")


def test_the_score_is_the_mean_over_the_window_and_the_progress_adds_up(warm, tmp_path):
    ended = warm.train(request(tmp_path, budget_max=5, window=3))
    rewards = [float(row["mean_reward"]) for row in logs(tmp_path / "a")]
    assert ended.progress.score == pytest.approx(sum(rewards[-3:]) / 3)
    assert ended.progress.env_steps == 5 * 32 * 8
    assert float(logs(tmp_path / "a")[-1]["train_seconds"]) == pytest.approx(ended.progress.train_seconds, abs=1e-5)


def test_after_a_resume_the_score_stays_until_each_env_has_begun_an_episode_of_its_own(warm, tmp_path):
    """rsl_rl begins with episodes cut short, whose returns say nothing of the policy."""
    worker, parameters = warm, {"env.episode_steps": 32}  # 8 steps an iteration: the fourth ends the last cut one
    before = worker.train(request(tmp_path, budget_max=12, window=3, parameters=parameters)).progress.score
    newest = str(TrialPaths(tmp_path / "a").checkpoints()[-1])

    worker.begin(request(tmp_path, budget_max=20, window=3, parameters=parameters, checkpoint=newest))
    scores, stale = [], []
    while isinstance(message := worker.receive(), protocol.Report):
        scores.append(message.progress.score)
        stale.append(message.progress.is_stale)
        worker.worker.send(protocol.Continue("a"))

    rewards = [float(row["mean_reward"]) for row in logs(tmp_path / "a")]
    assert scores[:3] == [before] * 3 != [pytest.approx(reward) for reward in rewards[12:15]]
    assert stale == [True] * 3 + [False] * 5
    assert scores[3:6] == [pytest.approx(sum(rewards[15:end]) / (end - 15)) for end in (16, 17, 18)]
    assert scores[-1] == pytest.approx(sum(rewards[-3:]) / 3)


def test_config_yaml_is_safe_yaml_with_the_seed_the_parameters_and_the_resolved_configuration(warm, tmp_path):
    warm.train(request(tmp_path, budget_max=1, parameters={"learning_rate": 2e-3}))
    config = yaml.safe_load(TrialPaths(tmp_path / "a").config.read_text())
    assert config["seed"] == 7
    assert config["parameters"] == {"learning_rate": 2e-3}
    assert config["agent"]["algorithm"]["learning_rate"] == 2e-3
    assert config["agent"]["algorithm"]["class_name"] == "PPO", "written before the runner pops from it"
    assert set(config["versions"]) == {"torch", "rsl-rl-lib"}


@pytest.mark.parametrize(("unit", "maximum", "iterations"), [("env_steps", 600, 3), ("iterations", 3, 3)])
def test_the_budget_ends_with_the_iteration_that_reaches_it(warm, tmp_path, unit, maximum, iterations):
    ended = warm.train(request(tmp_path, budget_unit=unit, budget_max=maximum))
    assert (ended.state, ended.progress.iterations) == ("completed", iterations)


def test_train_seconds_count_training_alone(warm, tmp_path):
    slow = {"env.step_seconds": 0.02, "num_steps_per_env": 5}
    ended = warm.train(request(tmp_path, budget_unit="train_seconds", budget_max=0.35, parameters=slow))
    before, last = (float(row["train_seconds"]) for row in logs(tmp_path / "a")[-2:])
    assert before < 0.35 <= last
    assert ended.progress.train_seconds == pytest.approx(last, abs=1e-5)


def test_a_clock_that_is_set_in_the_middle_counts_as_no_training(tmp_path, monkeypatch):
    now, step, ahead = time.time, FakeEnv.step, [0.0]

    class Deaf:
        """A link to nobody, who lets the trial go on."""

        def send(self, message: protocol.Message) -> None:
            sent.append(message)

        def receive(self) -> protocol.Message:
            return protocol.Continue("a")

        def waiting(self) -> None:
            return None

    def set_clock(self: FakeEnv, actions: torch.Tensor) -> Any:
        ahead[0] += 3600.0
        return step(self, actions)

    sent: list[protocol.Message] = []
    monkeypatch.setattr(time, "time", lambda: now() + ahead[0])
    monkeypatch.setattr(FakeEnv, "step", set_clock)
    train(simulators.load("fake"), request(tmp_path, budget_max=2), "cpu", cast("Link", Deaf()))
    (ended,) = (message for message in sent if isinstance(message, protocol.Ended))
    assert (ended.state, ended.progress.iterations) == ("completed", 2)
    assert 0.0 < ended.progress.train_seconds < 60.0


def test_the_worker_is_at_most_one_iteration_ahead_and_drops_it_when_stopped(talk, tmp_path):
    ahead = talk()
    ahead.begin(request(tmp_path, budget_max=1000))
    assert isinstance(ahead.receive(), protocol.Report)
    with pytest.raises(WorkerFailed, match="said nothing"):
        ahead.worker.receive(1.0)  # hundreds of iterations would fit into this second
    ahead.worker.send(protocol.Stop("a"))
    ended = ahead.receive()
    assert isinstance(ended, protocol.Ended)
    assert (ended.state, ended.progress.iterations) == ("stopped", 1)
    assert len(logs(tmp_path / "a")) == 1
    assert ahead.train(request(tmp_path, "b")).state == "completed", "the worker is fit for the next trial"


def test_at_a_rung_the_worker_computes_nothing_before_it_hears_whether_the_trial_goes_on(talk, tmp_path):
    rung = talk()
    crashes_next = {"env.fault": "crash", "env.fault_iteration": 2}
    rung.begin(request(tmp_path, checkpoints_at=[1.0], parameters=crashes_next))
    assert isinstance(rung.receive(), protocol.Report)
    with pytest.raises(WorkerFailed, match="said nothing"):
        rung.worker.receive(1.0)
    rung.worker.send(protocol.Stop("a"))
    ended = rung.receive()
    assert isinstance(ended, protocol.Ended)
    assert (ended.state, ended.progress.iterations) == ("stopped", 1)


def test_a_trial_without_a_score_has_failed_and_says_which_metric_is_missing(talk, tmp_path):
    ended = talk().train(request(tmp_path, metric="Curriculum/heigth"))
    assert (ended.state, ended.progress.score) == ("failed", None)
    assert "Curriculum/heigth" in ended.why


def test_what_the_task_adds_can_be_the_metric(warm, tmp_path):
    ended = warm.train(request(tmp_path, metric="Curriculum/level"))
    assert ended.state == "completed"
    assert ended.progress.score == pytest.approx(
        sum(float(row["Curriculum/level"]) for row in logs(tmp_path / "a")[-2:]) / 2
    )


def test_a_column_that_comes_late_is_there_for_all_rows(warm, tmp_path):
    warm.train(request(tmp_path, parameters={"env.episode_steps": 20, "num_steps_per_env": 4}, budget_max=8))
    table = logs(tmp_path / "a")
    assert [row["iteration"] for row in table] == [str(i) for i in range(1, 9)]
    assert table[0]["mean_reward"] == "" or float(table[0]["mean_reward"]) > 0
    assert float(table[-1]["mean_reward"]) > 0


def test_the_check_finds_tasks_and_judges_each_setting(talk):
    checking = talk()
    checking.worker.send(protocol.Check("flat", [{"learning_rate": 1e-3}, {"env.nmu_envs": 3}]))
    answer = checking.receive()
    assert isinstance(answer, protocol.Checked)
    assert (answer.task_id, answer.errors[0]) == ("Fake-Flat-Unitree-Go1", "")
    assert "did you mean 'num_envs'" in answer.errors[1]
    checking.worker.send(protocol.Check("flat2", []))
    answer = checking.receive()
    assert isinstance(answer, protocol.Checked)
    assert "did you mean 'flat'" in answer.error


def test_the_fake_simulator_answers_a_check_without_torch(talk):
    checking = talk()
    checking.worker.send(protocol.Check("flat", [{"learning_rate": 1e-3}]))
    assert isinstance(checking.receive(), protocol.Checked)
    assert "torch" not in Path(f"/proc/{checking.worker._process.pid}/maps").read_text()


def test_closing_the_pipe_ends_the_worker_with_all_that_it_started(talk, tmp_path):
    closing = talk()
    process = psutil.Process(closing.worker._process.pid)
    closing.begin(request(tmp_path, parameters={"env.fault": "child", "env.fault_iteration": 1}, budget_max=10**6))
    closing.receive()
    children = wait_for(process.children, 10, "the child")
    closing.worker.close()
    assert not process.is_running()
    wait_for(lambda: not alive(children), 10, "the end of the child")


def test_a_worker_that_cannot_be_killed_is_told_and_not_waited_for_any_longer(talk, monkeypatch):
    worker = talk().worker
    group = worker._process.pid
    processes = leftovers.in_group(group)
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    with monkeypatch.context() as hanging:  # in the driver of its GPU, say
        hanging.setattr(process.os, "killpg", lambda *_: None)
        hanging.setattr(process, "END_SECONDS", 0.0)
        hanging.setattr(leftovers, "PATIENCE_SECONDS", 0.0)
        left = worker.close()
    os.killpg(group, signal.SIGKILL)
    worker._process.wait(60)
    assert left == [
        f"process {each} of the simulator worker was killed, and does not end" for each in sorted(processes)
    ]


def test_what_a_worker_started_in_a_session_of_its_own_ends_with_it(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nsetsid sleep 100000 &\necho $! > {tmp_path}/pid\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    talk = Talk("fake", tmp_path / "worker.log", python)
    escaped = psutil.Process(int((tmp_path / "pid").read_text()))
    assert escaped.pid not in leftovers.in_group(talk.worker._process.pid)
    assert talk.worker.close() == []
    assert alive([escaped]) == []


def test_a_missing_interpreter_is_said_in_one_line(tmp_path):
    with pytest.raises(WorkerFailed, match="/no/such/python cannot be started"):
        WorkerSpec("fake", "/no/such/python", "cpu", 1, 60).start(tmp_path / "log")


def test_a_worker_in_another_interpreter_gets_our_package_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = WorkerSpec("fake", sys.executable, "cpu", 1, 60).start(tmp_path / "log")
    try:
        worker.receive(TIMEOUT)
        path = psutil.Process(worker._process.pid).environ()["PYTHONPATH"].split(os.pathsep)
        assert len(path) == 1
        assert [each.name for each in Path(path[0]).iterdir()] == ["go1_sweep"]
    finally:
        worker.close()


def test_a_worker_that_speaks_another_version_is_refused(talk, monkeypatch):
    monkeypatch.setattr(protocol, "VERSION", protocol.VERSION + 1)
    with pytest.raises(WorkerFailed, match="speaks protocol"):
        talk()


def test_a_crash_is_noticed_at_once_though_a_child_of_the_worker_lives_on(talk, tmp_path):
    crashing = talk()
    crashing.begin(request(tmp_path, parameters={"env.fault": "child", "env.fault_iteration": 1}, budget_max=10**6))
    crashing.receive()
    wait_for(lambda: any(p.name() == "sleep" for p in group(crashing)), 10, "the child")
    os.kill(crashing.worker._process.pid, signal.SIGSEGV)
    with pytest.raises(WorkerFailed, match=r"killed by signal 11 \(SIGSEGV\)"):
        while True:
            crashing.worker.receive(20)
    crashing.worker.log_to(TrialPaths(tmp_path / "a").worker_log)
    assert crashing.worker.evidence()[0].startswith("Fatal Python error: Segmentation fault")
    left = group(crashing)
    assert sorted(p.name() for p in alive(left))[-1] == "sleep"
    crashing.worker.close()
    wait_for(lambda: not alive(left), 10, "the end of the child")


def group(talk: Talk) -> list[psutil.Process]:
    """The processes of the worker's group."""
    return [p for p in psutil.process_iter() if os.getpgid(p.pid) == talk.worker._process.pid]


def test_a_metric_that_becomes_nan_fails_the_trial(talk, tmp_path):
    ended = talk().train(request(tmp_path, metric="Curriculum/level", parameters={"env.level_is_nan_from": 3}))
    assert (ended.state, ended.why) == ("failed", "Curriculum/level was not finite in iteration 3")


def test_a_reward_that_explodes_without_a_nan_ends_the_trial_at_once_and_leaves_no_score(talk, tmp_path):
    exploding = {"env.fault": "explode", "env.fault_iteration": 3}
    ended = talk().train(request(tmp_path, budget_max=30, parameters=exploding))
    assert (ended.state, ended.diverged, ended.progress.score) == ("failed", True, None)
    iteration = ended.progress.iterations
    assert 3 <= iteration < 8
    assert re.fullmatch(rf"diverged in iteration {iteration}: \w+ was -?\S+e\+\d+, and \S+ was usual", ended.why)


def test_a_stopped_trial_has_as_many_tensorboard_steps_as_rows(talk, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stopped = talk()
    stopped.begin(request(tmp_path, budget_max=1000))
    stopped.receive()
    stopped.worker.send(protocol.Continue("a"))
    stopped.receive()
    stopped.worker.send(protocol.Stop("a"))
    assert isinstance(stopped.receive(), protocol.Ended)
    stopped.train(request(tmp_path, "b"))
    events = EventAccumulator(str(tmp_path / "a"))
    events.Reload()
    assert len(events.Scalars("Loss/value")) == len(logs(tmp_path / "a")) == 2
    assert not (tmp_path / "a" / "git").exists()


def test_a_worker_whose_guardian_is_killed_ends_too(talk, tmp_path):
    it = talk()
    it.begin(request(tmp_path, parameters={"env.step_seconds": 0.05}, budget_max=1000))
    (guardian,) = [child for child in psutil.Process(it.worker._process.pid).children() if child.name() == "python"]
    guardian.kill()
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        while isinstance(it.receive(), protocol.Report):
            it.worker.send(protocol.Continue("a"))


def test_killed_by_a_signal_is_said_by_its_name(talk, tmp_path):
    killed = talk()
    os.kill(killed.worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed, match=r"killed by signal 9 \(SIGKILL\)"):
        killed.receive()


def test_a_worker_that_has_had_its_trials_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(trainable.ray, "get_gpu_ids", list)
    monkeypatch.setattr(trainable, "end_with_raylet", lambda: None)

    def config(trial: str, max_trials: int | None) -> dict[str, Any]:
        spec = WorkerSpec("fake", None, "cpu", 1, 60, max_trials=max_trials)
        return {"worker": asdict(spec), "train": asdict(request(tmp_path, trial, budget_max=1)), "store": ""}

    actor = object.__new__(trainable.TrialActor)
    actor.setup(config("a", 2))
    try:
        for trial in ("a", "b", "c"):
            actor.reset_config(config(trial, 2))
            while not (result := actor.step())["done"]:
                pass
            assert result["state"] == "completed"
    finally:
        actor.cleanup()
    replaced = ["replaced" in TrialPaths(tmp_path / trial).worker_log.read_text() for trial in ("a", "b", "c")]
    assert replaced == [False, False, True]


def test_memory_counts_as_a_leak_when_it_grows_well_beyond_that_after_the_first_trial():
    gib = 2**30
    assert trainable.leak([gib, 8 * gib, 9 * gib, 10 * gib]) == ""
    assert trainable.leak([gib, 2 * gib, 3 * gib]) == ""
    assert trainable.leak([gib, 12 * gib]) == ""
    assert trainable.leak([gib, 8 * gib, 9 * gib, 12 * gib]) == "its memory grew from 8.0 to 12.0 GiB"


mjlab = pytest.mark.skipif(importlib.util.find_spec("mjlab") is None, reason="mjlab is not installed")


@mjlab
@pytest.mark.timeout(900)
def test_a_reused_worker_repeats_a_fresh_one(talk, tmp_path):
    """Losses and rewards to the last digit, with a trial of another env count in between (mjlab on the CPU)."""
    fresh, reused = talk("mjlab"), talk("mjlab")
    assert fresh.train(request(tmp_path, "fresh", parameters={"num_envs": 8}, budget_max=3)).state == "completed"
    reused.train(request(tmp_path, "first", parameters={"num_envs": 16}, budget_max=2, seed=1))
    reused.train(request(tmp_path, "again", parameters={"num_envs": 8}, budget_max=3))

    assert without_times(tmp_path / "again") == without_times(tmp_path / "fresh")
    columns = without_times(tmp_path / "fresh")[-1]
    names = ("mean_reward", "value_loss", "surrogate_loss", "entropy", "kl")
    assert all(columns[name] for name in (*names, "track_linear_velocity", "track_angular_velocity"))


@mjlab
def test_training_with_mjlab_loads_no_opengl(talk, tmp_path):
    worker = talk("mjlab")
    worker.begin(request(tmp_path, parameters={"num_envs": 4}))
    worker.receive()
    pid = worker.worker._process.pid
    assert psutil.Process(pid).environ()["MUJOCO_GL"] == "disable"
    assert "libEGL" not in Path(f"/proc/{pid}/maps").read_text()


def test_a_metric_that_is_not_logged_ends_a_trial_when_each_env_has_ended_an_episode(talk, tmp_path):
    ended = talk("fake").train(request(tmp_path, metric="mean_rewrad", budget_max=1000))
    assert (ended.state, ended.why) == (
        "failed",
        "no score: each env has ended an episode, and 'mean_rewrad' is not logged; did you mean 'mean_reward'?",
    )
    assert len(logs(tmp_path / "a")) < 5


def test_a_damaged_cell_of_a_log_costs_no_more_than_that(tmp_path):
    paths = TrialPaths(tmp_path)
    paths.logs.write_text("iteration,mean_reward,value_loss\n1,1.x,0.1\n2,3.0,nan\n3,4.0,0.2\n")
    paths.progress.write_text('[1]\n{"iterations": 2}\n{"iterations": 3}\n')
    log = TrialLog(paths, "mean_reward", 2, protocol.Progress(2, 24, 0.5, 1.5), 0, pytest.fail)
    log.add({"Train/mean_reward": 1.0, "Perf/collection_time": 0.1, "Perf/learning_time": 0.1}, 0.2, 24, None)
    log.close()
    assert [(row["iteration"], row["mean_reward"], row["value_loss"]) for row in logs(tmp_path)] == [
        ("1", "", "0.1"),
        ("2", "3.0", ""),
        ("3", "1.0", ""),
    ]
    assert [json.loads(line)["iterations"] for line in paths.progress.read_text().splitlines()] == [2, 3]
    assert log.progress.score == 2.0
