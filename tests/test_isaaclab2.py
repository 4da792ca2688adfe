"""Isaac Lab 2.3.2 as it is on PyPI, with rsl_rl 3.0.1, on a stand-in for Isaac Sim: spoken to through our worker."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import logs
from isaaclab2 import environment
from test_worker import Talk
from test_worker import request as asked

from go1_sweep import cli, exam, protocol
from go1_sweep.deploy import Policy
from go1_sweep.parameters import PARAMETERS, Value
from go1_sweep.paths import PolicyPaths, TrialPaths
from go1_sweep.simulators.policy_interface import UNITREE_SDK
from go1_sweep.sweep import trainable
from go1_sweep.trial.checkpoints import read_checkpoint
from go1_sweep.worker.lookup import find_simulator
from go1_sweep.worker.process import WorkerFailed, WorkerSpec

ROUGH, FLAT = "Isaac-Velocity-Rough-Unitree-Go1-v0", "Isaac-Velocity-Flat-Unitree-Go1-v0"

SMALL: dict[str, Value] = {"num_envs": 8, "num_steps_per_env": 8}


@pytest.fixture(scope="session")
def python() -> Path:
    try:
        return environment.python()
    except environment.Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def talk(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """One worker for all: Isaac Lab's envs are made one after the other in its process."""
    talk = Talk("isaaclab", tmp_path_factory.mktemp("worker") / "log", python)
    yield talk
    talk.worker.close()


@pytest.fixture(scope="module")
def trained(talk: Talk, tmp_path_factory: pytest.TempPathFactory) -> TrialPaths:
    """A trial on rough, of two iterations."""
    folder = tmp_path_factory.mktemp("trained")
    ended = talk.train(request(folder, task="rough", parameters=SMALL, budget_max=2))
    assert (ended.state, ended.progress.iterations, ended.progress.env_steps) == ("completed", 2, 128)
    return TrialPaths(folder / "a")


def request(folder: Path, trial: str = "a", **changes: Any) -> protocol.Train:
    """Without a score: in so few steps hardly an episode ends."""
    return asked(folder, trial, metric="", **changes)


def ask(talk: Talk, message: protocol.Message) -> Any:
    talk.worker.send(message)
    while isinstance(answer := talk.receive(), protocol.Note):
        pass
    return answer


def test_it_is_the_release_of_pypi(talk):
    versions = talk.hello.versions
    assert (versions["isaaclab"], versions["rsl-rl-lib"], versions["physics"]) == ("2.3.2.post1", "3.0.1", "physx")


@pytest.mark.parametrize(
    ("task", "task_id", "experiment"),
    [
        ("rough", ROUGH, "unitree_go1_rough"),
        ("flat", FLAT, "unitree_go1_flat"),
        (ROUGH, ROUGH, "unitree_go1_rough"),
        ("Isaac-Velocity-Flat-Unitree-Go1-Play-v0", FLAT, "unitree_go1_flat"),
        ("Isaac-Velocity-Flat-Anymal-C-v0", "Isaac-Velocity-Flat-Anymal-C-v0", "anymal_c_flat"),
    ],
)
def test_tasks_are_those_of_the_registry(talk, task, task_id, experiment):
    checked = ask(talk, protocol.Check(task, []))
    assert (checked.task_id, checked.experiment, checked.error) == (task_id, experiment, "")


def test_a_task_that_is_not_there_is_answered_with_the_nearest(talk):
    checked = ask(talk, protocol.Check("Isaac-Velocity-Ruff-Unitree-Go1-v0", []))
    assert f"did you mean '{ROUGH}'?" in checked.error


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", 1, ""),
        ("agent.clip_actions", 100.0, ""),
        ("agent.algorithm.gama", 0.9, "the configuration has no 'gama' there; did you mean 'gamma'?"),
        ("env.rewards.track_lin_vel_xy_exp.wieght", 1.0, "did you mean 'weight'?"),
        ("schedule", 3, "agent.algorithm.schedule takes text (now 'adaptive'), not 3"),
        ("env.scene.num_envs", 4.5, "env.scene.num_envs takes a whole number (now 4096), not 4.5"),
        ("env.rewards.track_lin_vel_xy_exp.weight", "much", "takes a number (now 1.5), not 'much'"),
        ("agent.clip_actions", "much", "agent.clip_actions takes a number, not 'much'"),
    ],
)
def test_an_entry_is_taken_or_refused_before_anything_is_built(talk, name, value, message):
    (error,) = ask(talk, protocol.Check("flat", [{name: value}])).errors
    assert message in error
    assert bool(message) == bool(error)


