"""The final stage: the finalists sit the exam; the winner is judged beside the baseline, filmed and exported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import finalists, protocol
from go1_sweep.errors import UserError
from go1_sweep.evaluation import Evaluation
from go1_sweep.finalists import Candidate, Retrained, Seeds
from go1_sweep.paths import BASELINE, PolicyPaths, SweepPaths, write_json
from go1_sweep.spec import FinalSpec, Spec
from go1_sweep.sweep import bundle_readme
from go1_sweep.sweep.examination import Examination
from go1_sweep.sweep.local_ray import Slots, worker_for
from go1_sweep.sweep.players import Players
from go1_sweep.terminal import Terminal
from go1_sweep.trials_table import TrialRecord
from go1_sweep.verdict import Verdict, of_parameters, of_policies
from go1_sweep.wording import title
from go1_sweep.worker.process import WorkerSpec


@dataclass(frozen=True)
class Stage:
    """What the final stage works with.

    Attributes:
        spec: how it is judged and filmed.
        worker: that does it.
        slots: how many sit the exam side by side.
        seeds: of the exam.
        folder: for the winner's policy; made if it is not there.
        log: for all that the simulator says.
        is_of_run: whether it ends a sweep: evaluations and trajectories are kept beside the checkpoints. If
            not, a sweep's folder is only read, and what it kept is taken where it is what would be done again.
    """

    spec: FinalSpec
    worker: WorkerSpec
    slots: Slots
    seeds: Seeds
    folder: PolicyPaths
    log: Path
    is_of_run: bool


def stage_of(spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord], slots: Slots) -> Stage:
    """The final stage of a sweep."""
    return Stage(
        spec=spec.final,
        worker=worker_for(spec.simulator, spec.of_simulator(spec.simulator), spec.resources, slots),
        slots=slots,
        seeds=finalists.exam_seeds(spec.search.seed, spec.final.seeds, (record.seed for record in records)),
        folder=paths.best,
        log=paths.final_log,
        is_of_run=True,
    )


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        winner: judged: the best of the candidates by the selecting seeds, in the exam of the judging ones.
        baseline: judged likewise: the better of the baseline's checkpoints; ``None`` where there is no baseline.
        candidates: all that could sit the exam, with the selecting seeds; empty where there is but one.
        retrained: the trainings with the parameters of each, judged; empty where there was none.
        verdict: on the winner; ``None`` where there is no baseline.
        no_video: why there is no video; empty if there is one.
    """

    winner: Evaluation
    baseline: Evaluation | None
    candidates: list[Evaluation]
    retrained: list[Evaluation]
    verdict: Verdict | None
    no_video: str

    @property
    def beside(self) -> Evaluation | None:
        """What the winner is shown beside: the baseline, unless it won."""
        return None if self.baseline == self.winner else self.baseline


Retrain = Callable[[str, str], tuple[Retrained, Retrained]]
"""Trains the parameters of two trials again."""


