"""The driver's truth: what ASHA decides, what Optuna is told and what trials.csv says are one thing."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import by_trial
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from go1_sweep import checkpoint, finalists, spec, timeline, trials_table
from go1_sweep.errors import UserError
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths
from go1_sweep.protocol import Progress
from go1_sweep.sweep.trials import Retrainings, Trials
from go1_sweep.trials_table import TrialRecord

PARAMETERS = {
    "schedule": {"choice": ["adaptive", "fixed"]},
    "learning_rate": {"log_uniform": [1e-4, 1e-2], "when": {"schedule": "fixed"}},
    "desired_kl": {"log_uniform": [3e-3, 3e-2], "when": {"schedule": "adaptive"}},
}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def started(self, record: TrialRecord) -> None:
        self.events.append(("started", record.trial))

    def ended(self, record: TrialRecord, folder: TrialPaths) -> None:
        self.events.append((record.state, record.trial))

    def note(self, text: str) -> None:
        self.events.append(("", text))

    def noted(self, record: TrialRecord, text: str) -> None:
        self.events.append((text, record.trial))


@pytest.fixture
def make(tmp_path):
    """Makes the trials of a sweep: rungs at 3 and 6 of 12 iterations, the better half goes on."""

    def trials(retrain_seeds: int = 0, resumed: bool = False, **search: Any) -> tuple[Trials, SweepPaths, Heard]:
        file = tmp_path / "sweep.yaml"
        content = {
            "task": "flat",
            "search": {"trials": 8, "parameters": PARAMETERS, **search},
            "budget": {"unit": "iterations", "max": 12},
            "early_stopping": {"grace": 0.25, "reduction_factor": 2},
            "storage": str(tmp_path),
            "baseline": {"num_envs": 16},
            "final": {"retrain_seeds": retrain_seeds},
        }
        file.write_text(yaml.safe_dump(content))
        paths = SweepPaths(tmp_path / "out")
        if not resumed:
            shutil.rmtree(paths.folder, ignore_errors=True)
            paths.folder.mkdir()
        heard = Heard()
        return Trials(spec.load(file), paths, heard), paths, heard

    return trials


def result(state: str, progress: Progress, why: str = "so", *, diverged: bool = False) -> dict[str, Any]:
    told = {"state": state, "why": why, "evidence": [], "notes": [], "diverged": diverged, "progress": vars(progress)}
    return told | {"slot": "here GPU 0", "seconds": {"importing": 2.0}}


def at(iterations: int, score: float | None) -> Progress:
    return Progress(iterations, iterations * 24, float(iterations), score)


def told(paths: SweepPaths) -> dict[str, optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{paths.study}"
    studies = [optuna.load_study(study_name=name, storage=storage) for name in ("sweep", "sweep baseline")]
    return {trial.user_attrs["trial"]: trial for study in studies for trial in study.trials}


def test_optuna_hears_of_each_state_what_the_table_says(make):
    trials, paths, heard = make()
    baseline, best, weak, broken, diverged, too_large, lost = (trials.draw().trial for _ in range(7))
    assert trials.report(best, at(3, 2.0))
    assert not trials.report(weak, at(3, 1.0))
    trials.ended(weak, result("running", at(3, 1.0)))
    trials.ended(broken, result("failed", at(2, 0.5), why="exit code 1"))
    trials.ended(diverged, result("failed", at(2, None), diverged=True))
    trials.ended(too_large, result("infeasible", at(0, None)))
    for _ in range(spec.ResourcesSpec().retries):
        trials.ended(lost, None)
        assert trials.draw().trial == lost, "its next actor died before it had begun: Tune gives it up"
    trials.ended(lost, None)
    assert trials.report(best, at(6, 3.0))
    trials.ended(best, result("completed", at(12, 4.0)))
    trials.ended(baseline, result("completed", at(12, 3.5)))

    study, rows = told(paths), by_trial(paths)
    assert {t: row["state"] for t, row in rows.items()} == {t: f.user_attrs["state"] for t, f in study.items()}
    assert {trial: frozen.state.name for trial, frozen in study.items()} == {
        baseline: "COMPLETE",
        best: "COMPLETE",
        weak: "PRUNED",
        broken: "FAIL",
        diverged: "PRUNED",
        too_large: "PRUNED",
        lost: "FAIL",
    }
    assert study[best].value == 4.0
    assert study[best].intermediate_values == {3: 2.0, 6: 3.0}
    assert study[weak].intermediate_values == {3: 1.0}
    violated = {trial: frozen.constraints for trial, frozen in study.items() if frozen.constraints}
    assert violated == {diverged: {"divergence": 1.0}, too_large: {"memory": 1.0}}
    assert rows[broken]["why"] == "exit code 1"
    assert rows[weak]["iterations"] == "3"
    assert trials_table.best(trials.records.values(), "max") is trials.records[best]
    assert (heard.events[0], heard.events[-1]) == (("early_stopped", weak), ("completed", baseline))


def test_tensorboard_shows_a_trial_from_its_end_on_and_one_that_goes_on_not_before_its_next(make):
    def shown() -> dict[str, str]:
        found = {}
        for file in paths.trials.glob("*/events.*"):
            events = EventAccumulator(str(file)).Reload()
            content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
            values = metadata.parse_session_start_info_plugin_data(content).hparams
            found[file.parent.name] = values["State"].string_value
        return found

    trials, paths, _ = make()
    trials.draw()
    first, second = (trials.draw().trial for _ in range(2))
    assert shown() == {}
    trials.ended(first, result("completed", at(12, 4.0)))
    assert shown() == {first: "completed"}
    trials.abandon("Ctrl-C")
    assert shown() == {BASELINE: "interrupted", first: "completed", second: "interrupted"}
    trials, paths, _ = make(resumed=True)
    assert [trials.draw().trial for _ in range(2)] == [BASELINE, second]
    assert shown() == {first: "completed"}
    trials.ended(second, result("failed", at(3, None)))
    assert shown() == {first: "completed", second: "failed"}


def test_no_trial_waits_for_tensorboard(make):
    trials, paths, _ = make()
    in_the_way = paths.trial(trials.draw().trial).hparams
    in_the_way.mkdir(parents=True)
    trials.ended(BASELINE, result("completed", at(12, 4.0)))
    assert by_trial(paths)[BASELINE]["state"] == "completed"
    assert list(in_the_way.parent.iterdir()) == [in_the_way]


def test_the_baseline_is_drawn_first_is_never_stopped_and_is_no_rival_at_a_rung(make):
    trials, _, _ = make()
    baseline, first = trials.draw(), trials.draw()
    assert (baseline.trial, baseline.parameters) == (BASELINE, {"num_envs": 16})
    assert trials.report(BASELINE, at(3, 100.0))
    assert trials.report(first.trial, at(3, 1.0)), "the first of the search goes on, however good the baseline is"
    assert trials.report(BASELINE, at(6, -100.0))


def test_a_conditional_parameter_is_set_only_under_its_condition(make):
    trials, paths, _ = make(trials=12, sampler="random")
    records = [trials.draw() for _ in range(13)][1:]
    assert {record.parameters["schedule"] for record in records} == {"adaptive", "fixed"}
    for record in records:
        other = "learning_rate" if record.parameters["schedule"] == "fixed" else "desired_kl"
        assert set(record.parameters) == {"schedule", other}
        assert told(paths)[record.trial].params == record.parameters
        absent = ({"learning_rate", "desired_kl"} - {other}).pop()
        assert by_trial(paths)[record.trial][absent] == ""


def test_the_same_seed_draws_the_same_trials_with_the_same_training_seeds(make):
    def drawn(seed: int) -> list[tuple[dict, int]]:
        trials, _, _ = make(seed=seed)
        return [(record.parameters, record.seed) for record in (trials.draw() for _ in range(9))]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({seed for _, seed in drawn(1)}) == 9


def test_fixed_parameters_go_to_every_trial_but_the_baseline(make):
    trials, _, _ = make(fixed={"gamma": 0.98})
    baseline, first = trials.draw(), trials.draw()
    assert "gamma" not in baseline.parameters
    assert first.parameters["gamma"] == 0.98


def test_after_an_interrupt_no_trial_is_drawn_and_each_ends_as_interrupted_and_not_as_told(make):
    trials, paths, _ = make()
    _, running = trials.draw(), trials.draw()
    trials.interrupt()
    assert trials.is_exhausted
    assert not trials.report(running.trial, at(1, 1.0))
    trials.ended(running.trial, result("running", at(1, 1.0)))
    trials.abandon("the sweep was interrupted")
    assert {row["state"] for row in by_trial(paths).values()} == {"interrupted"}
    assert {frozen.state.name for frozen in told(paths).values()} == {"RUNNING"}


def test_an_interrupted_trial_stands_where_it_was_saved_last(make):
    trials, paths, _ = make()
    _, running = trials.draw(), trials.draw()
    trials.interrupt()
    assert not trials.report(running.trial, at(1, 1.0))
    own = paths.trial(running.trial)
    own.folder.mkdir(parents=True, exist_ok=True)

    def write(path: Path) -> None:
        path.write_text("weights")

    checkpoint.publish(own, at(2, 3.0), write, keep=2, mode="max")
    trials.abandon("the sweep was interrupted")
    row = by_trial(paths)[running.trial]
    assert (row["iterations"], row["score"]) == ("2", "3.0")


def test_no_more_trials_are_drawn_than_asked_for(make):
    trials, _, _ = make()
    while not trials.is_exhausted:
        trials.draw()
    assert len(trials.records) == 9


def test_a_large_table_is_written_with_a_later_report_and_always_at_the_end(make, monkeypatch):
    trials, paths, _ = make()

    def rows_wait(seconds: float) -> None:
        monkeypatch.setattr("go1_sweep.sweep.trials.ROW_SECONDS", seconds)

    monkeypatch.setattr("go1_sweep.sweep.trials.SMALL_TABLE", 2)
    rows_wait(1000.0)
    first, _, _ = (trials.draw() for _ in range(3))
    assert len(by_trial(paths)) == 2
    rows_wait(0.0)
    assert trials.report(first.trial, at(1, 1.0))
    assert len(by_trial(paths)) == 3
    rows_wait(1000.0)
    trials.draw()
    assert len(by_trial(paths)) == 3
    trials.abandon("the sweep was interrupted")
    assert [row["state"] for row in by_trial(paths).values()] == ["interrupted"] * 4


def test_the_baseline_does_not_disturb_the_joint_sampling_of_tpe(make):
    joint = {"learning_rate": {"uniform": [1e-3, 2e-3]}, "gamma": {"uniform": [0.9, 0.99]}}
    trials, paths, _ = make(trials=12, parameters=joint)
    records = [trials.draw() for _ in range(13)]
    for record in records:
        trials.ended(record.trial, result("completed", at(12, 1.0)))
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{paths.study}")
    assert set(optuna.search_space.intersection_search_space(study.trials)) == set(joint)


def test_a_trial_that_has_used_its_whole_budget_is_not_stopped_by_a_rung_that_it_jumped_over(make):
    trials, paths, _ = make()
    _, first, coarse = (trials.draw().trial for _ in range(3))
    assert trials.report(first, at(3, 2.0))
    assert trials.report(coarse, at(12, 1.0))
    trials.interrupt()
    assert trials.report(coarse, at(12, 1.0)), "nor interrupted, now that it is over"
    trials.ended(coarse, result("completed", at(12, 1.0)))
    assert told(paths)[coarse].state.name == "COMPLETE"


def test_an_interrupt_does_not_change_why_a_trial_was_stopped(make):
    trials, paths, _ = make()
    _, first, weak = (trials.draw().trial for _ in range(3))
    assert trials.report(first, at(3, 2.0))
    assert not trials.report(weak, at(3, 1.0))
    trials.interrupt()
    trials.ended(weak, result("running", at(3, 1.0)))
    assert by_trial(paths)[weak]["state"] == "early_stopped"
    assert told(paths)[weak].state.name == "PRUNED"


def test_retrainings_take_turns_have_fresh_seeds_and_are_never_stopped_early(make):
    trials, paths, heard = make(retrain_seeds=4)
    first, second = trials.draw(), trials.draw()
    sweep = trials._spec
    again = Retrainings(sweep, paths, heard, [second, first])
    (paths.retrained.folder).mkdir()
    records = [again.draw() for _ in range(8)]
    assert again.is_exhausted
    assert [record.trial for record in records[:3]] == ["0000-1", "baseline-1", "0000-2"]
    assert {len(again.of(trial)) for trial in ("0000", BASELINE)} == {4}
    assert all(record.parameters == second.parameters for record in again.of("0000"))
    seeds = {record.seed for record in [first, second, *records]}
    assert len(seeds) == 10
    for record in records:
        assert again.report(record.trial, at(6, -1e9))
    again.ended("0000-1", result("failed", at(2, None), why="diverged in iteration 3: so", diverged=True))
    again.ended("0000-2", result("failed", at(2, None)))
    rows = by_trial(paths.retrained)
    assert (rows["0000-1"]["state"], rows["0000-3"]["state"], len(rows)) == ("failed", "running", 8)
    assert set(told(paths)) == {BASELINE, "0000"}, "Optuna hears of what it drew alone"
    warned: list[str] = []
    found = finalists.retrained(sweep, paths.retrained, again.of("0000")[:2], warned.append)
    assert (found.candidates, found.diverged) == ([], 1)
    assert warned == ["retraining 0000-2 failed: it is left out"]
    again.interrupt()
    assert not again.report("baseline-1", at(7, 1.0))

    resumed = Retrainings(sweep, paths, heard, [second, first])
    assert [record.diverged for record in resumed.of("0000")] == [True, False], "what has failed stays so"
    while not resumed.is_exhausted:
        resumed.draw()
    assert [record.trial for record in resumed.of("0000")] == [f"0000-{seed}" for seed in range(1, 5)]


def test_a_retraining_that_goes_on_has_trained_before_what_it_had_published(make):
    trials, paths, heard = make(retrain_seeds=4)
    trial = trials.draw()
    (paths.retrained.folder).mkdir()
    for stood, ends in ((at(0, None), "interrupted"), (at(6, 1.0), "completed")):
        again = Retrainings(trials._spec, paths, heard, [trial])
        record = again.draw()
        assert record.progress == stood
        again.started(record.trial)
        reached = at(stood.iterations + 6, 1.0)
        again.report(record.trial, reached, slot="here GPU 0")
        folder = paths.retrained.trial(record.trial)
        folder.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.publish(folder, reached, lambda path: path.touch())
        again.ended(record.trial, result("running" if ends == "interrupted" else ends, reached))
        assert record.state == ends
    assert [stint.seconds["training"] for stint in timeline.read(paths.retrained.timeline)] == [6.0, 6.0]


def test_what_a_trial_had_of_its_slot_is_known_when_its_driver_was_killed(make):
    trials, paths, _ = make()
    over, running = trials.draw().trial, trials.draw().trial
    for trial in (over, running):
        trials.started(trial)
        trials.report(trial, at(2, 1.0), slot="here GPU 0", seconds={"building": 0.5})
        trials._note_running()  # as after some seconds
    trials.ended(over, result("completed", at(12, 1.0)))
    assert [stint.trial for stint in timeline.of_sweep(paths)] == [over, running]
    make(resumed=True)
    ended, killed = timeline.read(paths.timeline)
    assert (ended.trial, killed.trial) == (over, running)
    assert (killed.seconds["building"], killed.seconds["training"]) == (0.5, 2.0)
    make(resumed=True)
    assert timeline.read(paths.timeline) == [ended, killed]
    assert not paths.running.exists()


def test_of_a_sweep_that_is_over_nothing_is_noted_as_running(make):
    trials, paths, _ = make()
    trial = trials.draw().trial
    trials.started(trial)
    trials.report(trial, at(2, 1.0), slot="here GPU 0")
    assert paths.running.exists()
    trials.ended(trial, result("completed", at(12, 1.0)))
    assert not paths.running.exists()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_while_a_trial_runs_makes_it_hold_its_slot_no_longer_and_no_shorter(
    make, monkeypatch, step
):
    trials, paths, _ = make()
    record = trials.draw()
    trials.started(record.trial)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + step)
    trials.ended(record.trial, result("completed", at(12, 1.0)))
    (stint,) = timeline.read(paths.timeline)
    assert 0.0 < stint.held < 60.0


def test_a_resumed_sweep_knows_all_that_was_told_and_goes_on_with_what_was_not(make):
    trials, _, _ = make()
    baseline, best, weak, broken, diverged, running, ahead = (trials.draw().trial for _ in range(7))
    assert trials.report(best, at(3, 2.0))
    assert not trials.report(weak, at(3, 1.0))
    trials.ended(broken, result("failed", at(2, 0.5), why="exit code 1"))
    trials.ended(diverged, result("failed", at(2, None), diverged=True))
    trials.ended(best, result("completed", at(12, 4.0)))
    assert trials.report(ahead, at(3, 5.0))

    again, paths, _ = make(resumed=True)
    known = {trial: record.state for trial, record in again.records.items()}
    assert known == {
        baseline: "interrupted",
        best: "completed",
        weak: "early_stopped",
        broken: "failed",
        diverged: "failed",
        running: "interrupted",
        ahead: "interrupted",
    }
    ended = (best, weak, broken, diverged)
    assert [again.records[each].progress for each in ended] == [at(12, 4.0), at(3, 1.0), at(2, 0.5), at(2, None)]
    assert (again.records[diverged].diverged, again.records[broken].diverged) == (True, False)
    assert all(again.records[each].seed == trials.records[each].seed for each in known)
    assert all(again.records[each].parameters == trials.records[each].parameters for each in known)
    assert [again.draw().trial for _ in range(3)] == [baseline, running, ahead], "what was not told comes first"
    assert {again.records[each].state for each in (baseline, running, ahead)} == {"running"}
    assert again.draw().trial == "0006"
    assert again.report(ahead, at(3, -9.0)), "it was compared at this rung before"
    assert not again.report(running, at(3, 1.5)), "the rungs remember"
    again.ended(ahead, result("completed", at(12, 6.0)))
    again.ended(baseline, result("completed", at(12, 3.0)))
    assert told(paths)[ahead].intermediate_values == {3: 5.0}
    assert {told(paths)[each].state.name for each in (baseline, ahead)} == {"COMPLETE"}


def test_a_rung_waits_for_a_trial_whose_score_is_of_before_a_resume(make):
    trials, _, _ = make()
    _, strong, resumed = (trials.draw().trial for _ in range(3))
    assert trials.report(strong, at(3, 2.0))
    assert trials.report(resumed, replace(at(4, 1.0), is_stale=True)), "others have learnt since"
    assert trials.report(resumed, at(5, 3.0)), "it is compared now"
    assert trials.records[resumed].progress == at(5, 3.0)


def test_a_resumed_sweep_draws_what_it_would_have_drawn(make):
    def drawn(resumed_after: int) -> list[dict]:
        trials, _, _ = make(trials=20)
        for number in range(21):
            if number == resumed_after:
                trials, _, _ = make(trials=20, resumed=True)
            record = trials.draw()
            trials.ended(record.trial, result("completed", at(12, record.parameters.get("learning_rate", 0.0))))
        return [record.parameters for record in trials.records.values()]

    undisturbed = drawn(resumed_after=99)
    assert drawn(resumed_after=4) == undisturbed
    assert drawn(resumed_after=17) == undisturbed, "by TPE"


def test_a_draw_does_not_read_all_trials_that_run_from_the_study(make, monkeypatch):
    trials, _, _ = make(trials=40)
    for _ in range(30):
        trials.draw()
    read = []
    build = RDBStorage._build_frozen_trial_from_trial_model

    def and_count(self: RDBStorage, trial: Any) -> FrozenTrial:
        read.append(trial.trial_id)
        return build(self, trial)

    monkeypatch.setattr(RDBStorage, "_build_frozen_trial_from_trial_model", and_count)
    trials.draw()
    assert 0 < len(read) < 10


@pytest.mark.parametrize("state", ["early_stopped", "completed", "failed", "infeasible"])
def test_a_trial_that_was_decided_when_the_sweep_died_is_told_when_it_is_resumed(make, monkeypatch, state):
    trials, _, _ = make()
    _, first, last = (trials.draw().trial for _ in range(3))
    assert trials.report(first, at(3, 2.0))

    def dies(*_: Any, **__: Any) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(optuna.study.Study, "tell", dies)
        with pytest.raises(InterruptedError):
            if state == "early_stopped":
                trials.report(last, at(3, 1.0))
            else:
                trials.ended(last, result(state, at(12, 1.0)))
    again, paths, _ = make(resumed=True)
    assert again.records[last].state == state
    frozen = told(paths)[last]
    assert frozen.state.is_finished()
    assert frozen.value == (None if state in ("failed", "infeasible") else 1.0)
    assert by_trial(paths)[last]["state"] == state, "the table says so too"
    assert again.draw().trial == BASELINE
    assert again.draw().trial == first
    assert again.draw().trial == "0002", "it is not drawn again"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("update trial_user_attributes set value_json = '{' where key = 'progress'", "is damaged (JSONDecodeError"),
        ("update trial_user_attributes set key = 'x' where key = 'trial'", "is damaged (KeyError: 'trial')"),
        ("delete from trials", "knows nothing of the trials that are there"),
    ],
)
def test_a_study_that_is_not_what_it_was_is_refused_in_a_sentence(make, damage, message):
    trials, paths, _ = make()
    for _ in range(2):
        trial = trials.draw().trial
        trials.ended(trial, result("completed", at(12, 1.0)))
    with contextlib.closing(sqlite3.connect(paths.study)) as study:
        study.execute(damage)
        study.commit()
    with pytest.raises(UserError, match=re.escape(message)):
        make(resumed=True)


@pytest.mark.parametrize("before", [0, 15], ids=["at random", "by TPE"])
@pytest.mark.parametrize("dies_in", ["suggest_float", "suggest_int"])
def test_a_draw_in_which_the_sweep_died_is_completed_as_it_would_have_been(make, monkeypatch, before, dies_in):
    space = {**PARAMETERS, "num_envs": {"int_uniform": [8, 4096]}, "entropy_coef": {"uniform": [0.0, 0.1]}}

    def some() -> Trials:
        trials, _, _ = make(trials=before + 4, parameters=space)
        for _ in range(before + 1):
            record = trials.draw()
            trials.ended(record.trial, result("completed", at(12, float(record.parameters["num_envs"]))))
        return trials

    calm = some()
    undisturbed = [calm.draw() for _ in range(4)]
    trials = some()

    def dies(*_: Any, **__: Any) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(optuna.trial.Trial, dies_in, dies)
        with pytest.raises(InterruptedError):
            trials.draw()
    again, _, _ = make(trials=before + 4, parameters=space, resumed=True)
    records = [again.draw() for _ in range(4)]
    assert [record.trial for record in records] == [record.trial for record in undisturbed]
    assert again.is_exhausted
    assert [record.parameters for record in records] == [record.parameters for record in undisturbed]
