"""What may be claimed of a sweep's winner beside the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from go1_sweep import exam
from go1_sweep.evaluation import LEVEL, Evaluation
from go1_sweep.paths import BASELINE

RESAMPLES = 9999

SMALLEST = 0.0005
"""A gain that three digits do not show is none."""


@dataclass(frozen=True)
class Verdict:
    """The winner beside the baseline, in the exam, with seeds by which neither was picked.

    Attributes:
        is_gain: whether it may be said that the winner is better.
        gain: how much higher its score is.
        interval: of the gain; a bootstrap one (BCa) over the robots, each beside the one of the baseline that had
            the same seed, command and terrain.
        probability: that a robot of the winner does better than the baseline's.
        sentence: for people.
    """

    is_gain: bool
    gain: float
    interval: tuple[float, float]
    probability: float
    sentence: str


NO_RIVAL = Verdict(False, 0.0, (0.0, 0.0), 0.5, "No trial did better in the exam than the baseline.")


def of_policies(winner: Evaluation, baseline: Evaluation) -> Verdict:
    """What one policy of each may say: which of the two is better, and nothing of their parameters.

    Args:
        winner: judged.
        baseline: judged with the same seeds.
    """
    if winner.trial == BASELINE:
        return NO_RIVAL
    ours, theirs = _by_robot(winner), _by_robot(baseline)
    gains = [ours[robot] - theirs[robot] for robot in ours]
    gain, low, high = _bootstrapped(gains)
    probability = sum(0.5 * (each >= 0) + 0.5 * (each > 0) for each in gains) / len(gains)
    is_gain = low > SMALLEST
    figures = f"{gain:+.3f} ({LEVEL:.0%} interval {low:+.3f} to {high:+.3f})"
    if is_gain:
        sentence = f"This policy beats the baseline's in the exam: {figures}. It says nothing of their parameters."
    else:
        sentence = f"No significant gain over the baseline's policy in the exam: {figures}."
    return Verdict(is_gain, gain, (low, high), probability, sentence)


def _by_robot(evaluation: Evaluation) -> dict[tuple[int, int], float]:
    """The score of each robot by its seed and env."""
    steps = evaluation.max_length
    return {
        (seed, episode.env): exam.robot_score(episode, steps)
        for seed, episodes in evaluation.episodes.items()
        for episode in episodes
    }


def _bootstrapped(values: list[float]) -> tuple[float, float, float]:
    """The mean, and the interval that it lies in."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(values))
    if min(values) == max(values):  # two policies that are one: there is nothing to resample
        return mean, mean, mean
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, rng=np.random.default_rng(0)
    )
    low, high = found.confidence_interval
    return mean, float(low), float(high)
