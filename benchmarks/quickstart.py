"""Seconds and peak memory of the quickstart sweep, its child processes included.

    python benchmarks/quickstart.py [--out FILE]

Memory is the sum over all processes of their proportional set size, which counts shared pages once,
sampled twice a second; the kernel cache is as it is found (run it twice for a warm one).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the quickstart and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as storage:
        command = [sys.executable, "-m", "go1_sweep", "run", "search_spaces/quickstart.yaml", "--storage", storage]
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.5)
        seconds = time.monotonic() - began
        if process.returncode:
            raise SystemExit(process.returncode)
        sweep = json.loads(Path(storage, "quickstart", "result.json").read_text())
        environment = json.loads(Path(storage, "quickstart", "environment.json").read_text())
    result = {
        "command": "python benchmarks/quickstart.py",
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(peak / 1e6),
        "states": sweep["states"],
        "train_seconds": sweep["seconds"]["train"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {', '.join(environment['gpus']) or 'no GPU'}",
        "packages": environment["packages"],
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def memory(pid: int) -> int:
    """Bytes that the process and all below it hold."""
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
