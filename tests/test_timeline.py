"""Where the time of the slots went."""

from __future__ import annotations

from pathlib import Path

import pytest

from go1_sweep import timeline
from go1_sweep.timeline import Stint


def test_a_slot_is_held_from_its_first_trial_to_its_last_in_each_start_of_the_sweep(tmp_path):
    stints = [
        Stint("0000", "first", "a GPU 0", 100.0, 160.0, {"training": 40.0, "importing": 12.0, "building": 4.0}),
        Stint("0001", "first", "a GPU 0", 161.0, 191.0, {"training": 28.0, "building": 1.0, "waiting": 0.5}),
        Stint("0002", "first", "a GPU 1", 100.0, 150.0, {"training": 50.0}),
        Stint("0001", "again", "a GPU 0", 5000.0, 5010.0, {"training": 9.0, "checkpointing": 1.0}),
    ]
    file = tmp_path / "timeline.jsonl"
    for stint in stints:
        timeline.append(file, stint)
    slots = timeline.by_slot(timeline.read(file))
    assert slots["a GPU 0"] == {
        "held": 91.0 + 10.0,
        "training": 77.0,
        "importing": 12.0,
        "compiling": 0.0,
        "building": 5.0,
        "checkpointing": 1.0,
        "waiting": 0.5,
        "other": 4.0 + 0.5,
        "idle": 1.0,
    }
    total = timeline.in_all(slots)
    assert (total["held"], total["training"]) == (151.0, 127.0)
    assert sum(seconds for use, seconds in total.items() if use != "held") == pytest.approx(total["held"])


def test_trials_that_share_a_gpu_hold_a_share_each():
    stints = [
        Stint("0000", "first", "a GPU 0", 100.0, 160.0, {**dict.fromkeys(timeline.USES, 0.0), "training": 50.0}),
        Stint("0001", "first", "a GPU 0", 101.0, 131.0, {**dict.fromkeys(timeline.USES, 0.0), "training": 25.0}),
        Stint("0002", "first", "a GPU 0", 130.9, 161.0, {**dict.fromkeys(timeline.USES, 0.0), "training": 30.0}),
    ]
    total = timeline.by_slot(stints)["a GPU 0"]
    assert (total["held"], total["training"], total["idle"]) == (60.0 + 60.0, 105.0, pytest.approx(-0.1))


@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"trial": "0001"}', '{"began": "x", "ended": 1, "seconds": {}}', "\0"]
)
def test_a_damaged_line_of_a_timeline_costs_no_more_than_that(tmp_path, line):
    file = tmp_path / "timeline.jsonl"
    whole = Stint("0000", "first", "a", 1.0, 2.0, dict.fromkeys(timeline.USES, 0.0))
    timeline.append(file, whole)
    with open(file, "a") as lines:
        lines.write(line + "\n")
    timeline.append(file, whole)
    assert timeline.read(file) == [whole, whole]


def test_a_line_that_was_torn_when_the_disk_was_full_costs_no_more_than_itself(tmp_path):
    file = tmp_path / "timeline.jsonl"
    stint = Stint("0000", "first", "a", 1.0, 2.0, dict.fromkeys(timeline.USES, 0.0))
    timeline.append(file, stint)
    with open(file, "a") as lines:
        lines.write('{"trial": "00')
    timeline.append(file, stint)
    assert timeline.read(file) == [stint, stint]


def test_no_trial_had_a_slot_yet(tmp_path: Path):
    assert timeline.read(tmp_path / "timeline.jsonl") == []
    assert timeline.in_all({})["held"] == 0
