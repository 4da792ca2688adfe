"""Who is judged, and by what, when some cannot be: the final stage without Ray, its players played by a stub."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from test_evaluation import GOOD

from go1_sweep import protocol
from go1_sweep.errors import UserError
from go1_sweep.finalists import Candidate, Retrained, Seeds
from go1_sweep.paths import BASELINE, PolicyPaths
from go1_sweep.spec import FinalSpec
from go1_sweep.sweep import final
from go1_sweep.sweep.slots import Slots
from go1_sweep.terminal import Terminal
from go1_sweep.worker.process import WorkerSpec

SELECTING, JUDGING = [1], [2]


class Stub:
    """Plays by a table: how far a checkpoint is off its commands, or why it is refused, and with which seeds."""

    table: dict[str, float | tuple[str, list[int]]] = {}
    seconds = 0.0

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None: ...

    def play(self, jobs: list[protocol.Job]) -> Iterator[tuple[int, protocol.Answer]]:
        for place, job in enumerate(jobs):
            yield place, self._answer(job)

    def _answer(self, job: protocol.Job) -> protocol.Answer:
        if not isinstance(job, protocol.Evaluate):
            return protocol.Finished()
        known = self.table[job.policy.checkpoint]
        if isinstance(known, tuple):
            if job.seed in known[1]:
                return protocol.Refused(known[0])
            known = 0.9
        draw = random.Random(f"{job.policy.checkpoint} {job.seed}")
        off = [dataclasses.replace(GOOD, env=env, lin_vel_rmse=known + draw.gauss(0, 0.02)) for env in range(48)]
        return protocol.Evaluated("Flat", {"torch": "2"}, 1000, 0.02, off)


@pytest.fixture
def judge(tmp_path, monkeypatch, capsys):
    """Runs the final stage over trials; gives the outcome, the stage and what was said."""
    monkeypatch.setattr(final, "Players", Stub)
    monkeypatch.setattr(final.bundle_readme, "write", lambda *_: None)

    def run(**table: Any) -> tuple[final.Outcome, final.Stage, str]:
        Stub.table = {name.lstrip("_"): known for name, known in table.items()}
        spec = FinalSpec.model_validate({"seeds": 1, "video": False, "retrain_seeds": 4})
        worker = WorkerSpec("fake", None, "cpu", 1, 9.0)
        paths = PolicyPaths(tmp_path / "best")
        stage = final.Stage(spec, worker, Slots(1, 0, 1), Seeds(SELECTING, JUDGING), paths, tmp_path / "log", True)
        outcome = final.run(stage, [candidate(trial) for trial in Stub.table], Terminal())
        return outcome, stage, capsys.readouterr().out

    return run


def candidate(trial: str) -> Candidate:
    return Candidate(trial, protocol.Policy(trial, "flat", {}), "ab", {})


def test_the_best_of_the_selection_is_judged_with_other_seeds_and_the_baseline_beside_it(judge):
    outcome, stage, _ = judge(baseline=0.4, _0001=0.2, _0002=0.3)
    assert (outcome.winner.trial, list(outcome.winner.episodes)) == ("0001", JUDGING)
    assert (outcome.baseline.trial, list(outcome.baseline.episodes)) == (BASELINE, JUDGING)
    assert [list(each.episodes) for each in outcome.candidates] == [SELECTING] * 3
    assert outcome.verdict.is_gain
    written = json.loads(stage.folder.evaluation.read_text())
    assert written["verdict"]["sentence"] == outcome.verdict.sentence


def test_a_baseline_that_cannot_be_judged_leaves_a_winner_without_a_verdict_and_a_note(judge):
    outcome, _, said = judge(baseline=("no room", [*SELECTING, *JUDGING]), _0001=0.2)
    assert (outcome.winner.trial, outcome.baseline, outcome.verdict) == ("0001", None, None)
    assert "baseline, baseline cannot be played: no room" in said
    assert "No verdict: there is no baseline that could be judged" in said


def test_a_winner_that_cannot_be_judged_is_an_error(judge):
    with pytest.raises(UserError, match="trial 0001, 0001 was selected, and could not be judged"):
        judge(baseline=0.95, _0001=("no room", JUDGING))


def again(trial: str, offs: list[float]) -> list[Candidate]:
    Stub.table |= {f"{trial}-{seed}": off for seed, off in enumerate(offs)}
    return [candidate(f"{trial}-{seed}") for seed in range(len(offs))]


def test_parameters_are_judged_by_their_trainings_and_one_that_diverged_counts_as_nothing(judge):
    outcome, stage, _ = judge(baseline=0.4, _0001=0.2)
    ours, theirs = again("0001", [0.2, 0.21, 0.22, 0.2, 0.19]), again(BASELINE, [0.4, 0.41, 0.39])
    found = final.judge_parameters(stage, outcome, Retrained(ours, 0), Retrained(theirs, 1), Terminal())
    assert found.verdict is not None
    assert (found.verdict.about, found.verdict.is_gain, len(found.retrained)) == ("parameters", True, 8)
    assert (len(found.verdict.ours), found.verdict.theirs[-1]) == (5, 0.0)
    assert json.loads(stage.folder.evaluation.read_text())["verdict"]["about"] == "parameters"


@pytest.mark.parametrize("offs", [[], [0.4, 0.4, 0.4]])
def test_too_few_trainings_leave_the_verdict_on_the_policies(judge, capsys, offs):
    outcome, stage, _ = judge(baseline=0.4, _0001=0.2)
    sides = Retrained(again("0001", [0.2] * 4), 0), Retrained(again(BASELINE, offs), 0)
    found = final.judge_parameters(stage, outcome, *sides, Terminal())
    assert found.verdict == outcome.verdict
    assert f"4 and {len(offs)} trainings are left, too few to judge the parameters" in capsys.readouterr().out


def test_a_final_stage_that_goes_on_takes_what_it_kept_and_lets_only_the_others_sit(judge, tmp_path, monkeypatch):
    table = {"baseline": 0.4, "0001": 0.2, "0002": 0.3}
    kept = [dataclasses.replace(candidate(trial), evaluation=tmp_path / f"{trial}.json") for trial in table]
    _, stage, _ = judge(baseline=0.4, _0001=0.2)
    stage = dataclasses.replace(stage, versions={"torch": "2"})
    Stub.table = dict(table)
    first = final.run(stage, kept, Terminal())
    (tmp_path / "0002.json").unlink()
    jobs: list[tuple[str, int]] = []
    answer = Stub._answer

    def counted(self: Stub, job: protocol.Job) -> protocol.Answer:
        if isinstance(job, protocol.Evaluate):
            jobs.append((job.policy.checkpoint, job.seed))
        return answer(self, job)

    monkeypatch.setattr(Stub, "_answer", counted)
    assert final.run(stage, kept, Terminal()).verdict == first.verdict
    assert jobs == [("0002", 1)]
    jobs.clear()
    final.run(dataclasses.replace(stage, versions={"torch": "3"}), kept, Terminal())
    assert len(jobs) == 5, "what rests on other versions is not mixed in"
