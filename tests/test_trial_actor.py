"""The trial actor without Ray: it keeps its trial going whatever becomes of the worker and of the newest checkpoint."""

from __future__ import annotations

import errno
import os
import platform
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import iterations, wait_for

from go1_sweep import checkpoint, protocol
from go1_sweep.paths import TrialPaths
from go1_sweep.store import object_store
from go1_sweep.store.actors import on_node
from go1_sweep.store.copies import Copy
from go1_sweep.store.object_store import Store
from go1_sweep.sweep import trainable
from go1_sweep.sweep.trainable import TrialActor
from go1_sweep.worker.process import WorkerSpec

Make = Callable[..., TrialActor]


@pytest.fixture
def actor(tmp_path, monkeypatch) -> Iterator[Make]:
    """Makes actors of the one trial ``a``: each is what a resumed sweep would start."""
    monkeypatch.setattr(trainable.ray, "get_gpu_ids", list)
    monkeypatch.setattr(trainable, "end_with_raylet", lambda: None)
    made: list[TrialActor] = []

    def make(
        retries: int = 2, save_interval: int = 3, parameters: dict[str, Any] | None = None, store: str = "", **request
    ) -> TrialActor:
        fields = {
            "trial": "a",
            "folder": str(tmp_path / "a"),
            "task": "flat",
            "parameters": {"num_envs": 128, "agent.save_interval": save_interval, **(parameters or {})},
            "seed": 7,
            "budget_unit": "iterations",
            "budget_max": 8,
            "checkpoints_at": [],
            "metric": "mean_reward",
            "window": 2,
        }
        spec = WorkerSpec("fake", None, "cpu", 1, 60, retries=retries)
        train = protocol.Train(**{**fields, **request})
        each = object.__new__(TrialActor)
        each.setup({"worker": asdict(spec), "train": asdict(train), "store": store})
        made.append(each)
        return each

    yield make
    for each in made:
        each.cleanup()


def steps(actor: TrialActor, until: int = 10_000) -> list[dict[str, Any]]:
    """The results up to that many iterations, or the end."""
    results = [actor.step()]
    while not results[-1]["done"] and results[-1]["progress"]["iterations"] < until:
        results.append(actor.step())
    return results


def published(paths: TrialPaths) -> list[int]:
    return [each.progress.iterations for each in checkpoint.read_manifest(paths)]


@pytest.fixture
def paths(tmp_path) -> TrialPaths:
    return TrialPaths(tmp_path / "a")


def test_a_killed_worker_is_replaced_and_the_trial_goes_on_from_its_newest_checkpoint(actor, paths):
    one = actor()
    steps(one, until=5)
    os.kill(one._worker._process.pid, signal.SIGKILL)
    results = steps(one)
    assert (results[-1]["state"], results[-1]["progress"]["iterations"]) == ("completed", 8)
    assert results[-1]["progress"]["env_steps"] == 8 * 8 * 128
    (note,) = [note for result in results for note in result["notes"]]
    assert "killed by signal 9 (SIGKILL): it goes on in a new one (1 retries left)" in note
    assert note in paths.worker_log.read_text()
    assert iterations(paths.folder) == list(range(1, 9))


def test_a_worker_that_crashes_again_and_again_fails_the_trial_with_its_last_words(actor, paths):
    results = steps(actor(parameters={"env.fault": "crash", "env.fault_iteration": 2}))
    assert results[-1]["state"] == "failed"
    assert "SIGSEGV" in results[-1]["why"]
    assert any("Segmentation fault" in line for line in results[-1]["evidence"])
    assert paths.worker_log.read_text().count("Fatal Python error") == 3
    assert sum(len(result["notes"]) for result in results) == 2


def test_a_disk_that_is_full_when_a_worker_is_to_start_is_waited_for(actor, paths, monkeypatch):
    one, start = actor(), WorkerSpec.start

    def full(*_: Any) -> None:
        monkeypatch.setattr(WorkerSpec, "start", start)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(WorkerSpec, "start", full)
    monkeypatch.setattr(trainable, "POLL_SECONDS", 0.0)
    results = steps(one)
    assert [note for result in results for note in result["notes"]] == ["the disk is full: it waits for room"]
    assert results[-1]["state"] == "completed"


