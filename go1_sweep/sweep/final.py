"""The final stage: the finalists sit the exam; the winner is judged beside the baseline, filmed and exported."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from go1_sweep import finalists, protocol
from go1_sweep.checkpoint import sha256
from go1_sweep.deploy import BundleError
from go1_sweep.errors import UserError
from go1_sweep.evaluation import Evaluation
from go1_sweep.finalists import Candidate, Retrained, Seeds
from go1_sweep.paths import BASELINE, PolicyPaths, SweepPaths, TrialPaths, write_atomically, write_json
from go1_sweep.spec import FinalSpec, Spec
from go1_sweep.spec_rules import FEWEST
from go1_sweep.sweep import bundle_readme
from go1_sweep.sweep.examination import Examination
from go1_sweep.sweep.players import Players
from go1_sweep.sweep.slots import Slots, worker_for
from go1_sweep.terminal import Terminal
from go1_sweep.trials_table import TrialRecord
from go1_sweep.verdict import Verdict, of_parameters, of_policies
from go1_sweep.wording import title
from go1_sweep.worker.process import WorkerSpec

if TYPE_CHECKING:
    from go1_sweep.deploy.sim_to_sim import SimToSim


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
        versions: of what an exam rests on here; ``None``: not known.
    """

    spec: FinalSpec
    worker: WorkerSpec
    slots: Slots
    seeds: Seeds
    folder: PolicyPaths
    log: Path
    is_of_run: bool
    versions: dict[str, str] | None = None


