"""The one worker of ``train`` and ``play``, on the device that was asked for."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from go1_sweep import protocol
from go1_sweep.errors import BadInput, UserError
from go1_sweep.simulators import SIMULATORS
from go1_sweep.spec import SimulatorSpec
from go1_sweep.worker.probing import probe
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec

STALL_TIMEOUT = 900.0
"""Seconds without a word; longer than a cold compilation of kernels."""


def worker_spec(simulator: str, settings: SimulatorSpec, device: str) -> WorkerSpec:
    """The worker of a simulator on a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.

    It sees the one GPU alone, as its first, by CUDA_VISIBLE_DEVICES of this process.

    Raises:
        BadInput: that is no device.
    """
    if device not in ("auto", "cpu"):
        match = re.fullmatch(r"cuda(?::(\d+))?", device)
        if not match:
            raise BadInput(f"--device: expected auto, cpu, cuda or cuda:<n>, not '{device}'")
        _see_only(int(match[1] or 0), device)
    return WorkerSpec(
        simulator=simulator,
        python=settings.python,
        device="cpu" if device == "cpu" else "auto",
        threads=os.cpu_count() or 1,
        stall_timeout=STALL_TIMEOUT,
        launch=settings.launch,
    )


def _see_only(number: int, device: str) -> None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
        return
    names = visible.split(",")
    if number >= len(names) or not names[number]:
        raise BadInput(f"--device {device}: CUDA_VISIBLE_DEVICES is '{visible}', which has no number {number}")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number]


@contextlib.contextmanager
def working(spec: WorkerSpec, log: Path, *, gl: str = "disable") -> Iterator[tuple[WorkerProcess, protocol.Hello]]:
    """Start the worker, and end it on every way out; what it said first.

    Raises:
        UserError: it does not start, or it failed meanwhile; with its last words.
    """
    try:
        worker = spec.start(log, gl=gl)
    except WorkerFailed as failure:
        raise UserError(str(failure)) from None
    try:
        yield worker, worker.greeted(spec.stall_timeout)
    except WorkerFailed as failure:
        raise UserError(f"{failure}{worker.last_words()}") from None
    finally:
        worker.close()


def require_viewer(simulator: str) -> None:
    """Look whether it can show anything.

    Raises:
        BadInput: it cannot.
    """
    if not SIMULATORS[simulator].has_viewer:
        raise BadInput(f"--gui: the simulator {simulator} has no viewer here")


def viewer_of(gui: bool) -> str:
    """The viewer that shows something here: ``window``, ``browser`` where there is no screen, or none."""
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return ("window" if has_screen else "browser") if gui else ""


def gl_of(gui: bool) -> str:
    """MuJoCo's OpenGL for the viewer, as in ``worker_environment``."""
    return "glfw" if viewer_of(gui) == "window" else "disable"


def why_on_cpu(hello: protocol.Hello, python: str | None, device: str) -> str:
    """Why the worker computes on the CPU, if it does and that was not asked for; empty otherwise.

    Raises:
        BadInput: a GPU was asked for, and cannot be used.
    """
    if hello.device != "cpu" or device == "cpu":
        return ""
    found = probe(python, "torch")["torch"]
    why = found["problem"] or "there is no NVIDIA GPU on this machine"
    if found["mend"]:
        why += f"; mend it: {found['mend']}"
    if device != "auto":
        raise BadInput(f"--device {device}: {why}")
    return why
