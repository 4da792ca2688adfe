"""Who goes on past a rung."""

from __future__ import annotations

import pytest

from go1_sweep.sweep.early_stopping import Asha


def goes_on(asha: Asha, trial: str, used: float, score: float | None) -> bool:
    return all(verdict.goes_on for verdict in asha.report(trial, used, score))


def test_the_first_trial_at_a_rung_goes_on_and_then_only_the_best_third():
    asha = Asha([10], reduction_factor=3, mode="max")
    arrivals = [5.0, 4.0, 6.0, 1.0, 2.0, 5.5]
    assert [goes_on(asha, str(i), 10, score) for i, score in enumerate(arrivals)] == [
        True,  # alone
        False,  # best of 2 is 5
        True,  # best of 3
        False,
        False,
        True,  # second of 6: two places
    ]


def test_with_mode_min_the_lowest_score_is_the_best():
    asha = Asha([10], reduction_factor=2, mode="min")
    assert [goes_on(asha, str(i), 10, score) for i, score in enumerate([5.0, 6.0, 4.0])] == [True, False, True]


def test_a_trial_is_compared_once_at_each_rung_and_only_when_it_has_reached_it():
    asha = Asha([10, 30], reduction_factor=3, mode="max")
    assert asha.report("a", 9.9, 1.0) == []
    assert [v.rung.budget for v in asha.report("a", 10.5, 1.0)] == [10]
    assert asha.report("a", 20, 9.0) == []
    assert asha.rungs[0].scores == {"a": 1.0}, "the score at the rung stands, whatever came later"


def test_a_coarse_report_that_jumps_over_two_rungs_is_compared_at_both():
    asha = Asha([10, 30], reduction_factor=3, mode="max")
    assert [v.rung.budget for v in asha.report("a", 40, 1.0)] == [10, 30]


def test_a_trial_that_one_rung_stops_is_not_counted_at_the_next():
    asha = Asha([10, 30], reduction_factor=3, mode="max")
    asha.report("a", 40, 2.0)
    assert [v.goes_on for v in asha.report("b", 40, 1.0)] == [False]
    assert asha.rungs[1].scores == {"a": 2.0}


def test_a_missing_score_waits_for_the_next_report():
    asha = Asha([10], reduction_factor=3, mode="max")
    asha.report("a", 10, 3.0)
    assert asha.report("b", 11, None) == []
    assert [v.goes_on for v in asha.report("b", 12, 1.0)] == [False]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_equal_scores_go_on_together(mode):
    asha = Asha([10], reduction_factor=3, mode=mode)
    assert all(goes_on(asha, str(i), 10, 1.0) for i in range(10))
