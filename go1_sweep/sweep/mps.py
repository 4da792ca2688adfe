"""NVIDIA's MPS: under it the kernels of trials that share a GPU run at the same time. Without it trials take turns.

https://docs.nvidia.com/deploy/mps/index.html
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from go1_sweep.worker.probing import probe

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
DEFAULT_PIPES = Path("/tmp/nvidia-mps")
"""Where CUDA looks for a daemon unless ``PIPES`` says another place."""

ENDED = "ended"
SUPERVISED = f"{{ {CONTROL} -f; echo; echo {ENDED}; }} & cat; echo quit -t 5 | {CONTROL} || kill 0; wait"
"""A shell's: the daemon, until our end of a pipe is closed, however we end; killed if it does not listen yet."""

START_SECONDS, END_SECONDS = 10.0, 15.0


@contextlib.contextmanager
def mps(scratch: Path, python: str | None, warn: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """A daemon of our own, until the context is left or this process ends; one of the user's is taken where it runs.

    Gives the variables by which processes find ours. Where nobody can compute under it, or under the user's, ``warn``
    has heard why.

    Args:
        scratch: a folder, with a short path: there will be sockets in it.
        python: the interpreter that has torch; see ``interpreter``.
        warn: for a sentence.

    Raises:
        BadInput: the interpreter cannot be started.
    """
    if os.environ.get(PIPES) or (DEFAULT_PIPES / "control").exists():
        if problem := _torch_problem(python, {}):
            warn(_without(f"under the daemon that runs already, {problem}"))
        yield {}
        return
    if shutil.which(CONTROL) is None:
        warn(_without(f"{CONTROL} is not installed"))
        yield {}
        return
    pipes, logs = scratch / "mps", scratch / "mps_logs"
    variables = {PIPES: str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
    for folder in (pipes, logs):
        folder.mkdir()
    said = scratch / "mps.txt"
    with open(said, "wb") as out:
        daemon = subprocess.Popen(
            ["sh", "-c", SUPERVISED],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=_of_all_gpus() | variables,
            start_new_session=True,
        )
    try:
        if problem := _problem(pipes / "control", said, python, variables):
            warn(_without(problem))
            _end(daemon)
            variables = {}
        yield variables
    finally:
        _end(daemon)


EACH_NODE_NEEDS_MPS = (
    f"resources.gpus: trials share GPUs; start NVIDIA's MPS ({CONTROL} -d) on each node before Ray, or they take turns"
)


def _of_all_gpus() -> dict[str, str]:
    """Our environment; a daemon that sees some of the GPUs alone numbers them anew, and its clients fail."""
    return {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}


def _problem(socket: Path, said: Path, python: str | None, variables: dict[str, str]) -> str:
    """Why nobody can compute under the daemon; empty if one can."""
    deadline = time.monotonic() + START_SECONDS
    while not socket.exists():
        *lines, last = ["", *said.read_text(errors="replace").split("\n")[:-1]]
        if last == ENDED:
            return f"{CONTROL} does not start: {next(filter(None, reversed(lines)), 'it says nothing')}"
        if time.monotonic() > deadline:
            return f"{CONTROL} did not start within {START_SECONDS:g} s"
        time.sleep(0.05)
    return _torch_problem(python, variables)


def _torch_problem(python: str | None, variables: dict[str, str]) -> str:
    return probe(python, "torch", variables=variables)["torch"]["problem"]


def _without(why: str) -> str:
    return (
        f"resources.gpus: trials share a GPU without NVIDIA's MPS, and take turns, by which little is gained: {why}. "
        "Where another user's or a container's daemon is to be used, set CUDA_MPS_PIPE_DIRECTORY"
    )


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon and its servers; may be called twice."""
    assert daemon.stdin
    daemon.stdin.close()
    try:
        daemon.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
