"""``export``: the final stage by itself, for a sweep that is over or for one checkpoint."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import checkpoint, exam, finalists, spec, status
from go1_sweep.errors import BadInput, Interrupted, UserError
from go1_sweep.finalists import Candidate, Seeds
from go1_sweep.paths import PolicyPaths, SweepPaths, TrialPaths, shown
from go1_sweep.spec import FinalSpec, ResourcesSpec, SimulatorSpec, Spec, simulator_spec
from go1_sweep.sweep import final
from go1_sweep.sweep.local_ray import local_ray
from go1_sweep.sweep.slots import slots_for, worker_for
from go1_sweep.terminal import Terminal
from go1_sweep.worker.lookup import find_simulator


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; ``None``: as the sweep had it, or the default.

    Attributes:
        task: to play a checkpoint in, instead of what it was trained on.
        simulator: likewise.
        num_envs: of the exam.
        seeds: how many.
        video: whether to film the winner.
        python: the interpreter that has the simulator.
        physics: of Isaac Lab.
        verify: whether it is a failure where the policy does not do in plain MuJoCo what it did in the exam.
    """

    task: str | None = None
    simulator: str | None = None
    num_envs: int | None = None
    seeds: int | None = None
    video: bool = True
    python: str | None = None
    physics: str | None = None
    verify: bool = False

    def applied_to(self, final: FinalSpec) -> FinalSpec:
        """How the final stage is to be.

        Raises:
            BadInput: the exam cannot have so many envs.
        """
        if self.num_envs is not None:
            try:
                exam.check_envs(self.num_envs)
            except ValueError as error:
                raise BadInput(f"--num_envs: {error}") from None
        changes = {"envs": self.num_envs, "seeds": self.seeds, "video": None if self.video else False}
        changes = {key: value for key, value in changes.items() if value is not None}
        return FinalSpec.model_validate(final.model_dump() | changes)


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        spec: of the sweep that it is of, if any.
        simulator: that the policies play in.
        settings: of the simulator.
        candidates: the best of which is exported.
        final: how they play.
        seeds: of the exam.
    """

    spec: Spec | None
    simulator: str
    settings: SimulatorSpec
    candidates: list[Candidate]
    final: FinalSpec
    seeds: Seeds


def export(target: Path, out: Path, wanted: Wanted, terminal: Terminal) -> None:
    """Play, film and export the best policy of a sweep, or the policy of a checkpoint.

    Args:
        target: a sweep's folder, a checkpoint, or a folder of checkpoints (the newest is taken).
        out: a new or empty folder.
        wanted: see there.
        terminal: hears of each step.

    Raises:
        BadInput: nothing was exported, and ``out`` is as it was.
        Interrupted: Ctrl-C.
        UserError: the policy could not be played or exported, or a file cannot be written.
    """
    source = _source(target, wanted, terminal)
    with (
        _new_folder(out),
        tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch,
        local_ray(scratch, "try again"),
    ):
        # The sweep may have run on another machine: what this one has is what counts.
        stall_timeout = (source.spec.resources if source.spec else ResourcesSpec()).stall_timeout
        resources = ResourcesSpec(stall_timeout=stall_timeout)
        slots = slots_for(resources)
        stage = final.Stage(
            spec=source.final,
            worker=worker_for(source.simulator, source.settings, resources, slots),
            slots=slots,
            seeds=source.seeds,
            folder=PolicyPaths(out),
            log=out / "export.log",
            is_of_run=False,
        )
        try:
            outcome = final.run(stage, source.candidates, terminal)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {shown(out)} is not complete") from None
        except OSError as error:
            raise UserError(f"{error.filename or shown(out)}: {error.strerror or error}") from error
    terminal.exported(stage.folder, outcome)
    if wanted.verify and not (outcome.sim_to_sim and outcome.sim_to_sim.agrees):
        raise UserError(f"--verify: the policy in {shown(out)} was not proven in plain MuJoCo, as is said above")
    if source.spec and source.spec.final.retrain_seeds:
        terminal.note("What trainings with fresh seeds said of the parameters is in the sweep's own result.json")


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[None]:
    """The folder, empty; as it was where the input was bad."""
    try:
        existed = out.exists()
        if existed and any(out.iterdir()):
            raise BadInput(f"--out {shown(out)} is not empty: name a new folder")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {shown(out)} cannot be written: {error.strerror}") from None
    try:
        yield
    except BadInput:
        for path in out.iterdir():
            path.unlink()
        if not existed:
            out.rmdir()
        raise


def _source(target: Path, wanted: Wanted, terminal: Terminal) -> Source:
    try:
        if not target.exists():
            raise BadInput(f"{target}: there is no such file or folder")
        target = target.absolute()
        if SweepPaths(target).spec.exists():
            return _of_sweep(SweepPaths(target), wanted, terminal)
        return _of_checkpoint(_newest(target) if target.is_dir() else target, wanted)
    except OSError as error:
        raise BadInput(f"{target} cannot be read: {error.strerror}") from None


def _of_sweep(paths: SweepPaths, wanted: Wanted, terminal: Terminal) -> Source:
    for flag in ("task", "simulator", "physics"):
        if getattr(wanted, flag) is not None:
            raise BadInput(f"--{flag} is for checkpoints; {shown(paths.folder)} is a sweep, which has its own")
    of = spec.load(paths.spec)
    of = of.model_copy(update={"final": wanted.applied_to(of.final)})
    records = status.read(paths.folder).records
    candidates = finalists.candidates_of(of, paths, records, terminal.note)
    if not candidates:
        raise BadInput(f"{shown(paths.folder)}: no trial has a score and a checkpoint")
    seeds = finalists.exam_seeds(of.search.seed, of.final.seeds, (record.seed for record in records))
    simulator = find_simulator(of.simulator, lambda name: wanted.python or of.python_of(name))
    return Source(of, simulator, _settings(of, simulator, wanted), candidates, of.final, seeds)


def _of_checkpoint(file: Path, wanted: Wanted) -> Source:
    trained = finalists.trained(file, wanted.task)
    digest = checkpoint.sha256(file)
    paths, trial = _sweep_of(file, digest)
    of = spec.load(paths.spec) if paths else None
    python_of = of.python_of if of else lambda name: None
    simulator = find_simulator(wanted.simulator or trained.simulator, lambda name: wanted.python or python_of(name))
    final = wanted.applied_to(of.final if of else FinalSpec())
    seeds = finalists.exam_seeds(of.search.seed if of else 0, final.seeds, [trained.seed])
    origin = {"checkpoint": file.name, **trained.origin}
    if of and trial:
        origin |= {"sweep": of.name, "trial": trial}
    candidate = Candidate(origin.get("trial", ""), trained.policy, digest, origin)
    return Source(of, simulator, _settings(of, simulator, wanted), [candidate], final, seeds)


def _settings(of: Spec | None, simulator: str, wanted: Wanted) -> SimulatorSpec:
    """Of the simulator: those that are named now, or else the sweep's."""
    named = simulator_spec(simulator, wanted.python, wanted.physics)
    return of.of_simulator(simulator).model_copy(update=named.model_dump(exclude_defaults=True)) if of else named


def _sweep_of(file: Path, digest: str) -> tuple[SweepPaths | None, str]:
    """The sweep that the checkpoint is of, and its trial: only one that published this very file counts."""
    folder = TrialPaths(file.parent)
    paths = SweepPaths(file.parent.parent.parent)
    if not paths.spec.exists() or paths.trial(file.parent.name) != folder:
        return None, ""
    published = {(each.file, each.sha256) for each in checkpoint.read_manifest(folder)}
    return (paths, file.parent.name) if (file.name, digest) in published else (None, "")


def _newest(folder: Path) -> Path:
    """The checkpoint with the highest number."""
    found = TrialPaths(folder).checkpoints()
    if not found:
        raise BadInput(f"{shown(folder)} is no sweep (it has no spec.yaml), and holds no checkpoint (model_<n>.pt)")
    return found[-1]
