"""What a killed worker leaves behind."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest
from conftest import wait_for

from go1_sweep.worker import leftovers


@pytest.fixture
def gpu(monkeypatch) -> list[SimpleNamespace]:
    """The processes on the one GPU of a machine that has NVML."""
    processes: list[SimpleNamespace] = []
    for name, call in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: processes,
    }.items():
        monkeypatch.setattr(pynvml, name, call)
    return processes


def test_memory_that_is_given_back_late_is_waited_for(gpu, monkeypatch):
    gpu.append(SimpleNamespace(pid=999_999, usedGpuMemory=2**30))
    monkeypatch.setattr(leftovers.time, "sleep", lambda seconds: gpu.clear())
    assert leftovers.left_of([999_999]) == []


def test_memory_that_is_not_given_back_is_told_with_the_process(gpu, monkeypatch):
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.0)
    gpu += [SimpleNamespace(pid=999_999, usedGpuMemory=3 * 2**30), SimpleNamespace(pid=1, usedGpuMemory=None)]
    (said,) = leftovers.left_of([999_999])
    assert said == "process 999999 of the simulator worker has ended, and still holds 3.0 GiB of a GPU"


def test_a_process_that_does_not_end_is_told(monkeypatch):
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    try:
        assert leftovers.in_group(child.pid) == {child.pid}
        assert leftovers.left_of([child.pid]) == [
            f"process {child.pid} of the simulator worker was killed, and does not end"
        ]
    finally:
        child.kill()
    wait_for(lambda: not leftovers.in_group(child.pid), 10, "its end: it is no more than a zombie")
    assert leftovers.left_of([child.pid]) == []
    child.wait()
