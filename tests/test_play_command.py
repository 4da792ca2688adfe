"""``python -m go1_sweep play``, from its flags to its files and its end."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import pytest
import torch
import yaml
from conftest import Command, start, wait_for

from go1_sweep import cli, evaluation, simulators
from go1_sweep.errors import BadInput
from go1_sweep.single_run import folders
from go1_sweep.single_run.play import newest

NO_SCREEN = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}


def make_run(root: Path, name: str, numbers: list[int], *, task: str = "flat", simulator: str = "fake", **env: Any):
    """A run's folder with an untrained policy, as ``train`` leaves it."""
    used = simulators.load(simulator)
    config = used.load_config(used.resolve(task))
    parameters = {f"env.{path}": value for path, value in env.items()}
    used.apply(config, {"num_envs": 2, **parameters})
    environment = used.make_env(config, seed=1, device="cpu")
    folder = root / folders.ROOT / config.agent.experiment_name / name
    folder.mkdir(parents=True)
    try:
        runner = used.make_runner(environment, config, None)
        for number in numbers:
            used.save(runner, folder / f"model_{number}.pt")
    finally:
        used.close(environment)
    described = {"task": task, "task_id": config.task_id, "simulator": simulator, "seed": 1, "parameters": parameters}
    (folder / "config.yaml").write_text(yaml.safe_dump(described))
    return folder


def play(cwd: Path, *arguments: str) -> Command:
    return start("play", *arguments, cwd=cwd, env=NO_SCREEN)


def rows(out: str) -> list[list[str]]:
    """The lines of the episodes, as words."""
    lines = [line.split() for line in out.splitlines()]
    begin = next(i for i, words in enumerate(lines) if words[:1] == ["env"])
    return lines[begin + 1 : next(i for i, words in enumerate(lines) if words[:2] == ["in", "play"])]


def test_the_highest_checkpoint_of_the_newest_run_is_judged_and_filmed_and_nothing_is_overwritten(tmp_path):
    make_run(tmp_path, "2026-01-01_00-00-00", [99])
    folder = make_run(tmp_path, "2026-01-02_00-00-00", [3, 12], fall_step=3)
    (folder / "evaluation_model_12.json").write_text("a sweep's")
    code, out, err = play(
        tmp_path, "--num_envs", "3", "--video", "--video-length", "20", "--video_interval", "2"
    ).finish(60)
    assert f"{folder.relative_to(tmp_path)}/model_12.pt on fake, the CPU" in out
    assert [(words[0], words[2], " ".join(words[5:])) for words in rows(out)] == [
        ("0", "8", "time-out"),
        ("1", "3", "a fall"),
        ("2", "8", "time-out"),
    ]
    assert "66.7%" in out
    (file,) = (folder / "play").glob("evaluation_model_12_*.json")
    kept = evaluation.load(file)
    assert kept is not None
    assert str(file.relative_to(tmp_path)) in out
    assert (kept.num_episodes, kept.num_falls, kept.max_length, kept.checkpoint) == (3, 1, 8, "model_12.pt")
    assert 1 not in kept.episodes, "training's seed"
    assert (folder / "evaluation_model_12.json").read_text() == "a sweep's"
    if err:  # no EGL here
        assert (code, err.startswith("error: no video: ")) == (1, True)
    else:
        (film,) = (folder / "play").glob("go1_policy_*.mp4")
        reader: Any = imageio.get_reader(film)
        assert (code, reader.count_frames()) == (0, 10)
        assert reader.get_meta_data()["fps"] == pytest.approx(25.0, rel=1e-3)
        assert str(film.relative_to(tmp_path)) in out


def test_a_film_that_fails_costs_the_exit_code_and_not_the_evaluation(tmp_path):
    folder = make_run(tmp_path, "2026-01-01_00-00-00", [3], draw_fault="raise")
    code, out, err = play(tmp_path, "--num_envs", "1", "--steps", "2", "--video", "--seed", "7").finish(60)
    assert code == 1
    assert err.startswith("error: no video: ")
    assert len(err.splitlines()) == 1
    assert [" ".join(words[5:]) for words in rows(out)] == ["the end of the play"]
    (file,) = (folder / "play").glob("*.json")
    assert [each["seed"] for each in json.loads(file.read_text())["seeds"]] == [7]


def test_a_go1_plays_on_the_cpu(tmp_path):
    pytest.importorskip("mjlab")
    folder = make_run(tmp_path, "2026-01-01_00-00-00", [3], simulator="mjlab")
    code, out, err = play(
        tmp_path, "--checkpoint", str(folder), "--task", "flat", "--num_envs", "2", "--steps", "20", "--cpu"
    ).finish(120)
    assert (code, err) == (0, "")
    assert "model_3.pt on mjlab 1." in out
    assert [(words[0], words[2]) for words in rows(out)] == [("0", "20"), ("1", "20")]


