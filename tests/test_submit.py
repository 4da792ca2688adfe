"""Commands as jobs of a cluster, from a machine that has nothing of it but the address of its dashboard."""

from __future__ import annotations

import http.server
import json
import platform
import shlex
import threading
from pathlib import Path

import pytest
import yaml
from conftest import Sweep, iterations, start, wait_for, write_sweep
from hosts import hosts, why_not
from test_report import Page

from go1_sweep import __version__, cli, lock
from go1_sweep.console import lasting
from go1_sweep.errors import BadInput
from go1_sweep.paths import SweepPaths, copy_of
from go1_sweep.stop import stop
from go1_sweep.wording import resume_command


def a_sweep(folder: Path) -> Sweep:
    """One trial, of few iterations."""
    search = {"trials": 1, "parameters": {"gamma": {"uniform": [0.9, 0.99]}}, "fixed": {"env.step_seconds": 0.02}}
    return write_sweep(folder, search=search, budget={"unit": "iterations", "max": 9})


def another_version(folder: Path) -> Path:
    """A folder for PYTHONPATH, which makes ours 9."""
    (folder / "sitecustomize.py").write_text("import go1_sweep\ngo1_sweep.__version__ = '9'\n")
    return folder


@pytest.mark.skipif(bool(problem := why_not()), reason=problem)
def test_a_sweep_is_started_looked_at_ended_resumed_and_reported_from_outside_its_cluster(tmp_path):
    sweep = a_sweep(tmp_path)
    paths, trial, laptop = SweepPaths(sweep.folder), SweepPaths(sweep.folder).trial("0000").folder, tmp_path / "laptop"
    for folder in (laptop, sweep.folder.parent):
        folder.mkdir()
    with hosts(tmp_path / "hosts", 1, has_dashboard=True) as cluster:

        def say(*arguments: str, **variables: str) -> tuple[int, str, str]:
            return cluster.start_outside(*arguments, cwd=laptop, hides=sweep.folder.parent, **variables).finish()

        run = ("run", str(sweep.file), "--submit", cluster.dashboard, "--set", "budget.max=9999")
        code, _, err = say("status", str(sweep.folder), "--submit", cluster.dashboard)
        assert (code, err) == (2, f"error: {sweep.folder}: no such folder\n")
        code, _, err = say(*run, RAY_AUTH_TOKEN="another" * 9)
        assert code == 2 and "does not take us: its token must be in ~/.ray/auth_token" in err
        code, _, err = say(*run, PYTHONPATH=f"{another_version(tmp_path)}:{Path.cwd()}")
        assert code == 2 and f"--version` says 'go1_sweep {__version__}', and here 'go1_sweep 9'" in err
        assert not sweep.folder.exists()

        code, out, err = say(*run)
        assert (code, err) == (0, "")
        assert "trial 0000 started" in out
        typed = {line.split()[3]: shlex.split(line)[3:] for line in out.splitlines() if line.startswith("  python")}
        code, out, err = say(*typed["status"], "--json")
        assert code == 0, err
        assert (json.loads(out)["phase"], json.loads(out)["budget"]["max"]) == ("running", 9999)
        watching = cluster.start_outside(*typed["status"], "--watch", cwd=laptop, hides=sweep.folder.parent)
        assert watching.process.stdout and watching.process.stdout.readline().startswith("running: 1 running; 0:0")
        code, out, err = say(*typed["stop"])
        assert code == 0, err
        assert f"Stopped. Go on: python -m go1_sweep {shlex.join(typed['resume'])}" in out
        code, out, err = watching.finish()
        assert (code, err) == (0, "") and "sweep: interrupted" in out
        wait_for(lambda: not cluster.running(), 60, "the end of all that the sweep started")
        reached = iterations(trial)[-1]

        code, out, err = say(*typed["resume"])
        assert code == 0, err
        job = out.split()[1]
        wait_for(lambda: iterations(trial)[-1] > reached, 60, "an iteration more")
        assert say(*typed["report"]) == (0, "sweep-report.html\n", "")
        assert "running: task flat on fake" in Page((laptop / "sweep-report.html").read_text()).text
        cluster.ray("job", "stop", "--no-wait", job)
        wait_for(lambda: not cluster.running(), 60, "the end of a job that was told to stop")
    assert json.loads(paths.result.read_text())["phase"] == "interrupted"


