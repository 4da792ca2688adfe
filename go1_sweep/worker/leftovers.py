"""What a worker leaves behind when it is killed: processes that do not end, and GPU memory that is not given back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import pynvml

PATIENCE_SECONDS = 10.0
"""How long the driver of a GPU may take to clear up after a process; it is done in less than one."""
POLL_SECONDS = 0.05


def in_group(group: int) -> set[int]:
    """The processes of a process group, but for those that have ended and were not reaped."""
    return {pid for pid in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")) if _group_of(pid) == group}


def with_variable(name: str, value: str) -> set[int]:
    """The processes that were started with this in their environment, wherever they went since."""
    found, wanted = set(), f"{name}={value}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, is a zombie, or another user's
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def on_gpus() -> dict[int, int]:
    """The processes that hold memory of a GPU [bytes], as far as NVML knows them by the numbers that they have here."""
    found: dict[int, int] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no NVIDIA GPU
        return found
    with contextlib.suppress(pynvml.NVMLError):
        for index in range(pynvml.nvmlDeviceGetCount()):
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(index)):
                found[process.pid] = found.get(process.pid, 0) + (process.usedGpuMemory or 0)
    pynvml.nvmlShutdown()
    return found


def left_of(processes: Iterable[int]) -> list[str]:
    """What is left of processes that were killed, a sentence each; waits for it to go away."""
    processes, deadline = set(processes), time.monotonic() + PATIENCE_SECONDS
    while True:
        alive = {pid for pid in processes if _group_of(pid) is not None}
        holding = {pid: memory for pid, memory in on_gpus().items() if pid in processes} if processes else {}
        if not (alive or holding) or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    stuck = [f"process {pid} of the simulator worker was killed, and does not end" for pid in sorted(alive)]
    return stuck + [
        f"process {pid} of the simulator worker has ended, and still holds {memory / 2**30:.1f} GiB of a GPU"
        for pid, memory in sorted(holding.items())
    ]


def _group_of(pid: int) -> int | None:
    """The process group of a process; ``None`` where it has ended, whether it was reaped or not."""
    with contextlib.suppress(OSError):
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        return int(group) if state not in "ZX" else None
    return None
