"""What may be claimed of a sweep's winner beside the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from go1_sweep import exam
from go1_sweep.evaluation import ENDS, LEVEL, RESAMPLES, Evaluation, resampled
from go1_sweep.paths import BASELINE

SMALLEST = 0.0005
"""A gain that three digits do not show is none."""


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
        ours: the scores that it was made of, if it is about parameters: the winner's, 0 for what diverged ...
        theirs: ... and the baseline's.
    """

    about: str
    is_gain: bool
    gain: float
    interval: tuple[float, float]
    probability: float
    sentence: str
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()


NO_RIVAL = Verdict("policies", False, 0.0, (0.0, 0.0), 0.5, "No trial did better in the exam than the baseline.")


def of_policies(winner: Evaluation, baseline: Evaluation) -> Verdict:
    """What one policy of each may say: which of the two is better, and nothing of their parameters.

    The interval is a bootstrap one (percentiles) over the robots that had the same command, each beside the one of
    the baseline that had its seed and terrain too.

    Args:
        winner: judged.
        baseline: judged with the same seeds.
    """
    if winner.trial == BASELINE:
        return NO_RIVAL
    ours, theirs = _by_robot(winner), _by_robot(baseline)
    gains = np.array([ours[robot] - theirs[robot] for robot in ours])
    gain = float(gains.mean())
    picks = resampled([exam.command_of(env) for _, env in ours])
    low, high = map(float, np.quantile(gains[picks].mean(axis=1), ENDS))
    is_gain = low > SMALLEST
    figures = f"{gain:+z.3f} ({LEVEL:.0%} interval {low:+z.3f} to {high:+z.3f})"
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
        ours: the score of each training with the winner's parameters; at least ``spec_rules.FEWEST``.
        theirs: with the baseline's; likewise.
    """
    from scipy import stats  # half a second, which few commands need

    def gain_of(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
        return stats.trim_mean(ours, 0.25, axis=axis) - stats.trim_mean(theirs, 0.25, axis=axis)

    pairs = [(one, other) for one in ours for other in theirs]
    probability = _probability([one - other for one, other in pairs])
    gain = float(gain_of(np.array(ours), np.array(theirs)))
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
    how = f"{gain:+z.3f} ({LEVEL:.0%} interval {low:+z.3f} to {high:+z.3f}; {len(ours)} and {len(theirs)} trainings)"
    sentence = (
        f"These parameters are better than the baseline's in the exam: {how}; a training with them does better with a "
        f"probability of {probability:.0%}."
        if is_gain
        else f"No significant gain over the baseline's parameters in the exam: {how}."
    )
    return Verdict("parameters", is_gain, gain, (low, high), probability, sentence, tuple(ours), tuple(theirs))


def _probability(gains: Iterable[float]) -> float:
    """How often there is a gain; where both are alike it counts half."""
    return float(np.mean([0.5 * (each >= 0) + 0.5 * (each > 0) for each in gains]))


def _by_robot(evaluation: Evaluation) -> dict[tuple[int, int], float]:
    """The score of each robot by its seed and env."""
    steps = evaluation.max_length
    return {
        (seed, episode.env): exam.robot_score(episode, steps)
        for seed, episodes in evaluation.episodes.items()
        for episode in episodes
    }
