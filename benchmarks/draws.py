"""What a draw costs a sweep that has so many trials behind it: seconds, and the size of its study.

The trials are put into the study as they end in one, and others as they run; then some are drawn and told.

    python benchmarks/draws.py --trials 1000 3000 10000 --out benchmarks/results/draws.json
    python benchmarks/draws.py --trials 1000 3000 --running 1000 --out benchmarks/results/draws_running.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from go1_sweep import spec as sweep_file
from go1_sweep.paths import SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.sweep.search import Search
from go1_sweep.trials_table import TrialRecord

ROOT = Path(__file__).parents[1]
DRAWN = 16


def main() -> None:
    """Measure each sampler on each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 3000, 10000])
    parser.add_argument("--running", type=int, default=16)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [measured(trials, options.running, sampler) for trials in options.trials for sampler in ("tpe", "random")]
    result = {
        "what": "median seconds of a draw from the space of flat.yaml, and of a tell, after so many trials",
        "rows": rows,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {"optuna": version("optuna")},
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def measured(trials: int, running: int, sampler: str) -> dict[str, Any]:
    """One sampler on a study of so many trials that are over, and so many that run."""
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"search.sampler={sampler}", f"search.trials={trials * 2}", "resources.gpus=0"]
        spec = sweep_file.load(ROOT / "search_spaces" / "flat.yaml", changes)
        paths = SweepPaths(Path(folder))
        search = Search(spec, paths, lambda: None)
        fill(spec, paths, trials, running)
        draws, tells = [], []
        for _ in range(DRAWN):
            began = time.perf_counter()
            trial, parameters = search.draw()
            drawn = time.perf_counter()
            progress = Progress(250, 250 * 98304, 240.0, 1.0)
            search.tell(TrialRecord(trial, parameters, 0, state="completed", progress=progress))
            draws.append(drawn - began)
            tells.append(time.perf_counter() - drawn)
        row = {
            "trials": trials,
            "sampler": sampler,
            "draw_seconds": round(statistics.median(draws), 3),
            "tell_seconds": round(statistics.median(tells), 3),
            "study_megabytes": round(paths.study.stat().st_size / 1e6, 1),
            "running": running,
        }
        print(row, flush=True)
        return row


def fill(spec: Spec, paths: SweepPaths, trials: int, running: int) -> None:
    """Put that many ended trials into the study, two thirds of them stopped at a rung, and that many that run."""
    random = np.random.default_rng(0)
    study = optuna.load_study(study_name=spec.name, storage=f"sqlite:///{paths.study}")
    space = {
        "schedule": CategoricalDistribution(("adaptive", "fixed")),
        "learning_rate": FloatDistribution(7e-4, 3e-3, log=True),
        "desired_kl": FloatDistribution(7e-3, 4e-2, log=True),
        "entropy_coef": FloatDistribution(6e-3, 3e-2, log=True),
        "num_envs": CategoricalDistribution((1024, 2048, 4096, 8192)),
    }
    rungs = spec.rungs()
    for number in range(trials + running):
        is_fixed = bool(random.integers(2))
        values: dict[str, Any] = {
            "schedule": "fixed" if is_fixed else "adaptive",
            "entropy_coef": float(random.uniform(6e-3, 3e-2)),
            "num_envs": int(random.choice([1024, 2048, 4096, 8192])),
            "learning_rate" if is_fixed else "desired_kl": float(random.uniform(7e-4, 3e-3) * (1 if is_fixed else 12)),
        }
        is_whole, score = number % 3 == 0, float(random.normal())
        known = {"params": values, "distributions": {name: space[name] for name in values}}
        if number >= trials:
            runs = {"state": TrialState.RUNNING, "user_attrs": {"trial": f"{number:04d}"}}
            study.add_trial(optuna.trial.create_trial(**runs, **known))
            continue
        told = {"trial": f"{number:04d}", "state": "completed" if is_whole else "early_stopped", "diverged": False}
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if is_whole else TrialState.PRUNED,
                value=score if is_whole else None,
                **known,
                user_attrs={**told, "why": "used its whole budget", "progress": dataclasses.asdict(Progress(250))},
                intermediate_values={rungs[0]: score},
            )
        )


if __name__ == "__main__":
    main()
