"""Sweeps under random faults. ``make chaos`` inflicts 200 and more; CI a few."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter

import pytest
from chaos import chaos

FAULTS = int(os.environ.get("GO1_SWEEP_CHAOS", "0"))
A_SWEEP = 12
"""Faults that a sweep is given."""
COUNTED: Counter[str] = Counter()


@pytest.mark.timeout(900)
def test_a_sweep_holds_under_a_few_faults(tmp_path):
    assert sum(chaos(tmp_path, seed=1, faults=4, trials=4).values()) >= 3, "else it was over too soon"


@pytest.mark.skipif(not FAULTS, reason="the long run: make chaos")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2, 2 + -(-FAULTS // A_SWEEP)))
def test_sweeps_hold_under_many_faults(tmp_path, seed):
    COUNTED.update(chaos(tmp_path, seed, A_SWEEP))
    print(f"{sum(COUNTED.values())} faults: {dict(COUNTED)}")


@pytest.mark.skipif(not FAULTS or importlib.util.find_spec("mjlab") is None, reason="the long run: make chaos")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_sweeps_with_mjlab_hold_under_many_faults(tmp_path, seed):
    print(dict(chaos(tmp_path, seed, A_SWEEP, simulator="mjlab")))
