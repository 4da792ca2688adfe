"""Trials that share a GPU do so under NVIDIA's MPS: a daemon of the sweep's own, which ends with it.

The daemon is a stand-in; no test here has a GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import alive, wait_for

from go1_sweep.spec import ResourcesSpec
from go1_sweep.sweep import mps as module
from go1_sweep.sweep.mps import CONTROL, PIPES, mps

STAND_IN = f"""#!/bin/sh
here=${PIPES}
if [ "$1" = -f ]; then
    [ -n "$SLOW" ] && {{ echo $$ > $here/started; exec sleep $SLOW; }}
    [ -n "$BROKEN" ] && {{ echo An instance of this daemon is already running >&2; exit 1; }}
    [ -n "$CUDA_VISIBLE_DEVICES" ] && exit 1
    echo "Starting control daemon using socket $here/control"
    echo $$ > $here/pid.new; mv $here/pid.new $here/pid; touch $here/control
    exec sleep 1000
fi
read command; [ -e $here/control ] && [ "$command" = "quit -t 5" ] && kill $(cat $here/pid)
"""

IN_A_DRIVER = """
import sys
from pathlib import Path
from go1_sweep.sweep import mps
mps.probe = lambda *_, **__: {"torch": {"problem": ""}}
with mps.mps(Path(sys.argv[1]), None, print):
    print("there", flush=True)
    input()
"""

IN_AN_ACTOR = """
import os, tempfile
from go1_sweep.sweep.local_ray import local_ray
with tempfile.TemporaryDirectory() as scratch, local_ray(scratch, "try again", {"OF_MPS": "here"}):
    import ray
    print(ray.get(ray.remote(os.getenv).remote("OF_MPS")))
"""


@pytest.fixture
def installed(monkeypatch, tmp_path) -> None:
    """The stand-in is on the path, and the user has no daemon."""
    program = tmp_path / "bin" / CONTROL
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(PIPES, raising=False)
    monkeypatch.setattr(module, "DEFAULT_PIPES", tmp_path / "nobody's")


@pytest.fixture
def probed(monkeypatch) -> Callable[[str], None]:
    """What the probe of torch is to find under the daemon."""

    def finds(problem: str) -> None:
        def probe(python: str | None, section: str, *, variables: dict[str, str]) -> dict[str, dict[str, str]]:
            assert section == "torch" and (not variables or Path(variables[PIPES], "control").exists())
            return {"torch": {"problem": problem}}

        monkeypatch.setattr(module, "probe", probe)

    return finds


def is_alive(folder: Path) -> bool:
    """Whether the daemon runs that was started with the scratch folder."""
    pid = int((folder / "mps" / "pid").read_text())
    return psutil.pid_exists(pid) and bool(alive([psutil.Process(pid)]))


def test_the_daemon_is_there_as_long_as_the_sweep(installed, probed, tmp_path):
    probed("")
    with mps(tmp_path, None, pytest.fail) as variables:
        assert is_alive(tmp_path)
        assert variables[PIPES] == str(tmp_path / "mps")
    assert not is_alive(tmp_path)


def test_the_daemon_ends_when_the_driver_is_killed(installed, tmp_path):
    driver = subprocess.Popen(
        [sys.executable, "-c", IN_A_DRIVER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout and driver.stdout.readline() == "there\n"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not is_alive(tmp_path), 10, "the daemon's end")


def test_a_daemon_under_which_torch_does_not_compute_is_ended_and_told(installed, probed, tmp_path):
    probed("torch 2.11.0 cannot use the GPU: MPS client failed to connect")
    said: list[str] = []
    with mps(tmp_path, None, said.append) as variables:
        assert variables == {}
        assert not is_alive(tmp_path)
    assert "take turns" in said[0] and "MPS client failed to connect" in said[0]


def test_without_mps_trials_take_turns_which_is_told(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    with mps(tmp_path, None, said.append) as variables:
        assert variables == {}
    assert f"{CONTROL} is not installed" in said[0]


@pytest.mark.parametrize("where", ["variable", "default"])
def test_a_daemon_of_the_users_is_left_to_do_it(installed, probed, monkeypatch, tmp_path, where):
    probed("")
    if where == "variable":
        monkeypatch.setenv(PIPES, "/somewhere")
    else:
        module.DEFAULT_PIPES.mkdir()
        (module.DEFAULT_PIPES / "control").touch()
    with mps(tmp_path, None, pytest.fail) as variables:
        assert variables == {} and not (tmp_path / "mps").exists()


def test_a_daemon_of_the_users_that_does_not_answer_is_told(installed, probed, monkeypatch, tmp_path):
    probed("MPS client failed to connect")
    monkeypatch.setenv(PIPES, "/somewhere")
    said: list[str] = []
    with mps(tmp_path, None, said.append):
        assert "the daemon that runs already, MPS client failed to connect" in said[0]


def test_a_daemon_that_does_not_start_says_why_at_once(installed, probed, monkeypatch, tmp_path):
    monkeypatch.setenv("BROKEN", "1")
    monkeypatch.setattr(module, "START_SECONDS", 600.0)
    said: list[str] = []
    with mps(tmp_path, None, said.append) as variables:
        assert variables == {}
    assert f"{CONTROL} does not start: An instance of this daemon is already running" in said[0]


def test_a_daemon_that_does_not_listen_yet_ends_with_a_driver_that_is_killed(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("SLOW", "1000")
    driver = subprocess.Popen([sys.executable, "-c", IN_A_DRIVER, tmp_path], stdin=subprocess.PIPE)
    started = tmp_path / "mps" / "started"
    wait_for(lambda: started.exists() and started.read_text().strip(), 30, "the daemon's start")
    daemon = psutil.Process(int(started.read_text()))
    driver.kill()
    driver.communicate()
    wait_for(lambda: not alive([daemon]), 10, "the daemon's end")


def test_a_sweep_on_some_of_the_gpus_has_a_daemon_of_all(installed, probed, monkeypatch, tmp_path):
    probed("")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with mps(tmp_path, None, pytest.fail) as variables:
        assert variables


def test_actors_get_the_variables():
    done = subprocess.run([sys.executable, "-c", IN_AN_ACTOR], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["here"], done.stderr


@pytest.mark.parametrize(("gpus", "shares"), [("auto", False), (0, False), (1, False), (0.6, False), (0.5, True)])
def test_gpus_are_shared_where_two_trials_fit_on_one(gpus, shares):
    assert ResourcesSpec(gpus=gpus).shares_gpus == shares
