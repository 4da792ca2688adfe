"""A Ray of our own on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
from ray._private.node import Node

from go1_sweep.errors import UserError, one_line
from go1_sweep.sweep import quiet_ray
from go1_sweep.sweep.ray_watch import OWN_RAY, Watch, kill_all

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""A sweep puts next to nothing into Ray's object store; the default takes 30% of the memory."""

IDLE = ("start_monitor", "start_log_monitor", "start_api_server")
"""Of Ray's ``Node``, what starts processes that a sweep has no use for: an autoscaler, a reader of logs that nobody is
shown, and a dashboard's server, for which ``ray.init`` waits a second even where there is no dashboard."""


@contextlib.contextmanager
def local_ray(scratch: str, then: str, variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """A Ray of our own on this machine, whatever cluster may be running; it obeys who has its token.

    The token is in the scratch folder, for this user alone: Ray's own ``~/.ray/auth_token`` may be read by all. The
    actors' temporary files go there too: some packages leave theirs behind.

    Args:
        scratch: a folder.
        then: the command for a user whose Ray has died.
        variables: of the actors' environment.

    Raises:
        UserError: Ray did not start, or a process without which it does nothing has died. Tune would wait for ever.
    """
    token = Path(scratch, "ray_token")
    with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would be taken instead
    for start in IDLE:
        setattr(Node, start, lambda *_, **__: None)
    try:
        quiet_ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            runtime_env={"env_vars": {**(variables or {}), "TMPDIR": scratch, OWN_RAY: str(token)}},
        )
    except BaseException as error:
        kill_all(token)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserError(f"Ray did not start: {one_line(error)} (its logs: /tmp/ray/session_latest/logs)") from error
    watch = Watch(token, then)
    watch.start()
    try:
        yield
    except (KeyboardInterrupt, Exception):
        if not watch.look():  # else that is the reason, whatever came of it
            raise
    finally:
        watch.work_is_over.set()
        try:
            ray.shutdown()
        finally:  # also at a second Ctrl-C
            watch.ray_is_over.set()
            kill_all(token)
    if watch.dead:
        raise UserError(watch.problem())