def stage_of(
    spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord], slots: Slots, versions: dict[str, str]
) -> Stage:
    """The final stage of a sweep."""
    return Stage(
        spec=spec.final,
        worker=worker_for(spec.simulator, spec.of_simulator(spec.simulator), spec.resources, slots),
        slots=slots,
        seeds=finalists.exam_seeds(spec.search.seed, spec.final.seeds, (record.seed for record in records)),
        folder=paths.best,
        log=paths.final_log,
        is_of_run=True,
        versions=versions,
    )


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        winner: judged: the best of the candidates by the selecting seeds, in the exam of the judging ones.
        baseline: judged likewise: the better of the baseline's checkpoints; ``None`` where there is none.
        candidates: all that could sit the exam, with the selecting seeds; empty where there is but one.
        verdict: on the winner; ``None`` where there is no baseline.
        no_video: why there is no video; empty if there is one.
        sim_to_sim: how the exported policy does outside its simulator; ``None``: that could not be tried.
        retrained: the trainings with the parameters of both, judged; empty where there was none.
        player_seconds: that playing, filming and exporting took in all slots together.
    """

    winner: Evaluation
    baseline: Evaluation | None
    candidates: list[Evaluation]
    verdict: Verdict | None
    no_video: str
    sim_to_sim: SimToSim | None = None
    retrained: list[Evaluation] = field(default_factory=list)
    player_seconds: float = 0.0

    @property
    def beside(self) -> Evaluation | None:
        """What the winner is shown beside: the baseline, unless it won."""
        return None if self.baseline == self.winner else self.baseline


def run(stage: Stage, candidates: list[Candidate], terminal: Terminal) -> Outcome:
    """Select and judge a winner in the exam, then film and export it.

    Args:
        stage: see there.
        candidates: that sit the exam.
        terminal: hears of each step.

    Raises:
        BadInput: no candidate could be played, and the first one's checkpoint is at fault.
        UserError: there is no candidate, none could be played, or the winner could not be exported.
        OSError: a file cannot be written.
    """
    if not candidates:
        raise UserError("no finalist has a checkpoint that can be played")
    stage.folder.folder.mkdir(parents=True, exist_ok=True)
    with Players(stage.slots, stage.worker, stage.log, stage.folder.folder.parent) as players:
        exam = _examination(stage, candidates, players, terminal)
        everyone = range(len(candidates))
        selected = exam.sit("selection", everyone, stage.seeds.selecting) if len(candidates) > 1 else {}
        best, rival = _picked(candidates, selected)
        judged = exam.sit("judgement", [best] if rival is None else [best, rival], stage.seeds.judging)
        if best not in judged:
            raise UserError(f"{_title(candidates[best])} was selected, and could not be judged")
        beside = candidates[rival] if rival in judged else None
        others = _other_finalists(candidates, selected, candidates[best].trial) if stage.is_of_run else []
        no_video = _film_and_export(stage, players, candidates[best], judged[best], beside, others, terminal)
    winner, baseline = judged[best], judged.get(rival) if rival is not None else None
    if winner.trial == BASELINE and (selected or stage.is_of_run):
        baseline = winner
    if baseline is None and stage.is_of_run:
        terminal.note("No verdict: there is no baseline that could be judged")
    verdict = of_policies(winner, baseline) if baseline else None
    tried = _tried_in_mujoco(stage, winner, terminal)
    seconds = players.seconds
    outcome = Outcome(winner, baseline, list(selected.values()), verdict, no_video, tried, player_seconds=seconds)
    _write(stage, outcome)
    return outcome


def judge_parameters(stage: Stage, outcome: Outcome, ours: Retrained, theirs: Retrained, terminal: Terminal) -> Outcome:
    """The outcome with a verdict on the parameters, by what came of training them again.

    Where that is too little, the verdict on the policies stays, and a note says why.

    Args:
        stage: see there.
        outcome: of ``run``.
        ours: the winner's parameters.
        theirs: the baseline's.
        terminal: hears of each step.

    Raises:
        UserError: none could be played.
        OSError: a file cannot be written.
    """
    candidates = [*ours.candidates, *theirs.candidates]
    judged: dict[int, Evaluation] = {}
    seconds = outcome.player_seconds
    if candidates:
        with Players(stage.slots, stage.worker, stage.log, stage.folder.folder.parent) as players:
            exam = _examination(stage, candidates, players, terminal)
            judged = exam.sit("judgement", range(len(candidates)), stage.seeds.judging)
        seconds += players.seconds
    scores = {candidates[place].trial: _score(each) for place, each in judged.items()}
    of_ours, of_theirs = (
        [scores[each.trial] for each in side.candidates if each.trial in scores] + [0.0] * side.diverged
        for side in (ours, theirs)
    )
    if min(len(of_ours), len(of_theirs)) >= FEWEST:
        verdict = of_parameters(of_ours, of_theirs)
    else:
        verdict = outcome.verdict
        few = f"{len(of_ours)} and {len(of_theirs)} trainings are left"
        terminal.note(f"{few}, too few to judge the parameters: the verdict is about the policies")
    outcome = dataclasses.replace(outcome, retrained=list(judged.values()), verdict=verdict, player_seconds=seconds)
    _write(stage, outcome)
    return outcome


def _examination(stage: Stage, candidates: list[Candidate], players: Players, terminal: Terminal) -> Examination:
    spec = stage.spec
    return Examination(
        candidates,
        spec.envs,
        spec.exam_seconds,
        players,
        terminal,
        is_of_run=stage.is_of_run,
        versions=stage.versions,
        keeps_steps=spec.trajectories,
    )


def _write(stage: Stage, outcome: Outcome) -> None:
    write_json(
        stage.folder.evaluation,
        {
            "winner": outcome.winner.to_json(),
            "baseline": outcome.baseline.to_json() if outcome.baseline else None,
            "verdict": dataclasses.asdict(outcome.verdict) if outcome.verdict else None,
            "candidates": [each.to_json() for each in outcome.candidates],
            "retrained": [each.to_json() for each in outcome.retrained],
        },
    )
    bundle_readme.write(stage.folder, outcome)
    sums = [f"{sha256(each)}  {each.name}\n" for each in stage.folder.files()]
    write_atomically(stage.folder.sums, "".join(sums))


def _picked(candidates: list[Candidate], selected: dict[int, Evaluation]) -> tuple[int, int | None]:
    """The place of the best, and that of the baseline's best where another one won."""

    def best_of(places: list[int]) -> int:
        return max(places, key=lambda place: _score(selected[place]))

    if not selected:
        return 0, None
    best = best_of(list(selected))
    baseline = [place for place in selected if candidates[place].trial == BASELINE]
    return best, best_of(baseline) if baseline and candidates[best].trial != BASELINE else None