def test_a_trial_on_a_node_that_does_not_see_the_storage_waits_for_it_and_makes_no_other(actor, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    lost = actor(retries=0, folder=str(elsewhere / "a"))
    first, second = lost.step(), lost.step()
    assert (first["state"], first["done"], second["notes"], elsewhere.exists()) == ("running", False, [], False)
    (note,) = first["notes"]
    assert note.startswith(f"{elsewhere} is not there on node {platform.node()}: it waits for the storage")
    elsewhere.mkdir()
    assert steps(lost)[-1]["state"] == "completed"


def test_a_trial_that_ends_before_its_first_iteration_says_what_its_time_went_for(actor):
    (result,) = steps(actor(parameters={"num_envs": 10_000}))
    assert (result["state"], result["seconds"].keys() >= {"importing", "building"}) == ("infeasible", True)
    assert result["seconds"]["building"] > 0.0


def test_without_retries_the_first_crash_is_the_last(actor, paths):
    results = steps(actor(retries=0, parameters={"env.fault": "exit", "env.fault_iteration": 2}))
    assert (results[-1]["state"], results[-1]["notes"]) == ("failed", [])


def test_a_trial_that_the_user_interrupts_publishes_where_it_stands_and_goes_on_from_there(actor, paths):
    one = actor(save_interval=100)
    score = steps(one, until=4)[-1]["progress"]["score"]
    one.cleanup()
    (stood,) = checkpoint.read_manifest(paths)
    assert stood.progress.iterations in (4, 5), "the worker may be an iteration ahead"
    results = steps(actor(save_interval=100))
    assert results[0]["progress"] == asdict(stood.progress), "it says at first where it stands"
    assert results[1]["progress"]["iterations"] == stood.progress.iterations + 1
    assert stood.progress.score is not None
    assert stood.progress.score >= score
    assert iterations(paths.folder) == list(range(1, 9))


def test_a_trial_that_asha_stops_at_a_rung_has_published_already(actor, paths):
    one = actor(save_interval=100, checkpoints_at=[3.0])
    steps(one, until=3)
    one.cleanup()
    assert published(paths) == [3]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_warning(actor, paths):
    one = actor()
    steps(one, until=7)
    one.cleanup()
    *_, before, newest = checkpoint.read_manifest(paths)
    content = bytearray((paths.folder / newest.file).read_bytes())
    content[len(content) // 2] ^= 1
    (paths.folder / newest.file).write_bytes(content)
    results = steps(actor())
    assert results[0]["progress"] == asdict(before.progress)
    assert f"{newest.file} is missing, or not the file that its trial published" in results[0]["notes"][0]
    assert iterations(paths.folder) == list(range(1, 9))
    assert published(paths)[-1] == 8
    assert [each.progress.iterations for each in checkpoint.intact(paths, pytest.fail)] == published(paths)


def test_a_manifest_that_cannot_be_read_fails_the_trial_and_nothing_is_forgotten(actor, paths):
    one = actor()
    steps(one, until=5)
    one.cleanup()
    content = paths.manifest.read_bytes()
    paths.manifest.unlink()
    paths.manifest.mkdir()
    (result,) = steps(actor())
    assert (result["state"], "Is a directory" in result["why"]) == ("failed", True)
    paths.manifest.rmdir()
    paths.manifest.write_bytes(content)
    assert steps(actor())[-1]["state"] == "completed"


def test_a_damaged_line_of_the_manifest_is_told(actor, paths):
    one = actor()
    steps(one, until=5)
    one.cleanup()
    with open(paths.manifest, "a") as manifest:
        manifest.write("damaged\n")
    results = steps(actor())
    assert "checkpoints.jsonl is damaged" in results[0]["notes"][0]
    assert results[-1]["state"] == "completed"


def test_a_trial_whose_checkpoints_are_all_damaged_begins_again(actor, paths):
    one = actor()
    steps(one, until=5)
    one.cleanup()
    for each in paths.checkpoints():
        each.write_bytes(b"damaged")
    results = steps(actor())
    assert results[0]["progress"]["iterations"] == 1
    assert results[0]["notes"][-1] == "no checkpoint is left: it begins again"
    assert iterations(paths.folder) == list(range(1, 9))


def test_a_trial_that_had_its_whole_budget_when_the_sweep_died_is_completed_as_it_was(actor, paths):
    before = steps(actor())[-1]
    after = steps(actor())
    assert [each["progress"] for each in after] == [before["progress"]] * 2
    assert after[-1] | {"seconds": {}} == before | {"seconds": {}}
    assert iterations(paths.folder) == list(range(1, 9))


def test_the_newest_checkpoints_and_the_best_are_kept(actor, paths):
    steps(actor(save_interval=1, keep_checkpoints=2, mode="min", budget_max=6))
    assert published(paths) == [1, 5, 6], "the reward rises, so that the first is the lowest"
    assert [path.name for path in paths.checkpoints()] == ["model_1.pt", "model_5.pt", "model_6.pt"]


def test_a_trial_waits_for_a_store_that_is_away_when_it_begins_and_when_it_ends(s3, uri, actor, monkeypatch):
    monkeypatch.setattr(object_store, "TRIES", 1)
    monkeypatch.setattr(trainable, "POLL_SECONDS", 0.01)
    s3.refuses = 1
    each = actor(store=uri)
    waits, still = each.step(), each.step()
    assert (waits["state"], waits["done"], still["notes"]) == ("running", False, [])
    assert re.fullmatch(rf"{uri}: .* \(node .*\): it waits for the storage", waits["notes"][0])
    s3.refuses = 0
    first = each.step()
    assert first["progress"]["iterations"] == 1
    s3.refuses = 1
    while not (result := each.step())["notes"]:
        pass
    assert (result["progress"]["iterations"], result["state"], result["done"]) == (8, "running", False)
    assert "its end waits for the storage" in result["notes"][0]
    s3.refuses = 0
    assert (last := each.step())["done"] and last["state"] == "completed"
    assert {Path(name).name for name in Store(uri).names("trials/a")} >= {"logs.csv", "checkpoints.jsonl", "model_8.pt"}
    assert not on_node(uri).joinpath("trials", "a").exists(), "nothing is left on the node"


def test_a_trial_goes_on_on_another_node_from_what_the_store_has(s3, uri, actor, tmp_path, monkeypatch):
    first = actor(store=uri)
    while not checkpoint.read_manifest(TrialPaths(on_node(uri) / "trials" / "a")):
        first.step()
    first.cleanup()  # it was stopped
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "another node"))
    second = actor(store=uri)
    assert second.step()["progress"]["iterations"] >= 3
    steps(second)
    Copy(Store(uri), tmp_path / "seen").fetch(lambda name: True)
    assert iterations(tmp_path / "seen" / "trials" / "a") == list(range(1, 9))