def run(stage: Stage, candidates: list[Candidate], terminal: Terminal, retrain: Retrain | None = None) -> Outcome:
    """Select and judge a winner in the exam, then film and export it.

    Args:
        stage: see there.
        candidates: that sit the exam.
        terminal: hears of each step.
        retrain: called for the winner's trial and the baseline, while no slot is taken; ``None``: the policies alone
            are judged.

    Raises:
        BadInput: no candidate could be played, and the first one's checkpoint is at fault.
        UserError: there is no candidate, none could be played, or the winner could not be exported.
        OSError: a file cannot be written.
    """
    if not candidates:
        raise UserError("no finalist has a checkpoint that can be played")
    stage.folder.folder.mkdir(parents=True, exist_ok=True)
    with Players(stage.slots, stage.worker, stage.log) as players:
        spec = stage.spec
        exam = Examination(candidates, spec.envs, players, terminal, stage.is_of_run, spec.trajectories)
        everyone = range(len(candidates))
        selected = exam.sit("selection", everyone, stage.seeds.selecting) if len(candidates) > 1 else {}
        best, rival = _picked(candidates, selected)
        again = Again(Retrained([], 0), Retrained([], 0))
        if retrain and rival is not None:
            players.close()
            again = Again(*retrain(candidates[best].trial, BASELINE))
            exam.candidates = [*candidates, *again.candidates]
        places = [best, *([] if rival is None else [rival]), *range(len(candidates), len(exam.candidates))]
        judged = exam.sit("judgement", places, stage.seeds.judging)
        if best not in judged:
            raise UserError(f"{_title(candidates[best])} was selected, and could not be judged")
        no_video = _film_and_export(stage, players, candidates[best], terminal)
    winner, baseline = judged[best], judged.get(rival) if rival is not None else None
    if winner.trial == BASELINE and (selected or stage.is_of_run):
        baseline = winner
    retrained = {place: each for place, each in judged.items() if place >= len(candidates)}
    verdict = None
    if baseline:
        scores = again.scores({place - len(candidates): each for place, each in retrained.items()})
        verdict = of_parameters(*scores) if any(scores) else of_policies(winner, baseline)
    outcome = Outcome(winner, baseline, list(selected.values()), list(retrained.values()), verdict, no_video)
    write_json(
        stage.folder.evaluation,
        {
            "winner": winner.to_json(),
            "baseline": baseline.to_json() if baseline else None,
            "verdict": dataclasses.asdict(verdict) if verdict else None,
            "candidates": [each.to_json() for each in outcome.candidates],
            "retrained": [each.to_json() for each in outcome.retrained],
        },
    )
    bundle_readme.write(stage.folder, outcome)
    return outcome


@dataclass(frozen=True)
class Again:
    """The winner's parameters and the baseline's, trained again."""

    ours: Retrained
    theirs: Retrained

    @property
    def candidates(self) -> list[Candidate]:
        """Of both, the winner's first."""
        return [*self.ours.candidates, *self.theirs.candidates]

    def scores(self, judged: dict[int, Evaluation]) -> tuple[list[float], list[float]]:
        """The scores of each, from the results by the places of ``candidates``; 0 for what diverged."""
        found = {place: each.overall().score or 0.0 for place, each in judged.items()}
        border = len(self.ours.candidates)
        ours = [score for place, score in found.items() if place < border] + [0.0] * self.ours.diverged
        theirs = [score for place, score in found.items() if place >= border] + [0.0] * self.theirs.diverged
        return ours, theirs


def _picked(candidates: list[Candidate], selected: dict[int, Evaluation]) -> tuple[int, int | None]:
    """The place of the best, and that of the baseline's best where another one won."""

    def best_of(places: list[int]) -> int:
        return max(places, key=lambda place: selected[place].overall().score or 0.0)

    if not selected:
        return 0, None
    best = best_of(list(selected))
    baseline = [place for place in selected if candidates[place].trial == BASELINE]
    return best, best_of(baseline) if baseline and candidates[best].trial != BASELINE else None


def _film_and_export(stage: Stage, players: Players, winner: Candidate, terminal: Terminal) -> str:
    """Write the winner's files; why there is no video, if so."""
    jobs: list[protocol.Job] = [protocol.Export(winner.policy, str(stage.folder.folder), winner.origin)]
    no_video = "none was asked for"
    if video := stage.spec.video:
        path = str(stage.folder.video)
        jobs.append(protocol.Film(winner.policy, stage.seeds.judging[0], video.length, video.interval, path))
    terminal.note(f"Exporting{' and filming' if video else ''} {_title(winner)}")
    for place, answer in players.play(jobs):
        if isinstance(jobs[place], protocol.Film):
            no_video = answer.why if isinstance(answer, protocol.Refused) else ""
        elif isinstance(answer, protocol.Refused):
            raise UserError(f"{_title(winner)} cannot be exported: {answer.why}")
    if no_video and video:
        terminal.note(f"no video: {no_video}")
    return no_video


def _title(candidate: Candidate) -> str:
    return title(candidate.trial, candidate.file.name)
