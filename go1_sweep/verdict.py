"""What may be claimed of a sweep's winner beside the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from go1_sweep import exam
from go1_sweep.evaluation import LEVEL, Evaluation
from go1_sweep.paths import BASELINE

RESAMPLES = 9999

SMALLEST = 0.0005
"""A gain that three digits do not show is none."""

FEWEST = 4
"""Trainings of each that say something of parameters: from three, such an interval claims a gain where there is none in
one case of ten, from four or more in one of thirty (normal scores, simulated)."""


@dataclass(frozen=True)
class Verdict:
    """The winner beside the baseline, in the exam, with seeds by which neither was picked.

    Attributes:
        about: ``policies``, one of each; or ``parameters``, each trained several times.
        is_gain: whether it may be said that the winner is better.
        gain: how much higher its score is.
        interval: of the gain.
        probability: that one of the winner's does better than one of the baseline's.
        sentence: for people.
    """

    about: str
    is_gain: bool
    gain: float
    interval: tuple[float, float]
    probability: float
    sentence: str


NO_RIVAL = Verdict("policies", False, 0.0, (0.0, 0.0), 0.5, "No trial did better in the exam than the baseline.")


def of_policies(winner: Evaluation, baseline: Evaluation) -> Verdict:
    """What one policy of each may say: which of the two is better, and nothing of their parameters.

    The interval is a bootstrap one (BCa) over the robots, each beside the one of the baseline that had the same
    seed, command and terrain.

    Args:
        winner: judged.
        baseline: judged with the same seeds.
    """
    if winner.trial == BASELINE:
        return NO_RIVAL
    ours, theirs = _by_robot(winner), _by_robot(baseline)
    gains = [ours[robot] - theirs[robot] for robot in ours]
    gain, low, high = _bootstrapped(gains)
    is_gain = low > SMALLEST
    figures = f"{gain:+.3f} ({LEVEL:.0%} interval {low:+.3f} to {high:+.3f})"
    if is_gain:
        sentence = f"This policy beats the baseline's in the exam: {figures}. It says nothing of their parameters."
    else:
        sentence = f"No significant gain over the baseline's policy in the exam: {figures}."
    return Verdict("policies", is_gain, gain, (low, high), _probability(gains), sentence)


def of_parameters(ours: Sequence[float], theirs: Sequence[float]) -> Verdict:
    """What trainings with fresh seeds say of the parameters themselves.

    Interquartile means, and a bootstrap interval (percentiles) of their difference, the trainings of each resampled
    by themselves (Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", 2021).

    Args:
        ours: the score of each training with the winner's parameters.
        theirs: with the baseline's.
    """
    import numpy as np
    from scipy import stats

    def gain_of(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
        return stats.trim_mean(ours, 0.25, axis=axis) - stats.trim_mean(theirs, 0.25, axis=axis)

    pairs = [(one, other) for one in ours for other in theirs]
    probability = _probability([one - other for one, other in pairs])
    gain = float(gain_of(np.array(ours), np.array(theirs)))
    if min(len(ours), len(theirs)) < FEWEST:
        few = f"{len(ours)} and {len(theirs)} trainings are too few to judge the parameters."
        return Verdict("parameters", False, gain, (-1.0, 1.0), probability, few)
    low, high = gain, gain
    if len(set(ours)) > 1 or len(set(theirs)) > 1:
        found = stats.bootstrap(
            (ours, theirs),
            gain_of,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        low, high = map(float, found.confidence_interval)
    is_gain = low > SMALLEST
    how = f"{gain:+.3f} ({LEVEL:.0%} interval {low:+.3f} to {high:+.3f}; {len(ours)} and {len(theirs)} trainings)"
    sentence = (
        f"These parameters are better than the baseline's in the exam: {how}; a training with them does better with a "
        f"probability of {probability:.0%}."
        if is_gain
        else f"No significant gain over the baseline's parameters in the exam: {how}."
    )
    return Verdict("parameters", is_gain, gain, (low, high), probability, sentence)


def _probability(gains: Sequence[float]) -> float:
    """How often there is a gain; where both are alike it counts half."""
    return sum(0.5 * (each >= 0) + 0.5 * (each > 0) for each in gains) / max(1, len(gains))


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
