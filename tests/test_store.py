"""Sweeps whose storage is an object store: what each machine writes gets there, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from conftest import Command, Sweep, away, by_trial, iterations, start, wait_for, write_sweep

from go1_sweep import checkpoint, doctor, spec
from go1_sweep.finalists import candidates_of
from go1_sweep.paths import SweepPaths, TrialPaths, copy_of, is_checkpoint, is_of_driver, shown, uri_of
from go1_sweep.protocol import Progress, Train
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.store.copies import Copy
from go1_sweep.store.object_store import Store
from go1_sweep.store.sweep_copy import Draws
from go1_sweep.sweep.trials import Trials
from go1_sweep.sweep.tune_adapters import Trouble, TuneSearcher
from go1_sweep.trials_table import TrialRecord
from go1_sweep.worker.process import WorkerSpec


def everything(name: str) -> bool:
    return True


def aged(path: Path, seconds: float) -> None:
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + int(seconds * 1e9)))


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a/b/name", "gs://anonymous@bucket/name", "s3://bucket/name?endpoint_override=http://h:9000"]
)
def test_a_place_in_a_store_has_a_copy_here_and_the_copy_knows_its_place(uri):
    copy = copy_of(uri)
    where, mark, query = uri.partition("?")
    assert uri_of(copy / "trials" / "0001") == f"{where}/trials/0001{mark}{query}"
    assert shown(copy) == uri
    assert uri_of(Path("runs/name")) is None


def test_each_file_of_a_sweep_is_written_by_the_driver_or_by_workers():
    paths = SweepPaths(Path())
    trial = paths.trial("0001")
    of_driver = [paths.spec, paths.study, paths.trials_table, paths.result, paths.report, paths.best.evaluation]
    of_driver += [trial.evaluation("model_1"), trial.hparams, paths.retrained.trials_table, paths.best.readme]
    of_workers = [trial.config, trial.logs, trial.manifest, trial.worker_log, trial.checkpoint(1), paths.best.onnx]
    of_workers += [trial.trajectories("model_1", 2), paths.retrained.trial("0001-1").progress, paths.best.video]
    assert all(is_of_driver(str(each)) for each in of_driver)
    assert not any(is_of_driver(str(each)) for each in of_workers)


def test_what_is_newer_wins_and_what_is_the_same_stays(any_uri, tmp_path):
    uri = any_uri
    here, there = (Copy(Store(uri), tmp_path / name) for name in ("here", "there"))
    (here.folder / "trials").mkdir(parents=True)
    file, theirs = here.folder / "trials" / "logs.csv", there.folder / "trials" / "logs.csv"
    file.write_text("1\n")
    here.publish(everything)
    there.fetch(everything)
    assert theirs.read_text() == "1\n"
    file.write_text("1\n2\n")
    here.publish(everything)
    there.fetch(everything)
    assert theirs.read_text() == "1\n2\n"
    theirs.write_text("ours")
    aged(theirs, 60)
    Copy(Store(uri), there.folder).fetch(everything)  # by another process
    assert theirs.read_text() == "ours"
    file.unlink()
    here.publish(everything)
    assert not Store(uri).names()


def test_a_manifest_never_names_a_checkpoint_that_is_not_there(uri, tmp_path, monkeypatch):
    trial = TrialPaths(tmp_path / "trial")
    trial.folder.mkdir()
    ours = Copy(Store(uri), trial.folder)

    def write_model(path: Path) -> None:
        path.write_text("x")

    def publish(iterations: int) -> None:
        checkpoint.publish(trial, Progress(iterations), write_model, keep=2)

    publish(1)
    write = Store.write

    def and_meanwhile(self: Store, name: str, content: bytes) -> None:
        write(self, name, content)
        if name == "model_1.pt":
            publish(2)
        fetched = Copy(Store(uri), tmp_path / f"seen_{name}")
        fetched.fetch(everything)
        assert len(checkpoint.intact(TrialPaths(fetched.folder), pytest.fail)) == (name == trial.manifest.name)

    monkeypatch.setattr(Store, "write", and_meanwhile)
    ours.publish(everything)
    monkeypatch.undo()
    publish(3)
    publish(4)
    ours.publish(everything)
    assert set(Store(uri).names()) == {"model_3.pt", "model_4.pt", trial.manifest.name}


def test_a_database_is_uploaded_as_it_is_between_two_transactions(uri, tmp_path):
    (tmp_path / "here").mkdir()
    study = SweepPaths(tmp_path / "here").study
    with sqlite3.connect(study, isolation_level=None) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")
        connection.execute("INSERT INTO numbers VALUES (1)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO numbers VALUES (2)")
        Copy(Store(uri), tmp_path / "here").publish(everything)
        connection.execute("COMMIT")
    connection.close()
    there = Copy(Store(uri), tmp_path / "there")
    assert set(there.fetch(everything)) == {study.name}
    with sqlite3.connect(there.folder / study.name) as connection:
        assert connection.execute("SELECT number FROM numbers").fetchall() == [(1,)]
    connection.close()


def test_a_store_that_refuses_now_and_then_loses_nothing_and_one_that_always_does_is_told(s3, uri, monkeypatch):
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 0.01)
    s3.refuses, before = 3, s3.refused
    ours = Store(uri)
    for number in range(8):
        ours.write(f"{number}", b"%d" % number)
    assert [ours.read(f"{number}") for number in range(8)] == [b"%d" % number for number in range(8)]
    assert set(ours.names()) == {f"{number}" for number in range(8)} and s3.refused - before > 5
    monkeypatch.setattr(object_store, "TRIES", 1)
    s3.refuses = 1
    with pytest.raises(OSError, match=f"^{uri}: .*HTTP status 500"):
        ours.read("0")


TRIAL = {"trials": 2, "parameters": {"learning_rate": {"log_uniform": [1e-3, 3e-3]}}}
SLOW = {"env.step_seconds": 0.02}


def a_sweep(folder: Path, uri: str, **changes: Any) -> Sweep:
    sections = {
        "search": TRIAL,
        "budget": {"unit": "iterations", "max": 30},
        "resources": {"gpus": 0, "cpus": 1},
        "final": {"finalists": 1, "envs": 12, "seeds": 1, "exam_seconds": 1, "video": False},
        "storage": uri,
    }
    return write_sweep(folder, **{**sections, **changes})


def on_machine(home: Path, *arguments: str, **environment: str) -> Command:
    """``python -m go1_sweep ...`` on a machine that has nothing but the store."""
    home.mkdir(exist_ok=True)
    return start(*arguments, env={"HOME": str(home), "XDG_CACHE_HOME": "", **environment})


def in_folder(uri: str, name: str) -> str:
    """The URI of what is in a folder of that one."""
    where, mark, query = uri.partition("?")
    return f"{where}/{name}{mark}{query}"


def in_store(uri: str, folder: Path) -> SweepPaths:
    """All that the store has of a sweep."""
    Copy(Store(uri), folder).fetch(everything)
    return SweepPaths(folder)


def test_a_sweep_loses_nothing_to_a_store_that_refuses_one_request_in_fifty_and_any_machine_goes_on_with_it(
    s3, uri, tmp_path
):
    sweep = a_sweep(tmp_path, uri)
    s3.refuses, before = 50, s3.refused
    code, out, err = on_machine(tmp_path / "a", "run", str(sweep.file)).finish()
    assert (code, err) == (0, "")
    assert s3.refused > before
    where = f"{uri}/sweep"
    assert f"All of it on one page: {where}/report.html" in out
    seen = in_store(where, tmp_path / "seen")
    assert set(Store(where).names("")) >= {"spec.yaml", "optuna.db", "trials.csv", "result.json", "report.html"}
    assert ".alive" not in Store(where).names()
    for trial, row in by_trial(seen).items():
        folder = seen.trial(trial).folder
        assert iterations(folder) == list(range(1, int(row["iterations"]) + 1))
        assert checkpoint.intact(seen.trial(trial), pytest.fail)
        log = seen.trial(trial).worker_log.read_text()
        assert "Traceback" not in log
    policy = json.loads(seen.best.description.read_text())
    assert policy["sha256"] == {name: checkpoint.sha256(seen.best.folder / name) for name in policy["sha256"]}
    assert seen.best.evaluation.exists() and seen.best.readme.exists()

    code, out, err = on_machine(tmp_path / "b", "resume", where, "--trials", "3").finish()
    assert (code, err) == (0, "")
    named = f"{where}/trials/0000/model_30.pt"
    code, _, err = on_machine(tmp_path / "c", "play", "--checkpoint", named, "--num_envs", "2", "--cpu").finish()
    assert (code, err) == (0, "")
    code, out, _ = on_machine(tmp_path / "c", "status", where).finish()
    assert code == 0 and "Winner: " in out and f"policy {where}/best/policy.onnx" in out
    after = by_trial(in_store(where, tmp_path / "after"))
    assert {trial: after[trial] for trial in by_trial(seen)} == by_trial(seen) and "0002" in after


def test_a_trial_begins_when_the_store_has_its_draw(s3, uri, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_copy, "MOMENT_SECONDS", 0.1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = spec.load(a_sweep(tmp_path, uri).file)
    found.folder.mkdir(parents=True)
    trials, trouble = Trials(found, SweepPaths(found.folder), Mock()), Trouble()

    def request(record: TrialRecord) -> Train:
        return Train(record.trial, "", "flat", record.parameters, 1, "iterations", 30, [], "reward", 1)

    worker = WorkerSpec("fake", None, "cpu", 1, 1.0)
    searcher = TuneSearcher(trials, trouble, request, worker, lambda: 1, Draws(found.folder))
    s3.refuses = 1
    assert searcher.suggest("a") is None
    s3.refuses = 0
    begun = wait_for(lambda: searcher.suggest("b"), 60, "the draw in the store")
    trouble.raise_again()
    assert begun["train"]["trial"] == "0000" and [*trials.records] == ["0000"]
    study = in_store(f"{uri}/sweep", tmp_path / "seen").study
    (kept,) = optuna.load_study(study_name="sweep", storage=f"sqlite:///{study}").trials
    assert kept.params == begun["train"]["parameters"]


def test_a_sweep_whose_driver_and_machine_died_goes_on_elsewhere_from_its_checkpoints(any_uri, tmp_path):
    search = {**TRIAL, "fixed": {**SLOW, "agent.save_interval": 5}}
    sweep = a_sweep(tmp_path, any_uri, search=search, budget={"unit": "iterations", "max": 40})
    where = in_folder(any_uri, "sweep")
    running = on_machine(tmp_path / "a", "run", str(sweep.file))

    def published() -> list[str]:
        return [name for name in Store(where).names() if is_checkpoint(name)]

    wait_for(published, 120, "a checkpoint in the store")
    running.process.kill()
    running.process.wait()
    code, out, err = on_machine(tmp_path / "b", "resume", where).finish()
    assert (code, err) == (0, "")
    assert re.search(r"Going on: trials that are over: \d, interrupted: [12]", out)
    seen = in_store(where, tmp_path / "seen")
    for trial, row in by_trial(seen).items():
        assert row["state"] in ("completed", "early_stopped")
        assert iterations(seen.trial(trial).folder) == list(range(1, int(row["iterations"]) + 1))
    code, out, err = on_machine(tmp_path / "c", "status", where).finish()
    assert (code, err) == (0, "") and "2 completed" in out
    code, out, err = on_machine(tmp_path / "c", "report", where).finish()
    assert (code, err) == (0, "") and Path(out.strip()).exists()


def test_finalists_are_waited_for_while_a_store_is_away(s3, uri, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "TRIES", 1)
    monkeypatch.setattr(object_store, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = spec.load(a_sweep(tmp_path, uri).file)
    there = SweepPaths(tmp_path / "there").trial("0000")
    there.folder.mkdir(parents=True)
    there.config.write_text("{task: flat, simulator: fake, parameters: {gamma: 0.95}, seed: 3}\n")
    checkpoint.publish(there, Progress(30, 1, 1.0, 1.0), Path.touch)
    Copy(Store(f"{uri}/sweep"), tmp_path / "there").publish(everything)
    record = TrialRecord("0000", {"gamma": 0.95}, 3, "completed", progress=Progress(30, 1, 1.0, 1.0))
    with away(s3):
        (candidate,) = candidates_of(found, SweepPaths(found.folder), [record], pytest.fail)
    assert candidate.file.exists()


@pytest.fixture
def silent() -> Iterator[str]:
    """HOST:PORT of somebody who takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """HOST:PORT where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def told_of(folder: Path, uri: str, **environment: str) -> str:
    """What ``run`` says of a store that it cannot use; it does within seconds, in one line, and nothing else."""
    began = time.monotonic()
    command = on_machine(folder / "a", "run", str(a_sweep(folder, uri).file), **environment)
    code, out, err = command.finish()
    assert (code, out) == (2, "") and time.monotonic() - began < 45  # 14 of them on a machine that does nothing else
    assert err.startswith("error: storage: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("bucket", ["s3://bucket", "gs://anonymous@bucket"])
def test_who_names_a_store_that_never_answers_is_told_within_seconds(s3, silent, tmp_path, bucket):
    err = told_of(tmp_path, f"{bucket}/x?endpoint_override={silent}&scheme=http")
    assert "no answer within 10 s; can this machine reach the endpoint, and is it the right one" in err


@pytest.mark.parametrize("bucket", ["s3://bucket", "gs://anonymous@bucket"])
def test_who_names_an_endpoint_where_nobody_listens_is_told_within_seconds(s3, nobody, tmp_path, bucket):
    err = told_of(tmp_path, f"{bucket}/x?endpoint_override={nobody}&scheme=http")
    assert "Could not connect to server; can this machine reach the endpoint, and is it the right one" in err


def test_who_has_no_credentials_of_googles_is_told_within_seconds_how_to_get_some(nobody, tmp_path, monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    err = told_of(tmp_path, "gs://bucket/x", GCE_METADATA_ROOT=nobody)
    assert "Could not create a OAuth2 access token: " in err and "run `gcloud auth application-default login`" in err
    err = told_of(tmp_path, "gs://bucket/x", GOOGLE_APPLICATION_CREDENTIALS="/no/such/file")
    assert "OAuth2 access token: Cannot open credentials file /no/such/file; no Google credentials" in err


def test_who_names_a_bucket_of_googles_that_is_not_there_is_told(gs, tmp_path):
    uri = f"gs://anonymous@no-such-bucket/x?endpoint_override={gs}&scheme=http"
    assert told_of(tmp_path, uri).endswith(": there is no such bucket\n")


def test_doctor_and_run_say_that_a_store_cannot_be_used_before_anything_starts(s3, tmp_path):
    s3.refuses = 0
    sweep = a_sweep(tmp_path, "s3://no-such-bucket/x")
    code, _, err = on_machine(tmp_path / "a", "run", str(sweep.file)).finish()
    assert code == 2
    assert re.search(r"^error: storage: s3://no-such-bucket/x/sweep: .*NO_SUCH_BUCKET", err, re.MULTILINE)
    code, _, err = on_machine(tmp_path / "a", "status", "s3://no-such-bucket/x/sweep").finish()
    assert (code, err) == (2, "error: s3://no-such-bucket/x/sweep: no such folder\n")
    assert doctor._storage_at("s3://no-such-bucket/x").problem.startswith("cannot be used: s3://no-such-bucket/x: ")
