"""The driver's side of W&B: starts the process that follows the sweep, and ends it. Does not import wandb."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from go1_sweep.errors import BadInput
from go1_sweep.paths import SweepPaths, shown
from go1_sweep.spec import Spec

INSTALL = "python -m pip install 'wandb>=0.31'"
END_SECONDS = 30.0
"""So long the follower may take to end when the sweep has; what is not up by then stays in the sweep's folder."""
KILL_SECONDS = 5.0
"""After which it is killed."""

HEADER_BYTES = 7
"""Of a file of W&B's."""

NOT_INHERITED = ("WANDB_SERVICE", "RAY_AUTH_TOKEN_PATH")
"""A process of the user's would take our runs; who holds the token of our Ray is ended with it."""


def warnings(spec: Spec) -> list[str]:
    """What the user may not expect of ``tracking``.

    Raises:
        BadInput: W&B is asked for, and is not installed.
    """
    wandb = spec.tracking.wandb
    if wandb is None or _is_installed():
        return []
    if wandb.mode != "auto":
        raise BadInput(f"tracking.wandb: the package wandb is not installed: {INSTALL}")
    return [f"tracking.wandb: nothing goes to W&B, since the package wandb is not installed: {INSTALL}"]


def _is_installed() -> bool:
    found = importlib.util.find_spec("wandb")
    return found is not None and found.origin is not None  # else it is a folder of that name in the working folder


@contextlib.contextmanager
def followed(spec: Spec, paths: SweepPaths, say: Callable[[str], None]) -> Iterator[None]:
    """W&B hears of the sweep while the context is entered, and of its end within ``END_SECONDS``.

    The follower ends when our end of its stdin is closed, however we end; Ctrl-C in our terminal does not reach it.

    Args:
        spec: of the sweep.
        paths: of the sweep.
        say: for a sentence; also called by another thread.
    """
    if spec.tracking.wandb is None or not _is_installed():
        yield
        return
    try:
        follower = _started(paths, spec.tracking.wandb.base_url)
    except OSError as error:
        say(f"W&B: nothing is told, since {error.filename or 'its process'} cannot be made: {error.strerror}")
        yield
        return
    listener = threading.Thread(target=_listen, args=(follower, say), daemon=True)
    listener.start()
    try:
        yield
    finally:
        _end(follower, listener, paths, say)


def drop_empty(paths: SweepPaths) -> None:
    """Remove runs of which W&B has written the header of a file alone: where one is, ``wandb sync`` uploads nothing."""
    for file in paths.wandb.glob("*run-*/*.wandb"):
        with contextlib.suppress(OSError):
            if file.stat().st_size <= HEADER_BYTES:
                shutil.rmtree(file.parent)


def _started(paths: SweepPaths, base_url: str | None) -> subprocess.Popen[bytes]:
    paths.wandb.mkdir(exist_ok=True)
    with open(paths.wandb_log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "go1_sweep.tracking.wandb_follower", str(paths.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(paths, base_url),
            start_new_session=True,
        )


def _environment(paths: SweepPaths, base_url: str | None) -> dict[str, str]:
    """Ours, with settings of W&B that the user has not made; error reporting waits for a server of its own."""
    settings = {
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_DATA_DIR": str(paths.wandb.absolute()),
    }
    ours = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    places = {"WANDB_DIR": str(paths.folder.absolute()), "WANDB_USE_DOT_WANDB": "false"}
    return settings | ours | places | ({"WANDB_BASE_URL": base_url} if base_url else {})


def _listen(follower: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    assert follower.stdout
    for line in follower.stdout:
        say(line.decode(errors="replace").rstrip("\n"))


def _end(
    follower: subprocess.Popen[bytes], listener: threading.Thread, paths: SweepPaths, say: Callable[[str], None]
) -> None:
    assert follower.stdin
    follower.stdin.close()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            follower.wait(END_SECONDS + KILL_SECONDS)
    except KeyboardInterrupt:  # the sweep is over, however it ended: the user does not want to wait for W&B
        say("W&B: not waited for any more")
    finally:
        follower.kill()  # no more than it: what it started dies with it
        follower.wait()
        listener.join(KILL_SECONDS)
        drop_empty(paths)
    if follower.returncode:
        say(f"W&B: its follower ended with an error; see {shown(paths.wandb_log)}")
