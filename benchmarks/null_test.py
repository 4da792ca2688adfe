"""How often a verdict claims a gain where there is none: sweeps over a space whose parameters do nothing.

Each sweep is ours but for the trainings: TPE and ASHA over curves that differ by their recorded noise alone, the
finalists' exam, the winner by it, and `retrain_seeds` trainings of both sides, whose scores in the exam are drawn from
those that were recorded with the same parameters and other seeds.

    python benchmarks/null_test.py --curves FILE --budget 240 --sweeps 200 --out FILE
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from scipy.stats import binomtest
from search_efficiency import Ours, spec_of
from surrogate import DEFAULTS, Surrogate, by_parameters, read, sweep

from go1_sweep.finalists import finalists
from go1_sweep.paths import BASELINE
from go1_sweep.space import Space
from go1_sweep.verdict import of_parameters

VERDICTS = 1000
"""On parameters that are equal, each kind."""


class Nothing(Surrogate):
    """Learning curves in which no parameter matters: all are the defaults', with their noise."""

    def __init__(self, trainings: list[dict[str, Any]], space: Space, metric: str, budget: float) -> None:
        super().__init__(trainings, space, metric, budget)
        self._same = super().mean(DEFAULTS)

    def mean(self, parameters: dict[str, Any]) -> np.ndarray:
        """The same for all, a score for each of the times."""
        return self._same

    def diverges_at(self, parameters: dict[str, Any]) -> float:
        """Never."""
        return math.inf


def claim(seed: int, curves: Nothing, exam: np.ndarray, trials: int, retrain_seeds: int) -> str:
    """What one sweep ends with: the baseline as its winner, no gain, or a gain."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        changes = [f"search.trials={trials}", "baseline=true", f"final.retrain_seeds={retrain_seeds}"]
        sweep_spec = spec_of("ours", int(curves.budget), seed, changes)
        method = Ours(sweep_spec, Path(folder))
        for _ in sweep(method, curves, 4, random):
            pass
    who = finalists(method.records.values(), sweep_spec.final.finalists, sweep_spec.early_stopping.mode)
    winner = max(who, key=lambda _: random.choice(exam))
    if winner.trial == BASELINE:
        return "baseline"
    ours, theirs = random.choice(exam, (2, retrain_seeds))
    return "gain" if of_parameters(ours.tolist(), theirs.tolist()).is_gain else "no gain"


def main() -> None:
    """Run all sweeps, and write how they ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`, with exams")
    parser.add_argument("--budget", type=int, required=True, help="seconds of training of a whole trial")
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--retrain_seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trainings = read(options.curves)
    ours = spec_of("ours", options.budget, 0)
    curves = Nothing(trainings, ours.space, ours.early_stopping.metric, options.budget)
    exam, groups = exam_scores(trainings)
    call = partial(claim, curves=curves, exam=exam, trials=options.trials, retrain_seeds=options.retrain_seeds)
    with ProcessPoolExecutor(options.processes) as pool:
        ends = list(pool.map(call, range(options.sweeps), chunksize=10))
    gains = binomtest(ends.count("gain"), len(ends))
    random = np.random.default_rng(0)
    normal = exam.mean() + exam.std(ddof=1) * random.standard_normal((2, VERDICTS, options.retrain_seeds))
    recorded = random.choice(exam, normal.shape)
    result = {
        "what": "sweeps over a space whose parameters do nothing, and how their verdicts on the parameters read",
        "ends": {end: ends.count(end) for end in ("gain", "no gain", "baseline")},
        "claims": gains.statistic,
        "interval": list(gains.proportion_ci(method="wilson")),
        "claims_of_verdicts_alone": {
            name: np.mean([of_parameters(*map(np.ndarray.tolist, pair)).is_gain for pair in zip(*both, strict=True)])
            for name, both in (("scores as recorded", recorded), ("normal scores", normal))
        },
        "trials": options.trials,
        "retrain_seeds": options.retrain_seeds,
        "exam": {"trainings": len(exam), "parameters": groups, "mean": float(exam.mean()), "std": float(exam.std())},
        "curves": {"file": options.curves.name, "trainings": len(trainings)},
        "versions": {package: version(package) for package in ("optuna", "scipy")},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def exam_scores(trainings: list[dict[str, Any]]) -> tuple[np.ndarray, int]:
    """Scores of trainings that differ by their seeds alone, about the mean of all; of how many parameters they are."""
    groups = [[each["score"] for each in group if each.get("score")] for group in by_parameters(trainings)]
    groups = [np.array(group) for group in groups if len(group) > 1]
    spread = [(group - group.mean()) * np.sqrt(len(group) / (len(group) - 1)) for group in groups]
    return np.concatenate(groups).mean() + np.concatenate(spread), len(groups)


if __name__ == "__main__":
    main()