def test_the_viewers_page_is_where_the_terminal_says_and_ctrl_c_closes_it(tmp_path):
    pytest.importorskip("mjlab")
    make_run(tmp_path, "2026-01-01_00-00-00", [3], simulator="mjlab")
    command = play(tmp_path, "--gui", "--num_envs", "1")
    assert command.process.stdout is not None
    address = ""
    while not address and (line := command.process.stdout.readline()):
        address = next((word for word in line.split() if word.startswith("http://")), "")
    with urllib.request.urlopen(address, timeout=30) as page:
        assert b"<html" in page.read()
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish(30)
    assert (code, err) == (0, "")


def test_ctrl_c_ends_a_play_and_its_worker(tmp_path):
    folder = make_run(tmp_path, "2026-01-01_00-00-00", [3], step_seconds=5.0)
    command = play(tmp_path, "--num_envs", "1")
    wait_for(lambda: any("Actor Model" in log.read_text() for log in folder.glob("play/*.log")), 60, "the play")
    began = time.monotonic()
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish(30)
    assert (code, err) == (130, "go1_sweep: interrupted\n")
    assert time.monotonic() - began < 10


def test_a_simulator_that_crashes_is_one_message_that_names_its_log(tmp_path):
    make_run(tmp_path, "2026-01-01_00-00-00", [3], play_fault="crash")
    code, _, err = play(tmp_path).finish(60)
    assert code == 1
    (line,) = err.splitlines()
    message, _, log = line.partition("; see ")
    assert message == "error: the simulator worker was killed by signal 11 (SIGSEGV)"
    assert (tmp_path / log).exists()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable, value in NO_SCREEN.items():
        monkeypatch.setenv(variable, value)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """What is said of bad input."""
    assert cli.main(["play", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_played_is_told_before_anything_starts(here, capsys):
    assert refused(capsys) == (
        "error: No checkpoint found below logs/rsl_rl: train first (python -m go1_sweep train), "
        "or name one with --checkpoint"
    )
    empty = here / "logs/rsl_rl/fake/2026-01-01_00-00-00"
    empty.mkdir(parents=True)
    assert "No checkpoint found of the task 'rough' below" in refused(capsys, "--task", "rough")
    assert "there is no such file or folder" in refused(capsys, "--checkpoint", "model_3.pt")
    assert "holds no checkpoint (model_<n>.pt or checkpoint.pt)" in refused(capsys, "--checkpoint", str(empty))
    (empty / "model_3.pt").write_text("torn")
    assert "name it: --task" in refused(capsys)
    assert "did you mean 'mjlab'" in refused(
        capsys, "--checkpoint", str(empty), "--task", "flat", "--simulator", "mjlb"
    )
    assert "--device: expected auto" in refused(
        capsys, "--checkpoint", str(empty), "--task", "flat", "--simulator", "fake", "--device", "gpu"
    )
    for flag in ("--num-envs", "--steps", "--video-length", "--video-interval"):
        assert "expected a whole number of at least 1, not '0'" in refused(capsys, flag, "0")
    assert "from 0 to 2147483647, not '-1'" in refused(capsys, "--seed=-1")
    assert list(here.rglob("play")) == []


def test_what_the_worker_refuses_is_bad_input(here, capsys):
    folder = make_run(here, "2026-01-01_00-00-00", [3])
    assert "the simulator fake has no viewer" in refused(capsys, "--gui", "--cpu")
    (folder / "model_4.pt").write_text("torn")
    assert "is no rsl_rl checkpoint: it is damaged" in refused(capsys, "--cpu")
    torch.save({"actor_state_dict": {"mlp.0.weight": torch.ones(5, 4)}}, folder / "model_4.pt")
    assert (
        "takes observations of 4 numbers, and Fake-Flat-Unitree-Go1 gives 3; "
        "it gives actions of 5 numbers, and Fake-Flat-Unitree-Go1 takes 2"
    ) in refused(capsys, "--cpu")


def test_a_task_picks_the_newest_run_that_was_trained_on_it(here):
    rough = make_run(here, "2026-01-01_00-00-00", [1, 10, 9], task="rough")
    flat = make_run(here, "2026-01-02_00-00-00", [2])
    make_run(here, "2026-01-03_00-00-00", [], task="rough")
    assert newest(None) == (flat / "model_2.pt").relative_to(here)
    assert newest("rough") == newest("Fake-Rough-Unitree-Go1") == (rough / "model_10.pt").relative_to(here)
    assert newest("Isaac-Velocity-Rough-Unitree-Go1-v0") == newest("rough")
    with pytest.raises(BadInput, match="No checkpoint found of the task 'stairs'") as told:
        newest("stairs")
    assert "(only of Fake-Flat-Unitree-Go1, Fake-Rough-Unitree-Go1)" in str(told.value)


def test_where_nothing_can_be_written_beside_the_checkpoint_the_working_folder_takes_it(here):
    run = make_run(here / "elsewhere", "2026-01-01_00-00-00", [1])
    (run / "play").write_text("in the way")
    play = folders.new_play(run / "model_1.pt")
    assert play.log.parent == here / "play"
    assert play.log.exists()
