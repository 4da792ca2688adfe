"""How many trials run side by side, by what the machine has, and what the user is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from rich.console import Console

from go1_sweep import spec
from go1_sweep.spec import ResourcesSpec
from go1_sweep.sweep.slots import Slots, slots_for
from go1_sweep.terminal import Plan, Terminal


@pytest.mark.parametrize(
    ("wanted", "slots"),
    [
        ({"gpus": "auto", "cpus": 4}, Slots(2, 1, 4)),
        ({"gpus": 1, "cpus": 16}, Slots(1, 1, 16)),
        ({"gpus": 0, "cpus": 4}, Slots(4, 0, 4)),
        ({"gpus": 0.25}, Slots(8, 0.25, 1)),
        ({"gpus": 0.33}, Slots(6, 0.33, 1)),
        ({"gpus": 0.1, "cpus": 2}, Slots(8, 0.1, 2)),
        ({"gpus": 0.25, "concurrent": 3}, Slots(3, 0.25, 1)),
    ],
)
def test_as_many_as_fit_on_two_gpus_and_sixteen_cpus(monkeypatch, wanted, slots):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"GPU": 2.0, "CPU": 16.0}}])
    assert slots_for(ResourcesSpec(**wanted)) == slots


@pytest.mark.parametrize(
    ("slots", "gpus", "said"),
    [
        (2, 1, "2 GPUs, one each; stops at 72 train_seconds\n  at most   33 x 240 s = 2.2 GPU hours"),
        (8, 0.25, "8 at a time, 4 to a GPU; stops at 72 train_seconds\n  at most   33 x 240 s = 0.55 GPU hours"),
        (2, 0, "2 at a time on the CPU; stops at 72 train_seconds\n  at most   33 x 240 s = 2.2 hours of training"),
    ],
)
def test_the_plan_says_who_shares_what_and_what_it_costs(capsys, slots, gpus, said):
    flat = spec.load(Path("search_spaces/flat.yaml"))
    Terminal(Console(width=200)).plan(Plan(flat, "Go1", {}, slots, gpus))
    assert said in capsys.readouterr().out
