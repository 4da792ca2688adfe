"""Benchmarks that reach into the driver still do; what they measure is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_driver_s_benchmark_runs_a_sweep_and_tune_alone_to_their_ends(tmp_path):
    out = tmp_path / "driver.json"
    sizes = ["--slots", "2", "--trials", "12", "--warming_up", "1"]
    command = [sys.executable, "benchmarks/driver.py", "reports", *sizes, "--out", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(out.read_text())
    assert all(found[side]["trials_a_minute"] > 0 for side in ("ours", "tune"))
