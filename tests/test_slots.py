"""How many trials run side by side, by what the machine has, and what the user is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray
from rich.console import Console

from go1_sweep import spec
from go1_sweep.errors import BadInput
from go1_sweep.spec import ResourcesSpec
from go1_sweep.sweep import slots
from go1_sweep.sweep.slots import Slots, mixed_gpus, slots_for
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


MIXED = [
    {"Alive": True, "Resources": {"GPU": 8.0, "CPU": 64.0, "accelerator_type:H100": 1.0}},
    {"Alive": True, "Resources": {"GPU": 4.0, "CPU": 32.0, "accelerator_type:A100": 1.0}},
    {"Alive": True, "Resources": {"CPU": 32.0}},
]


def test_trials_keep_to_the_kind_of_gpu_that_is_named(monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: MIXED)
    assert slots_for(ResourcesSpec(gpus=1)) == Slots(12, 1, 1)
    slots = slots_for(ResourcesSpec(gpus=1, accelerator="A100"))
    assert slots == Slots(4, 1, 1, "A100")
    assert slots.place == {"accelerator_type:A100": 1e-3}
    assert [slots.fits(node["Resources"]) for node in MIXED] == [False, True, False]
    with pytest.raises(BadInput, match=r"resources\.accelerator: no node .* Ray calls 'a100'; it found A100, H100"):
        slots_for(ResourcesSpec(gpus=1, accelerator="a100"))
    monkeypatch.setattr(ray, "nodes", lambda: MIXED[2:])
    with pytest.raises(BadInput, match="'A100'; it found none"):
        slots_for(ResourcesSpec(accelerator="A100"))


@pytest.mark.parametrize(
    ("resources", "unit", "told"),
    [
        ({"gpus": 1}, "train_seconds", True),
        ({"gpus": 1, "cpus": 48}, "train_seconds", False),
        ({"gpus": 1, "accelerator": "H100"}, "train_seconds", False),
        ({"gpus": 1}, "env_steps", False),
        ({"gpus": 0}, "train_seconds", False),
    ],
)
def test_seconds_on_gpus_of_several_kinds_are_told(monkeypatch, resources, unit, told):
    monkeypatch.setattr(ray, "nodes", lambda: MIXED)
    flat = spec.load(Path("search_spaces/flat.yaml"))
    wanted = ResourcesSpec(**resources)
    changed = flat.model_copy(update={"resources": wanted, "budget": flat.budget.model_copy(update={"unit": unit})})
    said = mixed_gpus(changed, slots_for(wanted))
    assert [text.partition(",")[0] for text in said] == (
        ["budget.unit: trials get GPUs of several kinds (A100"] if told else []
    )


def test_that_no_node_is_left_for_trials_is_told_once_each_time(monkeypatch):
    nodes, said = [MIXED[2]], []
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(slots, "LOOK_SECONDS", -1.0)
    now = slots.counting(ResourcesSpec(gpus=0, cpus=8), said.append)
    found = [now()]
    nodes[:] = [{"Alive": True, "Resources": {}}]
    found += [now(), now()]
    nodes[:] = [MIXED[2]]
    found += [now()]
    assert found == [4, 0, 0, 4]
    why = "resources.cpus: each trial wants 8 CPUs, and this machine has 0"
    assert said == [f"No node is left for trials, they wait for one ({why})"]


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
