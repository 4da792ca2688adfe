"""``play``: one checkpoint in the play variant of its task: judged, filmed, or watched. Nothing is learnt."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import checkpoint, finalists, protocol
from go1_sweep.errors import BadInput, UserError
from go1_sweep.evaluation import evaluation_of
from go1_sweep.finalists import Trained
from go1_sweep.paths import PlayPaths, shown
from go1_sweep.simulators import SIMULATORS
from go1_sweep.single_run import folders
from go1_sweep.single_run.single_worker import gl_of, require_viewer, viewer_of, why_on_cpu, worker_spec
from go1_sweep.spec import simulator_spec
from go1_sweep.terminal import Terminal
from go1_sweep.worker.lookup import find_simulator
from go1_sweep.worker.player import Player
from go1_sweep.worker.process import WorkerFailed, WorkerSpec


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; ``None``: as it was trained, or the default.

    Attributes:
        checkpoint: a file, or a folder of checkpoints or of a sweep; ``None``: of the newest run.
        task: to play in.
        simulator: to play in.
        python: the interpreter that has it.
        physics: of Isaac Lab.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        seed: of the envs; ``None``: one that training did not use.
        num_envs: side by side.
        steps: to play; ``None``: an episode in each env, or until the viewer is closed.
        video: whether to film.
        video_length: steps that the film covers.
        video_interval: every how many steps a picture is taken.
        gui: whether to watch in the simulator's viewer instead of judging.
    """

    checkpoint: Path | None
    task: str | None
    simulator: str | None
    python: str | None
    physics: str | None
    device: str
    seed: int | None
    num_envs: int
    steps: int | None
    video: bool
    video_length: int
    video_interval: int
    gui: bool


def play(wanted: Wanted, terminal: Terminal) -> None:
    """Play a checkpoint.

    Raises:
        BadInput: there is no checkpoint, or none that can be played as it is wanted.
        UserError: the simulator failed, a file cannot be written, or a film was wanted and there is none.
    """
    try:
        file = (folders.checkpoint_at(wanted.checkpoint) if wanted.checkpoint else newest(wanted.task)).absolute()
    except OSError as error:
        raise BadInput(f"{error.filename} cannot be read: {error.strerror}") from None
    try:
        _play(file, wanted, terminal)
    except OSError as error:
        raise UserError(f"{error.filename or shown(file)}: {error.strerror or error}") from error


def newest(task: str | None) -> Path:
    """The checkpoint with the highest number in the newest run, of a task if one is named, that has any.

    Raises:
        BadInput: there is none.
        OSError: a folder cannot be read.
    """
    others = set()
    for run in reversed(folders.runs()):
        if found := run.checkpoints():
            if task is None:
                return found[-1]
            if not (trained := _trained(found[-1])):
                continue
            simulator = SIMULATORS.get(trained.simulator)
            if trained.task_id == (simulator.aliases.get(task, task) if simulator else task):
                return found[-1]
            others.add(trained.task_id)
    of_task = f" of the task '{task}'" if task else ""
    of_others = f" (only of {', '.join(sorted(others))})" if others else ""
    raise BadInput(
        f"No checkpoint found{of_task} below {folders.ROOT}{of_others}: train first (python -m go1_sweep train), "
        "or name one with --checkpoint"
    )


def _trained(file: Path) -> Trained | None:
    """How it was trained, if that is known."""
    try:
        return finalists.trained(file)
    except BadInput:
        return None


