"""What is claimed of a winner holds: a gain that there is not is hardly ever claimed."""

from __future__ import annotations

import dataclasses
import random

import pytest
from test_evaluation import GOOD, evaluated

from go1_sweep.evaluation import Evaluation
from go1_sweep.paths import BASELINE
from go1_sweep.protocol import Episode
from go1_sweep.verdict import NO_RIVAL, of_parameters, of_policies

ROBOTS = 12


def judged(trial: str, offset: float, draw: random.Random) -> Evaluation:
    """Two seeds of a policy that is off by so much more than others; where a robot stands counts as well."""

    def robot(env: int) -> Episode:
        off = 0.2 + 0.02 * env + offset + draw.gauss(0, 0.05)
        return dataclasses.replace(GOOD, env=env, lin_vel_rmse=max(0.0, off))

    return evaluated(trial, episodes={seed: [robot(env) for env in range(ROBOTS)] for seed in (1, 2)})


def claims(offset: float, count: int) -> int:
    draw = random.Random(7)
    verdicts = [of_policies(judged("0001", offset, draw), judged(BASELINE, 0.0, draw)) for _ in range(count)]
    return sum(verdict.is_gain for verdict in verdicts)


def test_two_policies_that_walk_alike_are_hardly_ever_told_apart():
    assert claims(offset=0.0, count=60) <= 4


def test_a_policy_that_walks_better_is_told_so():
    assert claims(offset=-0.1, count=20) == 20
    assert claims(offset=0.1, count=20) == 0


def test_the_verdict_has_its_gain_within_its_interval_and_says_both():
    draw = random.Random(1)
    better, worse = judged("0001", -0.1, draw), judged(BASELINE, 0.0, draw)
    verdict = of_policies(better, worse)
    ours, theirs = better.overall().score, worse.overall().score
    assert ours is not None
    assert theirs is not None
    assert verdict.gain == pytest.approx(ours - theirs)
    assert verdict.interval[0] < verdict.gain < verdict.interval[1]
    assert verdict.probability > 0.8
    assert f"beats the baseline's in the exam: {verdict.gain:+.3f} (95% interval" in verdict.sentence
    back = of_policies(dataclasses.replace(worse, trial="0001"), dataclasses.replace(better, trial=BASELINE))
    assert back.gain == pytest.approx(-verdict.gain)
    assert back.sentence.startswith("No significant gain over the baseline's policy")


@pytest.mark.parametrize("number", [4, 5, 8])
def test_parameters_that_do_nothing_are_hardly_ever_called_better(number):
    draw = random.Random(3)

    def scores() -> list[float]:
        return [0.7 + draw.gauss(0, 0.05) for _ in range(number)]

    verdicts = [of_parameters(scores(), scores()) for _ in range(200)]
    assert sum(verdict.is_gain for verdict in verdicts) <= 14  # 5% are 10
    assert all(verdict.interval[0] <= verdict.gain <= verdict.interval[1] for verdict in verdicts)


def test_parameters_that_are_better_are_called_so_with_their_gain_and_its_probability():
    ours, theirs = [0.80, 0.81, 0.79, 0.82, 0.30], [0.70, 0.71, 0.69, 0.72, 0.68]
    verdict = of_parameters(ours, theirs)
    assert verdict.gain == pytest.approx((0.80 + 0.81 + 0.79) / 3 - (0.70 + 0.71 + 0.69) / 3), "one bad seed is cut off"
    assert verdict.probability == pytest.approx(20 / 25)
    without = of_parameters([0.80, 0.81, 0.79, 0.82], theirs)
    assert (without.about, without.is_gain, without.probability) == ("parameters", True, 1.0)
    assert "These parameters are better than the baseline's in the exam: +0.105" in without.sentence
    assert "4 and 5 trainings" in without.sentence
    assert not of_parameters(theirs, ours).is_gain


def test_a_policy_is_no_better_than_itself_and_the_baseline_has_no_rival():
    same = judged("0001", 0.0, random.Random(1))
    verdict = of_policies(same, dataclasses.replace(same, trial=BASELINE))
    assert (verdict.is_gain, verdict.gain, verdict.interval, verdict.probability) == (False, 0.0, (0.0, 0.0), 0.5)
    assert of_policies(dataclasses.replace(same, trial=BASELINE), same) == NO_RIVAL
