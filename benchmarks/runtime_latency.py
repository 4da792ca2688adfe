"""How long a call of the runtime takes on one core, beside onnxruntime alone.

python benchmarks/runtime_latency.py [BUNDLE ...] [--calls 100000]
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from go1_sweep.deploy import Policy

RESULTS = Path(__file__).parent / "results"
WARM = 1000


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", default=[RESULTS / f"{task}_shared_h100" for task in ("flat", "rough")])
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"{platform.processor() or platform.machine()}, one core; onnxruntime {version('onnxruntime')}")
    print(f"{options.calls} calls, taken in turns [ms]:\n")
    print("| bundle | what | median | 99.9% | most |\n|---|---|---|---|---|")
    for bundle in options.bundles:
        policy = Policy.load(bundle)
        measured = {name: np.zeros(size) for name, size in policy.inputs.items()}
        measured |= {"joint_pos": policy.default_positions, "projected_gravity": np.array([0.0, 0.0, -1.0])}
        row = np.zeros((1, sum(term["size"] for term in policy.description["observations"])), dtype=np.float32)
        calls: dict[str, Callable[[], object]] = {
            "runtime": lambda policy=policy, measured=measured: policy(measured),
            "onnxruntime": lambda policy=policy, row=row: policy._session.run(None, {policy._input: row}),
        }
        taken = {name: np.empty(options.calls + WARM) for name in calls}
        gc.disable()  # whose pauses are no call's
        for i in range(options.calls + WARM):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                taken[name][i] = time.perf_counter() - began
        gc.enable()
        for name, each in taken.items():
            median, rare, most = (np.quantile(each[WARM:], q) * 1e3 for q in (0.5, 0.999, 1.0))
            print(f"| {Path(bundle).name} | {name} | {median:.3f} | {rare:.3f} | {most:.3f} |", flush=True)


if __name__ == "__main__":
    main()