def _other_finalists(
    candidates: list[Candidate], selected: dict[int, Evaluation], winner: str
) -> list[tuple[Candidate, Evaluation]]:
    """The better checkpoint of each finalist but the winner."""
    worst_first = sorted(selected, key=lambda place: _score(selected[place]))
    better = {candidates[place].trial: place for place in worst_first}
    return [(candidates[place], selected[place]) for trial, place in better.items() if trial != winner]


def _score(sat: Evaluation) -> float:
    return sat.overall().score or 0.0


def _film_and_export(
    stage: Stage,
    players: Players,
    winner: Candidate,
    judged: Evaluation,
    beside: Candidate | None,
    others: list[tuple[Candidate, Evaluation]],
    terminal: Terminal,
) -> str:
    """Write the policies' files, and film the winner and who is shown beside it; why there is no video, if so."""
    jobs: list[tuple[protocol.Job, Candidate]] = [(_export(winner, judged, stage.folder), winner)]
    no_video = "none was asked for"
    films = {stage.folder.video: winner, stage.folder.baseline_video: beside}
    for path, candidate in films.items():
        path.unlink(missing_ok=True)  # another one's, where the sweep was resumed
        if (video := stage.spec.video) and candidate:
            film = protocol.Film(candidate.policy, stage.seeds.judging[0], video.length, video.interval, str(path))
            jobs.append((film, candidate))
    for candidate, sat in others:  # a robot, or `stream`, can have these as well
        folder = TrialPaths(candidate.file.parent).exported
        folder.folder.mkdir(exist_ok=True)
        jobs.append((_export(candidate, sat, folder), candidate))
    as_well = ", exporting the other finalists" if others else ""
    terminal.note(f"Exporting{' and filming' if stage.spec.video else ''} {_title(winner)}{as_well}")
    for place, answer in players.play([job for job, _ in jobs]):
        job, candidate = jobs[place]
        why = answer.why if isinstance(answer, protocol.Refused) else ""
        match job:
            case protocol.Film(video=film):
                if why:
                    terminal.note(f"no {Path(film).name}: {why}")
                if Path(film) == stage.folder.video:
                    no_video = why
            case protocol.Export(folder=folder) if why:
                if Path(folder) == stage.folder.folder:
                    raise UserError(f"{_title(winner)} cannot be exported: {why}")
                terminal.note(f"{_title(candidate)} is not exported: {why}")
    return no_video


def _export(candidate: Candidate, sat: Evaluation, folder: PolicyPaths) -> protocol.Export:
    figures = {name: each for name, each in dataclasses.asdict(sat.overall()).items() if each is not None}
    return protocol.Export(
        candidate.policy, str(folder.folder), candidate.origin, {"robots": sat.num_episodes, **figures}
    )


def _tried_in_mujoco(stage: Stage, winner: Evaluation, terminal: Terminal) -> SimToSim | None:
    stage.folder.sim_to_sim.unlink(missing_ok=True)  # another one's, where the sweep was resumed
    try:
        from go1_sweep.deploy import sim_to_sim  # MuJoCo: a cluster's head may have no simulator

        terminal.note("Driving a Go1 in plain MuJoCo with what was exported")
        tried = sim_to_sim.compared(stage.folder.folder, winner)
    except (BundleError, ModuleNotFoundError) as error:
        terminal.note(f"Not tried in plain MuJoCo: {error}")
        return None
    tried.save(stage.folder.sim_to_sim)
    return tried


def _title(candidate: Candidate) -> str:
    return title(candidate.trial, candidate.file.name)
