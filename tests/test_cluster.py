"""A sweep on a Ray cluster: several hosts, a shared folder, hosts that come and go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Sweep, iterations, start, wait_for, write_sweep
from hosts import hosts, why_not
from test_report import Page

from go1_sweep import timeline
from go1_sweep.paths import SweepPaths
from go1_sweep.report.page import write

needs_hosts = pytest.mark.skipif(bool(problem := why_not()), reason=problem)
FINAL = {"finalists": 1, "envs": 12, "seeds": 1, "exam_seconds": 1, "video": False}


def a_sweep(folder: Path, trials: int, **fixed: object) -> Sweep:
    return write_sweep(
        folder,
        search={"trials": trials, "parameters": {"learning_rate": {"log_uniform": [1e-3, 3e-3]}}, "fixed": fixed},
        budget={"unit": "iterations", "max": 40},
        resources={"gpus": 0, "cpus": 1},
        final=FINAL,
    )


def used(paths: SweepPaths) -> set[str]:
    """The hosts that had trials to the end."""
    return {stint.slot.split()[0] for stint in timeline.read(paths.timeline)}


@needs_hosts
def test_a_sweep_uses_all_hosts_one_that_joins_and_survives_one_that_dies(tmp_path):
    sweep = a_sweep(tmp_path, 12, **{"env.step_seconds": 0.02})
    paths = SweepPaths(sweep.folder)
    with hosts(tmp_path / "hosts", 0, 1, 1, has_dashboard=True) as cluster:
        head, dying, steady = cluster.all
        command = cluster.start("run", str(sweep.file))
        wait_for(lambda: {dying.name, steady.name} <= used(paths), 120, "a trial on each host")
        late = cluster.add(1)
        dying.cut_power()
        wait_for(lambda: late.name in used(paths), 120, "a trial on the host that came late")
        code, out, err = command.finish()
    assert code == 0, err
    rows = sweep.trials()
    assert len(rows) == 12 and {row["state"] for row in rows.values()} <= {"completed", "early_stopped"}
    assert "its actor died (killed, or its host went down): it goes on in another one" in out
    for trial, row in rows.items():
        assert sweep.iterations(trial) == list(range(1, int(row["iterations"]) + 1))
    assert head.name not in used(paths)
    assert f"Ray's dashboard: {cluster.dashboard}, on its head" in out
    assert json.loads(paths.result.read_text())["phase"] == "finished"


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
    sweep = a_sweep(tmp_path, 3, **{"env.step_seconds": 0.02})
    with hosts(tmp_path / "hosts", 0, 2) as cluster:
        command = cluster.start("run", str(sweep.file))
        wait_for(lambda: iterations(SweepPaths(sweep.folder).trial("0000").folder), 90, "an iteration")
        command.process.kill()
        command.finish()
        head = cluster.all[0].address
        assert f"resume {sweep.folder} --address {head}:6379" in Page(write(sweep.folder).read_text()).text
        code, _, err = cluster.start("resume", str(sweep.folder)).finish()
    assert code == 0, err
    assert {row["state"] for row in sweep.trials().values()} <= {"completed", "early_stopped"}


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
