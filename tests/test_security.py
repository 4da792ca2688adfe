"""A Ray of our own: who may tell it what to do, and what it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

INSIDE = """
import os, pathlib, stat, subprocess, sys, tempfile, time
from go1_sweep.sweep.local_ray import local_ray
from go1_sweep.sweep.ray_watch import _processes
with tempfile.TemporaryDirectory() as scratch, local_ray(scratch, "try again"):
    import ray
    path = os.environ["RAY_AUTH_TOKEN_PATH"]
    token = open(path).read()
    print(oct(stat.S_IMODE(os.stat(path).st_mode)), os.path.dirname(path) == scratch, len(token))
    print(token in subprocess.run(["ps", "axww"], capture_output=True, text=True).stdout)
    join = "import ray; ray.init(sys.argv[1], log_to_driver=False); print(ray.is_initialized())"
    for mode, token in (("token", token), ("token", "0" * 64), ("disabled", "")):
        other = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
        del other["RAY_AUTH_TOKEN_PATH"]
        address = ray.get_runtime_context().gcs_address
        done = subprocess.run(
            ["timeout", "15", sys.executable, "-c", "import sys; " + join, address],
            env=other, capture_output=True, text=True,
        )
        print("True" in done.stdout)
    needed = {"gcs_server", "raylet", "ray::DashboardA", "ray::RuntimeEnv"}
    until = time.monotonic() + 30  # the two agents have other names while they start
    while (others := {name for _, name in _processes(pathlib.Path(path))} - needed) and time.monotonic() < until:
        time.sleep(0.1)
    print(others)
"""


@pytest.fixture(scope="module")
def seen() -> list[str]:
    """What was printed inside."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run([sys.executable, "-c", INSIDE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_our_ray_obeys_only_who_has_its_token_which_is_this_users_alone(seen):
    assert seen[:-1] == ["0o600 True 64", "False", "True", "False", "False"]


def test_our_ray_starts_no_process_that_a_sweep_has_no_use_for(seen):
    assert seen[-1] == "set()"
