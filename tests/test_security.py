"""Who may tell our Ray what to do."""

from __future__ import annotations

import os
import subprocess
import sys

INSIDE = """
import os, stat, subprocess, sys, tempfile
from go1_sweep.sweep.local_ray import local_ray
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
"""


def test_our_ray_obeys_only_who_has_its_token_which_is_this_users_alone():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, "-c", INSIDE], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ["0o600 True 64", "False", "True", "False", "False"], done.stderr