def test_each_neutral_parameter_lands_in_its_field(talk, tmp_path):
    values = {
        name: {"schedule": "fixed", "num_envs": 4}.get(name, 2 if parameter.type is int else 0.25)
        for name, parameter in PARAMETERS.items()
        if name != "blind"
    }
    parameters = {**values, "blind": True}
    assert talk.train(request(tmp_path, parameters=parameters, budget_max=1)).state == "completed"
    config = yaml.safe_load(TrialPaths(tmp_path / "a").config.read_text())
    found = {**config["agent"]["algorithm"], **config["agent"], **config["env"]["scene"]}
    assert {name: found[name] for name in values} == values
    assert config["env"]["observations"]["policy"]["base_lin_vel"] is None, "which a Go1 does not measure"
    assert config["task_id"] == FLAT
    assert config["seed"] == config["env"]["seed"] == config["agent"]["seed"] == 7


def test_iterations_are_logged_under_the_names_that_all_simulators_share(trained):
    first, last = logs(trained.folder)
    for name in ("value_loss", "entropy", "learning_rate", "kl", "action_std", "collection_seconds"):
        assert 0 < float(last[name]) < 100, name
    assert -1 < float(last["surrogate_loss"]) < 1
    assert (first["iteration"], last["iteration"], last["env_steps"]) == ("1", "2", "128")
    assert float(last["terrain_level"]) >= 0
    assert float(last["track_linear_velocity"]) >= 0 and float(last["track_angular_velocity"]) >= 0
    assert not (trained.folder / "git").exists()


def test_training_goes_on_where_the_checkpoint_was_taken(talk, trained, tmp_path):
    checkpoint = trained.folder / "model_2.pt"
    assert "model_state_dict" in torch.load(checkpoint, weights_only=True), "as rsl_rl 3's own scripts read it"
    inspected = ask(talk, protocol.Inspect(str(checkpoint)))
    assert (inspected.error, inspected.progress.iterations, inspected.progress.env_steps) == ("", 2, 128)
    parameters = {**SMALL, "num_steps_per_env": 1, "schedule": "fixed", "learning_rate": 0.0}
    changes = {"parameters": parameters, "seed": 8, "budget_max": 3, "checkpoint": str(checkpoint)}
    ended = talk.train(request(tmp_path, task="rough", **changes))
    assert (ended.state, ended.progress.iterations, ended.progress.env_steps) == ("completed", 3, 136)
    before, after = read_checkpoint(checkpoint), read_checkpoint(tmp_path / "a" / "model_3.pt")
    for network in ("actor_state_dict", "critic_state_dict"):
        torch.testing.assert_close(after[network], before[network], rtol=0, atol=0)
    left, found = (each["infos"]["go1_sweep"]["curriculum"] for each in (before, after))
    assert (left["common_step_counter"], found["common_step_counter"]) == (16, 17)
    assert float(logs(tmp_path / "a")[-1]["kl"]) == pytest.approx(0, abs=1e-9), "nothing was learnt"
    assert torch.equal(found["terrain_levels"], left["terrain_levels"])
    assert torch.equal(found["terrain_types"], left["terrain_types"])


def test_an_env_after_others_is_as_in_a_fresh_process(talk, python, tmp_path):
    fresh = Talk("isaaclab", tmp_path / "log", python)
    try:
        for who, name in ((fresh, "fresh"), (talk, "again")):
            assert who.train(request(tmp_path, name, parameters=SMALL, budget_max=2)).state == "completed"
    finally:
        fresh.worker.close()
    timed = ("train_seconds", "steps_per_second", "collection_seconds", "learning_seconds")
    told = [
        [{k: v for k, v in row.items() if k not in timed} for row in logs(tmp_path / name)]
        for name in ("fresh", "again")
    ]
    assert told[0] == told[1]


def policy(trained: TrialPaths) -> protocol.Policy:
    return protocol.Policy(str(trained.folder / "model_2.pt"), "rough", SMALL)


def test_a_policy_is_judged_in_the_play_variant(talk, trained):
    answer = ask(
        talk, protocol.Evaluate(policy(trained), num_envs=3, seed=5, steps=40, trajectories="", exam_seconds=0)
    )
    assert isinstance(answer, protocol.Evaluated), answer
    assert (answer.task_id, answer.max_length, answer.step_seconds) == (ROUGH, 1000, pytest.approx(0.02))
    assert sum(episode.length for episode in answer.episodes) == 3 * 40
    assert all(episode.lin_vel_rmse > 0 for episode in answer.episodes)


def test_a_policy_sits_the_exam_by_its_commands(talk, trained, tmp_path):
    file = tmp_path / "steps.npz"
    answer = ask(
        talk, protocol.Evaluate(policy(trained), 24, seed=5, steps=0, trajectories=str(file), exam_seconds=10.0)
    )
    assert isinstance(answer, protocol.Evaluated), answer
    assert (answer.task_id, answer.max_length) == (ROUGH, 500)
    assert [episode.env for episode in answer.episodes] == list(range(24))
    with np.load(file) as recorded:
        told = np.broadcast_to([*exam.COMMANDS.values()] * 2, recorded["command"].shape)
        assert np.allclose(recorded["command"], told)
        assert np.isfinite(recorded["power"]).all()


