"""A sweep on a Ray cluster: several hosts, a shared folder, hosts that come and go.

    python -m pytest -s -q tests/test_cluster.py -k "cut_off_and_nothing or mjlab" |
        sed -E 's|/tmp/pytest-of-[^/]*/[^/]*/[^/]*/|.../|g; s/g[0-9a-f]{6}h/host/g'

also says what happens; its last output is benchmarks/results/hosts.txt.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import Sweep, by_trial, iterations, start, wait_for, write_sweep
from hosts import hosts, say, why_not
from s3_server import BUCKET, serving
from test_report import Page

from go1_sweep import timeline
from go1_sweep.paths import SweepPaths, TrialPaths
from go1_sweep.report.page import write
from go1_sweep.store.copies import Copy
from go1_sweep.store.object_store import Store

TRIALS = 18
needs_hosts = pytest.mark.skipif(bool(problem := why_not()), reason=problem)
FINAL = {"finalists": 1, "envs": 12, "seeds": 1, "exam_seconds": 1, "video": False}


def a_sweep(folder: Path, trials: int, **fixed: object) -> Sweep:
    return write_sweep(
        folder,
        search={"trials": trials, "parameters": {"gamma": {"uniform": [0.9, 0.99]}}, "fixed": fixed},
        budget={"unit": "iterations", "max": 40},
        resources={"gpus": 0, "cpus": 1},
        final=FINAL,
    )


def show(out: str, sweep: Sweep) -> None:
    """Print what a sweep said and what it left, for ``pytest -s``."""
    say("it said:\n" + "".join(f"    {line}\n" for line in out.splitlines()) + "and left in trials.csv:")
    for trial, row in sweep.trials().items():
        print(f"    {trial} {row['state']}, {row['iterations']} iterations; logs.csv has {len(sweep.logs(trial))} rows")


def used(paths: SweepPaths, after: float = 0.0) -> set[str]:
    """The hosts that got trials after a time, and had them to the end."""
    return {stint.slot.split()[0] for stint in timeline.read(paths.timeline) if stint.began > after}


@needs_hosts
def test_hosts_join_die_and_are_cut_off_and_nothing_is_lost(tmp_path):
    sweep = a_sweep(tmp_path, TRIALS, **{"env.step_seconds": 0.02})
    paths = SweepPaths(sweep.folder)
    with hosts(tmp_path / "hosts", 0, 1, 1, has_dashboard=True) as cluster:
        head, dying, steady = cluster.all
        command = cluster.start("run", str(sweep.file))
        wait_for(lambda: {dying.name, steady.name} <= used(paths), 120, "a trial on each host")
        late = cluster.add(1)
        dying.cut_power()
        wait_for(lambda: late.name in used(paths), 120, "a trial on the host that came late")
        steady.cut_off()
        cut = time.time()
        wait_for(lambda: time.time() > cut + 30, 60, "half a minute")
        steady.let_back()
        wait_for(lambda: steady.name in used(paths, after=cut + 30), 120, "a trial on the host that was cut off")
        code, out, err = command.finish()
    assert code == 0, err
    show(out, sweep)
    rows = sweep.trials()
    assert len(rows) == TRIALS and {row["state"] for row in rows.values()} <= {"completed", "early_stopped"}
    assert out.count("its actor died (killed, or its host went down): it goes on in another one") >= 2
    for trial, row in rows.items():
        assert sweep.iterations(trial) == list(range(1, int(row["iterations"]) + 1))
    assert head.name not in used(paths)
    assert "raylet" not in out + err, "Ray's own words, and its stack traces"
    assert f"Ray's dashboard: {cluster.dashboard}, on its head" in out
    assert json.loads(paths.result.read_text())["phase"] == "finished"
    assert set(json.loads(paths.environment.read_text())["gpus"]) == {dying.name, steady.name, late.name}


@needs_hosts
def test_two_sweeps_share_a_cluster_and_a_store_and_go_on_where_a_host_died(tmp_path, monkeypatch):
    """Without a folder that hosts share, and each fiftieth request is refused."""
    with hosts(tmp_path / "hosts") as cluster, serving(cluster.outside) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for cpus in (0, 2, 2):
            cluster.add(cpus)
        uris = {name: f"s3://{BUCKET}/{name}" for name in ("one", "two")}
        sweep = a_sweep(tmp_path, 2, **{"env.step_seconds": 0.08, "agent.save_interval": 5})
        commands = [
            cluster.start(
                "run", str(sweep.file), "--name", name, "--storage", f"s3://{BUCKET}", "--set", f"search.seed={seed}"
            )
            for seed, name in enumerate(uris)
        ]
        server.refuses = 50

        def have_checkpoints() -> bool:
            stored = [name for uri in uris.values() for name in Store(uri).names("trials")]
            return sum(name.endswith(TrialPaths(Path()).manifest.name) for name in stored) == 4

        wait_for(have_checkpoints, 180, "a checkpoint of each trial in the store")
        cluster.all[-1].cut_power()
        ended = [command.finish() for command in commands]
        assert [code for code, _, _ in ended] == [0, 0], ended
        sweeps = {name: SweepPaths(tmp_path / "seen" / name) for name in uris}
        for name, paths in sweeps.items():
            Copy(Store(uris[name]), paths.folder).fetch(lambda _: True)
    assert server.refused
    went_on = []
    for paths in sweeps.values():
        assert {row["state"] for row in by_trial(paths).values()} == {"completed"}
        for trial in ("0000", "0001"):
            assert iterations(paths.trial(trial).folder) == list(range(1, 41))
            trained = yaml.safe_load(paths.trial(trial).config.read_text())
            went_on += [trained["checkpoint"]] if trained["turn"] == 2 else []
        assert json.loads(paths.result.read_text())["phase"] == "finished" and paths.best.onnx.exists()
    assert went_on and all(went_on), "from what the store had"
    seeds = [trained.config.read_text() for paths in sweeps.values() for trained in [paths.trial("0000")]]
    assert seeds[0] != seeds[1], "each has its own"


@needs_hosts
def test_two_hosts_train_in_mjlab_with_the_kernels_of_a_folder_that_they_share(tmp_path):
    pytest.importorskip("mjlab")
    from go1_sweep.simulators.warp_kernels import warp_cache

    kernels = warp_cache()  # this machine's, where other tests' are
    sweep = write_sweep(
        tmp_path,
        simulator="mjlab",
        resources={"gpus": 0, "kernel_cache": str(kernels)},
        search={"trials": 2, "parameters": {"entropy_coef": {"log_uniform": [1e-4, 1e-2]}}, "fixed": {"num_envs": 12}},
        budget={"unit": "iterations", "max": 2},
        final=FINAL,
    )
    paths = SweepPaths(sweep.folder)
    with hosts(tmp_path / "hosts", 1, 1) as cluster:
        code, out, err = cluster.start("run", str(sweep.file)).finish(500)
        own = [file for host in cluster.all for file in (cluster.folder / host.name).rglob("*.o")]
    assert code == 0, err
    show(out, sweep)
    assert used(paths) == {host.name for host in cluster.all}
    assert any(kernels.rglob("*.o")) and not own
    assert [(row["state"], row["iterations"]) for row in sweep.trials().values()] == [("completed", "2")] * 2
    assert json.loads(paths.result.read_text())["winner"]["exam"] and paths.best.onnx.exists()


@needs_hosts
def test_a_host_that_does_not_see_the_storage_is_named_before_anything_starts(tmp_path):
    sweep = a_sweep(tmp_path, 2)
    with hosts(tmp_path / "hosts", 0, 1) as cluster:
        sweep.folder.parent.mkdir(exist_ok=True)
        blind = cluster.add(1, hides=sweep.folder.parent)
        code, _, err = cluster.start("run", str(sweep.file)).finish()
    assert code == 2
    assert f"storage: node {blind.name} ({blind.address}) cannot use {sweep.folder}" in err
    assert not sweep.folder.exists()


@needs_hosts
def test_a_driver_that_is_killed_leaves_nothing_on_the_cluster_and_the_sweep_goes_on(tmp_path):
    """Its trials are on the one kind of node that they want."""
    sweep = a_sweep(tmp_path, 3, **{"env.step_seconds": 0.02})
    with hosts(tmp_path / "hosts", 2) as cluster:
        wanted = cluster.add(2, has="accelerator_type:H100")
        command = cluster.start("run", str(sweep.file), "--set", "resources.accelerator=H100")
        wait_for(lambda: iterations(SweepPaths(sweep.folder).trial("0000").folder), 90, "an iteration")
        command.process.kill()
        command.finish()
        head = cluster.all[0].address
        assert f"resume {sweep.folder} --address {head}:6379" in Page(write(sweep.folder).read_text()).text
        code, _, err = cluster.start("resume", str(sweep.folder)).finish()
    assert code == 0, err
    assert used(SweepPaths(sweep.folder)) == {wanted.name}
    assert {row["state"] for row in sweep.trials().values()} <= {"completed", "early_stopped"}


def test_a_driver_whose_clusters_head_is_gone_ends_with_a_sentence():
    watches = "from go1_sweep.sweep import ray_watch; import sys, time; ray_watch.HEAD_SECONDS = 0.5\n"
    watches += "with ray_watch.ending_with_head(sys.argv[1], 'resume'): time.sleep(60)"
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        driver = subprocess.Popen([sys.executable, "-c", watches, address], stderr=subprocess.PIPE, text=True)
        head.settimeout(30)
        head.accept()[0].close()
    said = f"error: the cluster's head at {address} has not answered for 0.5 s; when there is a cluster again, resume\n"
    assert (driver.communicate(timeout=30)[1], driver.returncode) == (said, 1)


@needs_hosts
def test_without_its_token_a_cluster_takes_nobody(tmp_path):
    sweep = a_sweep(tmp_path, 2)
    with hosts(tmp_path / "hosts", 1) as cluster:
        cluster.token = "another" * 9
        code, _, err = cluster.start("run", str(sweep.file)).finish()
    assert code == 2 and not sweep.folder.exists()
    assert "its token must be in ~/.ray/auth_token" in err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "nobody answers at 127.0.0.1:1: "),
        ("127.0.0.1:99999", "nobody answers at 127.0.0.1:99999: "),
        ("local", "expected HOST:PORT or auto, not 'local'"),
        ("ray://head:10001", "expected HOST:PORT or auto, not 'ray://head:10001'"),
    ],
)
def test_where_no_cluster_is_that_is_said(tmp_path, address, said):
    code, _, err = start("run", str(a_sweep(tmp_path, 2).file), "--address", address).finish()
    assert code == 2
    assert err.startswith(f"error: --address: {said}")
