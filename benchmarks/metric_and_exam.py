"""What a training's metrics say, at each moment, of the exam that its last policy will sit: rank correlations.

Over the settings that `record_curves.py` trained with `--exam_seconds`: Spearman's, of the metric's mean over the last
iterations before that moment with the score in the exam at the end, with a 95% interval (bootstrap over the settings);
trainings of one setting are averaged. What diverged has a score of 0; and once more without it.

    python benchmarks/metric_and_exam.py --curves FILE --out FILE

A sweep that stopped no trial and let all of them sit the exam says it as well; its curves are kept in the file first:

    python benchmarks/metric_and_exam.py --sweep runs/NAME --curves FILE --seconds 188 470 700 940 --out FILE
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.stats import spearmanr
from surrogate import by_parameters, has_diverged, read, scores

from go1_sweep import trials_table
from go1_sweep.paths import SweepPaths

METRICS = ("mean_reward", "mean_episode_length", "track_linear_velocity", "track_angular_velocity", "terrain_level")
"""The last on rough alone."""
SECONDS = (24, 48, 60, 72, 96, 120, 180, 240)
"""Of training; the last are the whole budget."""
RESAMPLES = 2000


def main() -> None:
    """Compare them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`, with exams")
    parser.add_argument("--sweep", type=Path, help="a folder; its trials are written to the curves first")
    parser.add_argument("--seconds", type=float, nargs="+", default=SECONDS, help="moments in a training")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.sweep:
        options.curves.write_text("".join(json.dumps(each) + "\n" for each in of_sweep(SweepPaths(options.sweep))))
    groups = by_parameters(each for each in read(options.curves) if has_diverged(each) or each.get("score") is not None)
    exam = np.array([np.mean([0.0 if has_diverged(each) else each["score"] for each in group]) for group in groups])
    whole = exam > 0
    random = np.random.default_rng(0)
    picks = random.integers(len(groups), size=(RESAMPLES, len(groups)))
    found: dict[str, dict[str, list[Any]]] = {}
    times = np.array(options.seconds)
    for metric in [each for each in METRICS if each in groups[0][0]["columns"]]:
        at = np.array([np.mean([scores(each, metric, times) for each in group], axis=0) for group in groups])
        found[metric] = {
            "all": [correlation(column, exam) for column in at.T],
            "interval": [
                np.quantile([correlation(column[pick], exam[pick]) for pick in picks], [0.025, 0.975]).round(2).tolist()
                for column in at.T
            ],
            "without_what_diverged": [correlation(column[whole], exam[whole]) for column in at.T],
        }
        print(metric, found[metric])
    result = {
        "what": "Spearman's rank correlation of a training's metric after so many seconds with the exam at its end",
        "curves": options.curves.name,
        "settings": len(groups),
        "diverged": int(np.sum(~whole)),
        "seconds": options.seconds,
        "correlations": found,
    }
    options.out.write_text(json.dumps(result) + "\n")


def of_sweep(paths: SweepPaths) -> Iterator[dict[str, Any]]:
    """Its trials as `record_curves.py` keeps trainings: with the score of the last checkpoint in the selecting exam."""
    candidates = json.loads(paths.best.evaluation.read_text())["candidates"]
    exam = {each["trial"]: each["overall"]["score"] for each in candidates if "last" in each["roles"]}
    for record in trials_table.read(paths):
        with open(paths.trial(record.trial).logs, newline="") as file:
            logs = list(csv.DictReader(file))
        columns = [name for name in ("iteration", "env_steps", "train_seconds", *METRICS) if name in logs[0]]
        yield {
            "parameters": record.parameters,
            "seed": record.seed,
            "state": record.state,
            "why": record.why,
            "columns": columns,
            "rows": [[float(f"{float(row[name]):.5g}") if row[name] else math.nan for name in columns] for row in logs],
            "score": exam.get(record.trial),
        }


def correlation(some: np.ndarray, others: np.ndarray) -> float:
    """Spearman's."""
    return round(float(cast(Any, spearmanr(some, others)).statistic), 2)


if __name__ == "__main__":
    main()