def _play(file: Path, wanted: Wanted, terminal: Terminal) -> None:
    trained = finalists.trained(file, wanted.task)
    simulator = find_simulator(wanted.simulator or trained.simulator, lambda name: wanted.python)
    if wanted.gui:
        require_viewer(simulator)
    settings = simulator_spec(simulator, wanted.python, wanted.physics)
    spec = worker_spec(simulator, settings, wanted.device)
    if wanted.gui:
        spec = dataclasses.replace(spec, stall_timeout=math.inf)  # who watches sees whether it hangs
    seed = wanted.seed if wanted.seed is not None else finalists.evaluation_seeds(0, 1, [trained.seed])[0]
    paths = folders.new_play(file)
    with contextlib.closing(Player(spec, paths.log, gl=gl_of(wanted.gui))) as player:
        _start(player, spec, file, seed, wanted, terminal)
        no_video = ""
        if not wanted.gui:
            _evaluate(player, trained, seed, wanted, paths, terminal)
        if wanted.video:
            no_video = _film(player, trained, seed, wanted, paths, terminal)
        if wanted.gui:
            _view(player, trained, seed, wanted, terminal)
    if no_video:
        raise UserError(f"no video: {no_video}")


def _start(player: Player, spec: WorkerSpec, file: Path, seed: int, wanted: Wanted, terminal: Terminal) -> None:
    try:
        hello = player.start()
    except WorkerFailed as failure:
        raise UserError(str(failure)) from None
    why = why_on_cpu(hello, spec.python, wanted.device)
    device = "the GPU" if hello.device != "cpu" else f"the CPU ({why})" if why else "the CPU"
    version = f"{spec.simulator} {hello.versions.get(spec.simulator, '')}".rstrip()
    length = f"{wanted.steps} steps" if wanted.steps else "no end" if wanted.gui else "an episode in each"
    terminal.playing(shown(file), f"{version}, {device}", f"{wanted.num_envs} envs with seed {seed}, {length}")


def _evaluate(
    player: Player, trained: Trained, seed: int, wanted: Wanted, paths: PlayPaths, terminal: Terminal
) -> None:
    job = protocol.Evaluate(trained.policy, wanted.num_envs, seed, wanted.steps or 0, trajectories="", exam_seconds=0)
    digest = checkpoint.sha256(trained.file)
    answer = _with_bar(player, job, "playing", terminal)
    if not isinstance(answer, protocol.Evaluated):
        raise _refusal(answer)
    evaluation = evaluation_of("", trained.file.name, digest, {seed: answer}, is_exam=False)
    evaluation.save(paths.evaluation(trained.file.stem))
    terminal.played(evaluation, paths.evaluation(trained.file.stem))


def _film(player: Player, trained: Trained, seed: int, wanted: Wanted, paths: PlayPaths, terminal: Terminal) -> str:
    """Film the policy; why there is no film, if so."""
    job = protocol.Film(trained.policy, seed, wanted.video_length, wanted.video_interval, str(paths.video))
    answer = _with_bar(player, job, "filming", terminal)
    if isinstance(answer, protocol.Refused):
        return answer.why
    terminal.filmed(paths.video)
    return ""


def _view(player: Player, trained: Trained, seed: int, wanted: Wanted, terminal: Terminal) -> None:
    """Show the policy until the viewer is closed, or Ctrl-C."""
    is_open = False

    def tell(note: protocol.Note) -> None:
        nonlocal is_open
        if isinstance(note, protocol.Viewing):
            is_open = True
            terminal.viewing(note.address)

    try:
        answer = player.play(
            protocol.View(trained.policy, wanted.num_envs, seed, wanted.steps or 0, viewer_of(wanted.gui)), tell
        )
    except KeyboardInterrupt:
        if not is_open:
            raise
        return
    if isinstance(answer, protocol.Refused):
        raise _refusal(answer)


def _with_bar(player: Player, job: protocol.Job, what: str, terminal: Terminal) -> protocol.Answer:
    with terminal.bar(what) as move:
        return player.play(
            job, lambda note: move(note.done, note.steps) if isinstance(note, protocol.Working) else None
        )


def _refusal(answer: protocol.Answer) -> UserError:
    assert isinstance(answer, protocol.Refused)
    return BadInput(answer.why) if answer.is_bad_input else UserError(answer.why)
