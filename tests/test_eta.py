"""The time that a sweep still takes, on made-up sweeps whose end is known."""

from __future__ import annotations

import heapq
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go1_sweep.eta import eta_seconds
from go1_sweep.paths import BASELINE
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord

BUDGET = 100
"""Iterations of a whole trial; each takes a second."""


def spec_of(trials: int) -> Spec:
    search = {"trials": trials, "parameters": {"learning_rate": {"uniform": [1e-3, 2e-3]}}}
    return Spec.model_validate(
        {"name": "x", "task": "flat", "search": search, "budget": {"max": BUDGET}, "baseline": False}
    )


def at(moment: float, iterations: list[int], slots: int) -> tuple[list[TrialRecord], float]:
    """The trials at a moment of a sweep in which they use that many iterations, and when it ends [s]."""
    free, records = [0.0] * slots, []
    for number, used in enumerate(iterations):
        start = heapq.heappop(free)
        heapq.heappush(free, start + used)
        if start <= moment:
            progress = Progress(min(used, int(moment - start)))
            state = "running" if moment < start + used else "completed"
            records.append(TrialRecord(f"{number:04d}", {}, 0, state, progress=progress))
    return records, max(free)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 16), st.data())
def test_where_no_trial_is_stopped_the_end_is_known_exactly_while_all_slots_are_taken(trials, slots, data):
    slots = min(slots, trials)
    moment = data.draw(st.integers(1, trials // slots * BUDGET - 1))
    records, end = at(moment, [BUDGET] * trials, slots)
    assert eta_seconds(records, spec_of(trials), moment, slots) == pytest.approx(end - moment)


@pytest.mark.parametrize(("part", "spread"), [(0.1, 0.4), (0.3, 0.2), (0.6, 0.1), (0.9, 0.05)])
def test_where_most_trials_are_stopped_the_end_is_known_better_and_better_and_without_bias(part, spread):
    """The spread is what so few trials tell of the others."""
    errors = []
    for seed in range(100):
        iterations = random.Random(seed).choices([11, 33, BUDGET], weights=[6, 2, 1], k=120)
        end = at(0, iterations, 4)[1]
        eta = eta_seconds(at(part * end, iterations, 4)[0], spec_of(120), part * end, 4)
        assert eta is not None
        errors.append((eta - (1 - part) * end) / end)
    assert abs(statistics.mean(errors)) < 0.1 * spread + 0.03
    assert statistics.stdev(errors) < spread


def test_the_last_trial_is_not_thought_to_run_on_all_slots():
    iterations = [BUDGET] * 17
    records, end = at(250, iterations, 8)
    assert [record.state for record in records].count("running") == 1
    assert eta_seconds(records, spec_of(17), 250, 8) == pytest.approx(end - 250, rel=0.25)


def test_slots_that_no_trial_needs_do_not_count():
    records, end = at(40, [BUDGET] * 3, 3)
    assert eta_seconds(records, spec_of(3), 40, slots=8) == pytest.approx(end - 40)


def test_nothing_is_said_before_the_first_report_and_after_an_interrupt():
    spec, reported = spec_of(4), TrialRecord("0000", {}, 0, progress=Progress(5))
    assert eta_seconds([], spec, 10, 2) is None
    assert eta_seconds([TrialRecord("0000", {}, 0)], spec, 10, 2) is None
    assert eta_seconds([reported], spec, 10, 2) is not None
    assert eta_seconds([reported, TrialRecord("0001", {}, 0, "interrupted")], spec, 10, 2) is None


def test_a_baseline_that_runs_alone_goes_to_its_end_and_says_nothing_of_the_others():
    spec = spec_of(3).model_copy(update={"baseline": {}})
    baseline = TrialRecord(BASELINE, {}, 0, progress=Progress(40))
    assert eta_seconds([baseline], spec, 40, slots=1) == pytest.approx(60 + 3 * BUDGET)
    stopped = TrialRecord("0000", {}, 0, "early_stopped", progress=Progress(10))
    assert eta_seconds([baseline, stopped], spec, 50, slots=1) == pytest.approx(60 + 2 * 10)
