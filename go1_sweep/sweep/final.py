"""The final stage: plays the finalists, and films and exports the winner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import finalists, protocol
from go1_sweep.errors import BadInput, UserError
from go1_sweep.evaluation import Evaluation, evaluation_of, load
from go1_sweep.finalists import Candidate
from go1_sweep.paths import BASELINE, PolicyPaths, SweepPaths, TrialPaths, write_json
from go1_sweep.spec import FinalSpec, Spec
from go1_sweep.sweep import bundle_readme
from go1_sweep.sweep.local_ray import Slots, worker_for
from go1_sweep.sweep.players import Players
from go1_sweep.terminal import Terminal
from go1_sweep.trials_table import TrialRecord
from go1_sweep.wording import title
from go1_sweep.worker.process import WorkerSpec


@dataclass(frozen=True)
class Stage:
    """What the final stage works with.

    Attributes:
        spec: how it is played and filmed.
        worker: that plays.
        slots: how many play side by side.
        seeds: of the envs that are played in.
        folder: for the winner's policy; made if it is not there.
        log: for all that the simulator says.
        is_of_run: whether it ends a sweep: evaluations and trajectories are kept beside the checkpoints. If
            not, a sweep's folder is only read, and what it kept is taken where it is what would be played.
    """

    spec: FinalSpec
    worker: WorkerSpec
    slots: Slots
    seeds: list[int]
    folder: PolicyPaths
    log: Path
    is_of_run: bool


def stage_of(spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord], slots: Slots) -> Stage:
    """The final stage of a sweep."""
    return Stage(
        spec=spec.final,
        worker=worker_for(spec.simulator, spec.of_simulator(spec.simulator), spec.resources, slots),
        slots=slots,
        seeds=finalists.evaluation_seeds(spec.search.seed, spec.final.seeds, (record.seed for record in records)),
        folder=paths.best,
        log=paths.final_log,
        is_of_run=True,
    )


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        winner: the best in play.
        baseline: the better of the baseline's checkpoints; ``None`` where there is no baseline.
        evaluations: of all candidates that could be played.
        no_video: why there is no video; empty if there is one.
    """

    winner: Evaluation
    baseline: Evaluation | None
    evaluations: list[Evaluation]
    no_video: str

    @property
    def beside(self) -> Evaluation | None:
        """What the winner is shown beside: the baseline, unless it won."""
        return None if self.baseline == self.winner else self.baseline


def run(stage: Stage, candidates: list[Candidate], terminal: Terminal) -> Outcome:
    """Play all candidates, then film and export the winner.

    Args:
        stage: see there.
        candidates: that are played.
        terminal: hears of each step.

    Raises:
        BadInput: no candidate could be played, and the first one's checkpoint is at fault.
        UserError: there is no candidate, none could be played, or the winner could not be exported.
        OSError: a file cannot be written.
    """
    if not candidates:
        raise UserError("no finalist has a checkpoint that can be played")
    stage.folder.folder.mkdir(parents=True, exist_ok=True)
    with Players(stage.slots, stage.worker, stage.log) as players:
        evaluations = _kept(stage, candidates, terminal) or _evaluate(stage, players, candidates, terminal)
        winner = finalists.winner(evaluations.values())
        candidate = next(candidates[i] for i, evaluation in evaluations.items() if evaluation is winner)
        no_video = _film_and_export(stage, players, candidate, terminal)
    of_baseline = [each for each in evaluations.values() if each.trial == BASELINE]
    baseline = finalists.winner(of_baseline) if of_baseline else None
    outcome = Outcome(winner, baseline, list(evaluations.values()), no_video)
    write_json(
        stage.folder.evaluation,
        {
            "winner": winner.summary(),
            "baseline": baseline.summary() if baseline else None,
            "evaluations": [each.to_json() for each in outcome.evaluations],
        },
    )
    bundle_readme.write(stage.folder, outcome)
    return outcome


def _kept(stage: Stage, candidates: list[Candidate], terminal: Terminal) -> dict[int, Evaluation]:
    """What the sweep kept of all candidates, by their place; nothing unless it is what would be played now."""
    if stage.is_of_run:
        return {}
    kept = {i: load(each.evaluation) if each.evaluation else None for i, each in enumerate(candidates)}
    found = {i: each for i, each in kept.items() if each and each.sha256 == candidates[i].sha256}
    played = dict.fromkeys(stage.seeds, stage.spec.envs)
    if len(found) < len(candidates) or any(
        {seed: len(episodes) for seed, episodes in each.episodes.items()} != played
        or each.versions != found[0].versions
        for each in found.values()
    ):
        return {}
    terminal.note("What the sweep itself played is taken")
    for each in found.values():
        terminal.evaluated(each)
    return found


def _evaluate(stage: Stage, players: Players, candidates: list[Candidate], terminal: Terminal) -> dict[int, Evaluation]:
    """Play each candidate with each seed, at least one with success; the evaluations by the candidates' place."""
    terminal.evaluating(len(candidates), stage.spec)
    done: dict[int, Evaluation] = {}
    refused: dict[int, protocol.Refused] = {}
    answers: dict[int, dict[int, protocol.Evaluated]] = {i: {} for i in range(len(candidates))}
    tasks = [(i, seed) for i in range(len(candidates)) for seed in stage.seeds]
    jobs: list[protocol.Job] = [_job(stage, candidates[i], seed) for i, seed in tasks]
    for place, answer in players.play(jobs):
        i, seed = tasks[place]
        if isinstance(answer, protocol.Evaluated):
            answers[i][seed] = answer
        elif isinstance(answer, protocol.Refused) and i not in refused:
            refused[i] = answer
            if len(candidates) > 1:  # else it is the error
                terminal.note(f"{_title(candidates[i])} cannot be played: {answer.why}")
        if len(answers[i]) == len(stage.seeds):
            done[i] = _evaluation(candidates[i], stage.seeds, answers[i])
            terminal.evaluated(done[i])
            if stage.is_of_run and (path := candidates[i].evaluation):
                done[i].save(path)
    if not done:
        first = next(iter(refused.values()))
        raise BadInput(first.why) if first.is_bad_input else UserError(f"no policy could be played: {first.why}")
    return dict(sorted(done.items()))


def _job(stage: Stage, candidate: Candidate, seed: int) -> protocol.Evaluate:
    keeps = stage.is_of_run and stage.spec.trajectories
    path = TrialPaths(candidate.file.parent).trajectories(candidate.file.stem, seed)
    return protocol.Evaluate(candidate.policy, stage.spec.envs, seed, steps=0, trajectories=str(path) if keeps else "")


def _evaluation(candidate: Candidate, seeds: list[int], answers: dict[int, protocol.Evaluated]) -> Evaluation:
    in_order = {seed: answers[seed] for seed in seeds}
    return evaluation_of(candidate.trial, candidate.file.name, candidate.sha256, in_order, candidate.roles)


def _film_and_export(stage: Stage, players: Players, winner: Candidate, terminal: Terminal) -> str:
    """Write the winner's files; why there is no video, if so."""
    jobs: list[protocol.Job] = [protocol.Export(winner.policy, str(stage.folder.folder), winner.origin)]
    no_video = "none was asked for"
    if video := stage.spec.video:
        path = str(stage.folder.video)
        jobs.append(protocol.Film(winner.policy, stage.seeds[0], video.length, video.interval, path))
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
