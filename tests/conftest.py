"""Helpers for tests that run the real command line, Ray included."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from go1_sweep.paths import SweepPaths, TrialPaths

MARK = "GO1_SWEEP_TEST"

LONGEST = ("cluster", "final", "quickstart", "wandb", "resume", "faults", "store", "chaos", "full_disk")
"""The files that take longest. They go first, so that no core is idle while the last of them runs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files; within one its tests stay as they are."""
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def marked_processes(mark: str) -> list[psutil.Process]:
    """All processes that descend from a command which was started with the mark, wherever they ended up."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return alive(found)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run: a zombie that nobody has reaped yet does not."""
    running = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running


def table(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no such file."""
    if not file.exists():
        return []
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def logs(run: Path) -> list[dict[str, str]]:
    """The rows of the ``logs.csv`` in a folder."""
    return table(TrialPaths(run).logs)


def iterations(run: Path) -> list[int]:
    """Those in the ``logs.csv`` of a folder."""
    return [int(row["iteration"]) for row in logs(run)]


def by_trial(paths: SweepPaths) -> dict[str, dict[str, str]]:
    """The rows of ``trials.csv`` by trial."""
    return {row["trial"]: row for row in table(paths.trials_table)}


@dataclass
class Command:
    """A running ``python -m go1_sweep ...``."""

    process: subprocess.Popen[str]
    mark: str

    def finish(self, seconds: float = 240) -> tuple[int, str, str]:
        """Wait for the end; the exit code, stdout and stderr. No descendant may be left."""
        out, err = self.process.communicate(timeout=seconds)
        deadline = time.monotonic() + 90  # Ray's agents ask a dead gcs_server for a minute
        while (left := self.descendants()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"left behind: {[(each.pid, each.ppid(), each.status(), each.cmdline()) for each in left]}"
        return self.process.returncode, out, err

    def descendants(self) -> list[psutil.Process]:
        return [p for p in marked_processes(self.mark) if p.pid != self.process.pid]


@dataclass
class Sweep:
    """A sweep file in a folder of its own, and the folder that the sweep leaves behind."""

    file: Path
    folder: Path

    def start(self, *arguments: str, command: str = "run") -> Command:
        return start(command, str(self.file), *arguments)

    def run(self, *arguments: str, seconds: float = 240) -> tuple[int, str, str]:
        return self.start(*arguments).finish(seconds)

    def trials(self) -> dict[str, dict[str, str]]:
        """The rows of ``trials.csv`` by trial."""
        return by_trial(SweepPaths(self.folder))

    def logs(self, trial: str) -> list[dict[str, str]]:
        """The rows of the trial's ``logs.csv``."""
        return logs(SweepPaths(self.folder).trial(trial).folder)

    def iterations(self, trial: str) -> list[int]:
        """Those in the trial's ``logs.csv``."""
        return iterations(SweepPaths(self.folder).trial(trial).folder)


def start(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Command:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "go1_sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {}), MARK: mark},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
    )
    command = Command(process, mark)
    _STARTED.append(command)
    return command


_STARTED: list[Command] = []


@pytest.fixture(autouse=True)
def _no_command_outlives_its_test() -> Iterator[None]:
    """A test that fails while its command runs would leave that to all others."""
    first = len(_STARTED)
    yield
    for command in _STARTED[first:]:
        if command.process.poll() is None:
            command.process.kill()
            for process in command.descendants():
                process.kill()
            command.process.communicate()
    del _STARTED[first:]


@pytest.fixture(scope="session", autouse=True)
def _no_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may have one of W&B's, and settings of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))
        yield


SMALL: dict[str, Any] = {
    "name": "sweep",
    "task": "flat",
    "simulator": "fake",
    "search": {"trials": 4, "parameters": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}},
    "budget": {"unit": "iterations", "max": 6},
    "early_stopping": {"scheduler": "none", "window": 2},
    "resources": {"gpus": 0, "concurrent": 1},
    "baseline": False,
    "final": {"finalists": 1, "envs": 12, "seeds": 1, "video": False},
}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A ``Server`` of ``s3_server.py``, and what its clients need in the environment."""
    from s3_server import serving

    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@contextlib.contextmanager
def away(s3: Any) -> Iterator[None]:
    """The store refuses everything, until it has done so ten times."""
    last, s3.refuses = s3.refused + 10, 1

    def come_back() -> None:
        wait_for(lambda: s3.refused >= last, 60, "who asks in vain")
        s3.refuses = 0

    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def uri(s3: Any, request: pytest.FixtureRequest) -> str:
    """A place in its bucket that is the test's own; it refuses nothing any more."""
    from s3_server import BUCKET

    s3.refuses = 0
    return f"s3://{BUCKET}/{request.node.name.partition('[')[0]}"


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    """HOST:PORT of a server that stores as Google's does, with a bucket of the same name."""
    from gcp_storage_emulator.server import create_server
    from s3_server import BUCKET

    with create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET) as server:
        listening: Any = server._api._httpd
        yield f"127.0.0.1:{listening.server_port}"


@pytest.fixture
def gs_uri(gs: str, request: pytest.FixtureRequest) -> str:
    """A place in its bucket that is the test's own."""
    from s3_server import BUCKET

    place = request.node.name.partition("[")[0]
    return f"gs://anonymous@{BUCKET}/{place}?endpoint_override={gs}&scheme=http"


@pytest.fixture(params=["uri", "gs_uri"], ids=["s3", "gs"])
def any_uri(request: pytest.FixtureRequest) -> str:
    """A place of the test's own, in each kind of store."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Sweep]:
    """Makes a small sweep over the fake simulator; keyword arguments replace sections of it."""

    def make(**sections: Any) -> Sweep:
        return write_sweep(tmp_path, **sections)

    return make


def write_sweep(folder: Path, **sections: Any) -> Sweep:
    """A small sweep over the fake simulator in the folder."""
    content = {**SMALL, "storage": str(folder / "runs"), **sections}
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(content))
    return Sweep(file, folder / "runs" / content["name"])


def status(folder: Path) -> tuple[dict[str, Any], str]:
    """What ``status --json`` and ``status`` say."""
    said = []
    for arguments in (["--json"], []):
        code, out, err = start("status", str(folder), *arguments).finish(30)
        assert (code, err) == (0, "")
        said.append(out)
    return json.loads(said[0]), said[1]
