"""The interpreter of a worker, and what it is started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from go1_sweep.worker.interpreter import NoInterpreter, inherited, interpreter
from go1_sweep.worker.process import worker_environment


def script(folder: Path, text: str) -> str:
    """A stand-in for Isaac Lab's ``isaaclab.sh``: not executable, as some checkouts have it."""
    path = folder / "isaaclab.sh"
    path.write_text(f"#!/bin/bash\n{text}\n")
    return str(path)


def test_a_path_is_an_interpreter_as_it_is():
    assert interpreter("/opt/venv/bin/python").executable == "/opt/venv/bin/python"
    assert interpreter("~/venv/bin/python").executable == str(Path("~/venv/bin/python").expanduser())
    assert interpreter("/my disk/venv/bin/python").executable == "/my disk/venv/bin/python"
    assert interpreter(None).executable == sys.executable


@pytest.mark.parametrize("flag", ["", " -p"])
def test_a_script_is_asked_what_it_starts_and_with_what(tmp_path, monkeypatch, flag):
    monkeypatch.setenv("FROM_US", "stays")
    text = f'echo "[INFO] Using Python"; shift; export PYTHONPATH=/isaac EXP_PATH=/apps; "{sys.executable}" "$@"'
    found = interpreter(script(tmp_path, text) + flag)
    assert found.executable == sys.executable
    assert {key: found.sets.get(key) for key in ("PYTHONPATH", "EXP_PATH", "FROM_US")} == {
        "PYTHONPATH": "/isaac",
        "EXP_PATH": "/apps",
        "FROM_US": None,
    }
    environment = worker_environment(tmp_path, script(tmp_path, text) + flag, threads=1, gl="disable")
    assert environment["PYTHONPATH"] == f"{tmp_path}/path:/isaac"
    assert (environment["EXP_PATH"], environment["FROM_US"]) == ("/apps", "stays")


def test_a_script_is_not_told_that_our_environment_is_active(tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert "VIRTUAL_ENV" not in inherited(is_ours=False)
    assert inherited(is_ours=True)["VIRTUAL_ENV"] == sys.prefix
    monkeypatch.setenv("VIRTUAL_ENV", "/isaac/venv")
    assert inherited(is_ours=False)["VIRTUAL_ENV"] == "/isaac/venv"


@pytest.mark.parametrize(
    ("text", "said"),
    [("echo no conda >&2; exit 1", "no conda"), ("exit 3", "exit code 3"), ("echo hello", "exit code")],
)
def test_a_script_that_starts_no_python_is_told_with_its_last_words(tmp_path, text, said):
    with pytest.raises(NoInterpreter, match=f"starts no Python: .*{said}"):
        interpreter(script(tmp_path, text))


def test_what_changes_in_our_environment_reaches_the_next_worker(tmp_path, monkeypatch):
    interpreter(None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    environment = worker_environment(tmp_path, None, threads=1, gl="disable")
    told = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    assert subprocess.run(told, env=environment, capture_output=True, text=True).stdout == "3\n"