class NoDashboard(http.server.BaseHTTPRequestHandler):
    """Another server than Ray's."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_where_no_dashboard_is_that_is_said(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), NoDashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for port, why in ((1, "Connection refused"), (server.server_port, "Not Found")):
        address = f"http://127.0.0.1:{port}"
        code, _, err = start("run", str(a_sweep(tmp_path).file), "--submit", address).finish()
        assert code == 2
        assert f"error: --submit: no dashboard of Ray answers at {address}: " in err and why in err
    server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--submit"], "name Ray's dashboard, as http://HEAD:8265, or set RAY_API_SERVER_ADDRESS"),
        (["--submit", "head:6379"], "expected http://HOST:PORT of Ray's dashboard, not 'head:6379'"),
        (["--submit", "http://head:8265", "--storage", "runs"], "runs/sweep is no absolute path"),
        (["--submit", "http://head:8265", "--address", "auto"], "not allowed with argument --submit"),
        (["--submit", "http://head:8265", "--set", "search.trials=0"], "search.trials: must be at least 1, not 0"),
    ],
)
def test_what_a_cluster_cannot_be_asked_is_refused_without_one(tmp_path, arguments, said, capsys, monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["run", str(a_sweep(tmp_path).file), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_sweep_that_runs_elsewhere_is_stopped_by_the_command_that_is_named(tmp_path, monkeypatch):
    paths = SweepPaths(tmp_path)
    paths.spec.touch()
    with lock.held(paths.lock, 1, address="http://head:8265"):
        monkeypatch.setattr(platform, "node", lambda: "laptop")
        with pytest.raises(BadInput) as refused:
            stop(tmp_path, lasting())
    assert f"stop it there, or python -m go1_sweep stop {tmp_path} --submit http://head:8265" in str(refused.value)


def test_of_a_sweep_in_a_store_the_commands_for_another_machine_name_its_uri():
    go_on = resume_command(copy_of("s3://bucket/runs/rough"), "http://head:8265")
    assert go_on == "python -m go1_sweep resume s3://bucket/runs/rough --submit http://head:8265"


def test_a_job_that_is_submitted_from_a_file_goes_on_without_the_folder_of_its_sweep():
    job = yaml.safe_load((Path(__file__).parent.parent / "cluster" / "rayjob.yaml").read_text())
    told = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    go_on = resume_command(Path("/shared/runs/rough"), "auto", told[lock.RESUME])
    assert (go_on, told[lock.STOP]) == tuple(
        f"kubectl {does} -f cluster/rayjob.yaml" for does in ("replace --force", "delete")
    )


def test_a_sweep_in_a_job_that_brings_its_cluster_is_ended_and_goes_on_by_such_jobs(tmp_path, monkeypatch):
    paths = SweepPaths(tmp_path)
    paths.spec.touch()
    monkeypatch.setenv(lock.RESUME, "sbatch --chdir=/repo slurm.sh resume {folder}")
    monkeypatch.setenv(lock.STOP, "scancel --batch --signal=TERM 7")
    with lock.held(paths.lock, 1, address="10.0.0.1:20007"):
        monkeypatch.delenv(lock.RESUME)
        monkeypatch.delenv(lock.STOP)
        monkeypatch.setattr(platform, "node", lambda: "login")
        with pytest.raises(BadInput, match=r"stop it there, or scancel --batch --signal=TERM 7$"):
            stop(tmp_path, lasting())
    driver = lock.driver(paths.lock)
    assert driver and driver.resume_command(tmp_path) == f"sbatch --chdir=/repo slurm.sh resume {tmp_path}"
