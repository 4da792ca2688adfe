"""Seconds and peak memory of a command, its child processes included.

    python benchmarks/footprint.py [--out FILE] make quickstart

Memory is the sum over all processes of their proportional set size, which counts shared pages once,
sampled twice a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import psutil


def main() -> None:
    """Run the command and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    began = time.monotonic()
    process = subprocess.Popen(options.command)
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.5)
    result = {
        "command": " ".join(options.command),
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak / 1e6),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(process.returncode)


def memory(pid: int) -> int:
    """Bytes that the process and all below it hold."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
