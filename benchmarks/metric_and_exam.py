"""What a training's metrics say, at each moment, of the exam that its last policy will sit: rank correlations.

Over the settings that `record_curves.py` trained with `--exam_seconds`: Spearman's, of the metric's mean over the last
iterations before that moment with the score in the exam at the end; trainings of one setting are averaged, and what
diverged has a score of 0. And, for each metric, with its own value at the end.

    python benchmarks/metric_and_exam.py --curves FILE --out FILE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.stats import spearmanr
from surrogate import by_parameters, has_diverged, read, scores

METRICS = ("mean_reward", "mean_episode_length", "track_linear_velocity", "track_angular_velocity")
SECONDS = (24, 48, 60, 72, 96, 120, 180, 240)
"""Of training; the last are the whole budget."""


def main() -> None:
    """Compare them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`, with exams")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    groups = by_parameters(read(options.curves))
    exam = [np.mean([0.0 if has_diverged(each) else each["score"] for each in group]) for group in groups]
    found: dict[str, dict[str, list[float]]] = {"with_the_exam": {}, "with_its_own_end": {}}
    for metric in METRICS:
        at = np.array(
            [np.mean([scores(each, metric, np.array(SECONDS)) for each in group], axis=0) for group in groups]
        )
        for name, end in (("with_the_exam", exam), ("with_its_own_end", at[:, -1])):
            found[name][metric] = [round(cast(Any, spearmanr(column, end)).statistic, 2) for column in at.T]
    result = {
        "what": "Spearman's rank correlation of a training's metric after so many seconds, over the settings",
        "curves": options.curves.name,
        "settings": len(groups),
        "diverged": sum(has_diverged(group[0]) for group in groups),
        "seconds": SECONDS,
        **found,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
