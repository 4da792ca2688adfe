"""Players of policies, with real workers and the fake simulator; one by itself, and several in Ray."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import away

from go1_sweep import protocol, simulators
from go1_sweep.paths import copy_of
from go1_sweep.store import object_store
from go1_sweep.store.object_store import Store
from go1_sweep.sweep import players
from go1_sweep.worker.player import Player, egl_device
from go1_sweep.worker.process import WorkerSpec


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    simulator = simulators.load("fake")
    config = simulator.load_config(simulator.resolve("flat"))
    env = simulator.make_env(config, seed=1, device="cpu")
    file = tmp_path_factory.mktemp("trial") / "model_0.pt"
    simulator.save(simulator.make_runner(env, config, None), file)
    return file


@pytest.fixture
def player(tmp_path) -> Iterator[Player]:
    spec = WorkerSpec(simulator="fake", python=None, device="cpu", threads=1, stall_timeout=8.0)
    player = Player(spec, tmp_path / "final.log")
    yield player
    player.close()


def policy(checkpoint: Path, **parameters: Any) -> protocol.Policy:
    return protocol.Policy(str(checkpoint), "flat", {f"env.{name}": value for name, value in parameters.items()})


def evaluate(checkpoint: Path, **parameters: Any) -> protocol.Evaluate:
    return protocol.Evaluate(policy(checkpoint, **parameters), 2, 1, 0, "", exam_seconds=0)


def test_a_worker_stays_warm_until_what_it_holds_is_not_to_be_trusted(player, checkpoint):
    assert isinstance(player.play(evaluate(checkpoint)), protocol.Evaluated)
    warm = player._worker
    assert warm is not None
    refused = player.play(evaluate(checkpoint.with_name("model_9.pt")))
    assert isinstance(refused, protocol.Refused)
    assert refused.is_bad_input
    assert player._worker is warm, "a checkpoint that is not there says nothing of the worker"
    for fault in ("oom", "nan", "exit", "garbage"):
        refused = player.play(evaluate(checkpoint, play_fault=fault))
        assert isinstance(refused, protocol.Refused)
        assert not refused.is_bad_input
        assert player._worker is None, fault
    assert isinstance(player.play(evaluate(checkpoint)), protocol.Evaluated)


def test_an_exam_whose_worker_is_killed_is_sat_again_in_a_new_one(player, checkpoint, tmp_path):
    player._spec = dataclasses.replace(player._spec, retries=1)
    assert isinstance(player.play(evaluate(checkpoint)), protocol.Evaluated)
    os.kill(player._worker._process.pid, signal.SIGKILL)
    assert isinstance(player.play(evaluate(checkpoint)), protocol.Evaluated)
    assert "killed by signal 9 (SIGKILL): a new one tries" in (tmp_path / "final.log").read_text()

    refused = player.play(evaluate(checkpoint, play_fault="crash"))
    assert isinstance(refused, protocol.Refused)
    assert "SIGSEGV" in refused.why
    assert (tmp_path / "final.log").read_text().count("Fatal Python error") == 2


def test_a_long_evaluation_is_no_silence_and_a_hanging_one_is(player, checkpoint):
    heard: list[protocol.Note] = []
    answer = player.play(evaluate(checkpoint, step_seconds=1.0, episode_steps=10), heard.append)
    assert isinstance(answer, protocol.Evaluated), answer
    assert heard
    assert all(isinstance(note, protocol.Working) and 0 <= note.done < note.steps == 10 for note in heard)
    answer = player.play(evaluate(checkpoint, play_fault="hang"))
    assert isinstance(answer, protocol.Refused)
    assert "said nothing for 8 s" in answer.why


def test_a_player_waits_for_a_store_that_is_away(s3, uri, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "TRIES", 1)
    monkeypatch.setattr(object_store, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(players, "end_with_raylet", lambda: None)
    folder = copy_of(uri)
    Store(uri).write("trials/0000/model_0.pt", checkpoint.read_bytes())
    spec = WorkerSpec(simulator="fake", python=None, device="cpu", threads=1, stall_timeout=60.0)
    one = players.PlayerActor(spec, folder / "final.log", folder, uri)
    with away(s3):
        answer = one.play(evaluate(folder / "trials" / "0000" / "model_0.pt"))
    one.close()
    assert isinstance(answer, protocol.Evaluated), answer


def test_a_film_that_hangs_in_gl_leaves_nothing_behind(player, checkpoint, tmp_path):
    film = protocol.Film(policy(checkpoint, draw_fault="hang"), 1, 12, 1, str(tmp_path / "best.mp4"))
    answer = player.play(film)
    assert isinstance(answer, protocol.Refused)
    assert "said nothing for 8 s" in answer.why or "EGL" in answer.why
    assert [path.name for path in tmp_path.iterdir()] in (["final.log"], [])


@pytest.mark.parametrize(
    ("assigned", "ordinals", "expected"),
    [("1", [None, 0, 1], "2"), ("1,0", [1, 0], "0"), ("", [0], None), ("3", [0, 1], None), ("GPU-8932", [0], None)],
)
def test_films_are_drawn_on_the_gpu_that_was_assigned(assigned, ordinals, expected):
    assert egl_device(assigned, ordinals) == expected


IN_RAY = """
import sys, tempfile
from pathlib import Path
from go1_sweep import protocol
from go1_sweep.sweep import players
from go1_sweep.sweep.local_ray import local_ray
from go1_sweep.sweep.slots import Slots
from go1_sweep.worker.process import WorkerSpec
import ray

players.PATIENCE_SECONDS = 1.0
job = protocol.Evaluate(protocol.Policy(sys.argv[1], "flat", {}), 2, 1, 0, "", exam_seconds=0)
worker = WorkerSpec(simulator="fake", python=None, device="cpu", threads=1, stall_timeout=60.0)
with tempfile.TemporaryDirectory() as scratch, local_ray(scratch, "try again"):
    more = int(ray.cluster_resources()["CPU"]) + 1
    with players.Players(Slots(more, 0, 1), worker, Path(scratch, "log"), Path(scratch)) as several:
        print(len(list(several.play([job] * 2 * more))) == 2 * more)
"""


def test_all_jobs_are_done_where_fewer_players_fit_than_did_when_the_sweep_began(checkpoint):
    done = subprocess.run([sys.executable, "-c", IN_RAY, checkpoint], capture_output=True, text=True, timeout=200)
    assert done.stdout == "True\n", done.stderr