def content(folder: Path) -> dict[str, bytes]:
    """Of all files but for the simulator's output, and TensorBoard's, which are each worker's own."""
    files = [each for each in folder.iterdir() if each.suffix != ".log" and "tfevents" not in each.name]
    return {each.name: each.read_bytes() for each in files}


def test_an_actor_whose_trial_another_one_has_taken_over_leaves_its_folder_alone(actor, paths):
    cut_off, late = actor(save_interval=1, turn=1), actor(save_interval=1, turn=1)
    steps(cut_off, until=3)
    steps(actor(save_interval=1, turn=2), until=5)
    wait_for(lambda: published(paths)[-1] == 5, 30, "what is published beside the training")
    before = content(paths.folder)
    for each in (cut_off, late):  # their host is there again, and hears
        steps(each, until=6)
    assert content(paths.folder) == before
    assert [each.progress.iterations for each in checkpoint.intact(paths, pytest.fail)] == published(paths)


def test_an_actor_that_was_cut_off_uploads_nothing_once_another_one_has_its_trial(
    s3, uri, actor, tmp_path, monkeypatch
):
    cut_off = actor(store=uri, save_interval=1, turn=1)
    steps(cut_off, until=3)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "another node"))
    steps(actor(store=uri, save_interval=1, turn=2))
    stood = Store(uri).names()
    cut_off.step()
    cut_off.cleanup()
    assert Store(uri).names() == stood
