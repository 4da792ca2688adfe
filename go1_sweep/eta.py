"""When a sweep will be over."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from go1_sweep.paths import BASELINE
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord


def budgets_done(records: Collection[TrialRecord], spec: Spec) -> float:
    """The training that the trials have had, in whole budgets."""
    return sum(_used(record, spec) for record in records)


def eta_seconds(
    records: Collection[TrialRecord], spec: Spec, elapsed: float, slots: int, before: float = 0.0
) -> float | None:
    """The seconds until the last trial ends, if all goes on as it did.

    Work is counted in budgets: a trial that uses its whole budget is 1. What is left is dealt out to the
    slots, since the last trials leave some of them idle.

    Args:
        records: the trials drawn so far.
        spec: says how many trials there will be, and their budget.
        elapsed: seconds since the trials began.
        slots: how many trials run side by side.
        before: ``budgets_done`` when that began: of a sweep that was resumed.

    Returns:
        ``None`` as long as nothing is done that tells the speed, and after an interrupt.
    """
    total = spec.search.trials + (spec.baseline is not None)
    slots = min(slots, total)
    done = budgets_done(records, spec) - before
    if done <= 0 or elapsed <= 0 or any(record.state == "interrupted" for record in records):
        return None
    ends = [_used(record, spec) for record in records if record.state != "running" and record.trial != BASELINE]
    uses, left = list(ends), []
    for record in records:
        if record.state == "running":
            used = _used(record, spec)
            use = 1.0 if record.trial == BASELINE else _expected(ends, used)  # the baseline is never stopped
            left.append(use - used)
            uses += [use] * (record.trial != BASELINE)
    left += [0.0] * (slots - len(left))
    heapq.heapify(left)
    for _ in range(total - len(records)):
        heapq.heapreplace(left, left[0] + (sum(uses) / len(uses) if uses else 1.0))
    return max(left) * elapsed * slots / done


def _used(record: TrialRecord, spec: Spec) -> float:
    return min(1.0, record.progress.used(spec.budget.unit) / spec.budget.max)


def _expected(ends: Sequence[float], used: float) -> float:
    """Where a trial that has come as far as ``used`` will end: as those did that came further."""
    further = [end for end in ends if end > used]
    return sum(further) / len(further) if further else 1.0