def test_a_policy_is_exported_with_what_its_numbers_mean(talk, trained, tmp_path):
    answer = ask(talk, protocol.Export(policy(trained), str(tmp_path), {}, {}))
    assert isinstance(answer, protocol.Finished), answer
    paths = PolicyPaths(tmp_path)
    description = json.loads(paths.description.read_text())
    assert [(term["name"], term["size"]) for term in description["observations"]] == [
        ("base_lin_vel", 3),
        ("base_ang_vel", 3),
        ("projected_gravity", 3),
        ("command", 3),
        ("joint_pos", 12),
        ("joint_vel", 12),
        ("last_action", 12),
        ("height_scan", 187),
    ]
    hip = description["actions"][0]
    assert (hip["name"], hip["scale"], hip["stiffness"]) == ("FL_hip_joint", 0.25, None), "its motor is a network"
    assert description["command_limits"] == [[-1.0, 1.0]] * 3
    assert any(each.startswith("in training the motors were a network") for each in description["warnings"])
    runtime = Policy.load(tmp_path)
    assert [runtime.joints[place] for place in runtime.places("unitree_sdk")] == UNITREE_SDK != runtime.joints
    standing: dict[str, Any] = {name: np.zeros(size) for name, size in runtime.inputs.items()}
    standing |= {"joint_pos": runtime.default_positions, "projected_gravity": [0.0, 0.0, -1.0]}
    assert np.isfinite(runtime(standing)).all()
    observations = torch.randn(5, 235)
    (actions,) = onnxruntime.InferenceSession(str(paths.onnx)).run(None, {"obs": observations.numpy()})
    scripted = torch.jit.load(paths.torchscript)(observations)
    torch.testing.assert_close(torch.from_numpy(actions), scripted, rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.pt", "policy.json", "policy.onnx", "policy.pt", "policy.py"
    ]  # fmt: skip


def test_a_film_is_drawn_with_cameras_alone(python, trained, tmp_path):
    film = protocol.Film(policy(trained), 5, 6, 1, str(tmp_path / "film.mp4"))
    spec = WorkerSpec("isaaclab", str(python), "cpu", 1, 60)
    for gl, expected in (("disable", protocol.Refused), ("egl", protocol.Finished)):
        worker = spec.start(tmp_path / gl, gl=gl)
        try:
            worker.greeted(60)
            worker.send(film)
            while isinstance(answer := worker.receive(60), protocol.Note):
                pass
            assert isinstance(answer, expected), answer
        finally:
            worker.close()
    assert sum(1 for _ in imageio.get_reader(film.video).iter_data()) == 6


def test_a_worker_that_kit_ends_with_status_0_in_mid_training_has_failed(python, tmp_path, monkeypatch):
    monkeypatch.setattr(trainable.ray, "get_gpu_ids", list)
    monkeypatch.setattr(trainable, "end_with_raylet", lambda: None)
    monkeypatch.setenv("GO1_SWEEP_STUB_KIT_CLOSES_AFTER", "12")
    actor = object.__new__(trainable.TrialActor)
    spec = WorkerSpec("isaaclab", str(python), "cpu", 1, 60)
    actor.setup(
        {"worker": asdict(spec), "train": asdict(request(tmp_path, parameters=SMALL, budget_max=9)), "store": ""}
    )
    try:
        while not (result := actor.step())["done"]:
            assert result["state"] == "running"
    finally:
        actor.cleanup()
    assert (result["state"], result["why"]) == ("failed", "the simulator worker ended with exit code 0")
    assert result["progress"]["iterations"] == 1


def test_a_crash_in_kit_ends_the_worker_at_once_with_its_evidence(python, tmp_path):
    talk = Talk("isaaclab", tmp_path / "log", python)
    try:
        os.kill(talk.worker._process.pid, signal.SIGSEGV)  # its launcher handles it in Python, which never runs
        with pytest.raises(WorkerFailed, match=r"killed by signal 11 \(SIGSEGV\)"):
            talk.worker.receive(20)
        assert talk.worker.evidence()[0].startswith("Fatal Python error: Segmentation fault")
    finally:
        talk.worker.close()


def test_auto_takes_what_the_named_interpreter_has(python):
    assert find_simulator("auto", lambda name: str(python)) == "isaaclab"
    assert find_simulator("auto", lambda name: sys.executable) == "mjlab"


def test_physics_that_is_not_there_is_told_before_anything_starts(python, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = cli.main(["train", "--simulator", "isaaclab", "--python", str(python), "--physics", "newton", "--cpu"])
    assert code == 1
    assert "Isaac Lab 2.3.2.post1 found, Newton missing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
