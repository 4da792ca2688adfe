"""What a training's metrics say, at each moment, of the exam that its last policy will sit: rank correlations.

Over the settings that `record_curves.py` trained with `--exam_seconds`: Spearman's, of the metric's mean over the last
iterations before that moment with the score in the exam at the end; trainings of one setting are averaged, and what
diverged has a score of 0. A moment is a share of the budget, in each of the units that a sweep may count it in: that of
the task's defaults is the whole.

    python benchmarks/metric_and_exam.py --curves FILE --out FILE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.stats import spearmanr
from surrogate import DEFAULTS, by_parameters, has_diverged, read, scores

METRICS = ("mean_reward", "mean_episode_length", "track_linear_velocity", "track_angular_velocity")
UNITS = ("train_seconds", "iteration", "env_steps")
SHARES = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)


def main() -> None:
    """Compare them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`, with exams")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    groups = by_parameters(read(options.curves))
    exam = [np.mean([0.0 if has_diverged(each) else each["score"] for each in group]) for group in groups]
    wholes = {unit: whole(groups, unit) for unit in UNITS}
    found: dict[str, dict[str, list[float]]] = {}
    for unit in UNITS:
        moments = np.array(SHARES) * wholes[unit]
        for metric in METRICS:
            means = [np.mean([scores(each, metric, moments, unit) for each in group], axis=0) for group in groups]
            correlations = [cast(Any, spearmanr(column, exam)).statistic for column in np.array(means).T]
            found.setdefault(unit, {})[metric] = [round(float(each), 2) for each in correlations]
    result = {
        "what": "Spearman's rank correlation, over the settings, of a metric at a share of the budget with the exam",
        "curves": options.curves.name,
        "settings": len(groups),
        "diverged": sum(has_diverged(group[0]) for group in groups),
        "budget": wholes,
        "shares": SHARES,
        "correlations": found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for unit, metrics in found.items():
        print(unit, *(f"{name}: {values}" for name, values in metrics.items()), sep="\n  ")


def whole(groups: list[list[dict[str, Any]]], unit: str) -> float:
    """What the trainings with the task's defaults used."""
    training = next(group[0] for group in groups if group[0]["parameters"] == DEFAULTS)
    return float(training["rows"][-1][training["columns"].index(unit)])


if __name__ == "__main__":
    main()
