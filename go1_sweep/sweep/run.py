"""Runs a sweep: checks it, starts Ray, lets Tune place the trials, writes the result."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from optuna.exceptions import StorageInternalError
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from sqlalchemy.exc import SQLAlchemyError

from go1_sweep import interrupts, lock, protocol, timeline, turn
from go1_sweep.columns import column
from go1_sweep.errors import Interrupted, NoTrialSucceeded, UserError, one_line
from go1_sweep.finalists import Retrained, candidates_of, retrained
from go1_sweep.paths import SweepPaths, shown
from go1_sweep.report import page as report
from go1_sweep.report.refresh import refreshed
from go1_sweep.spec import Spec
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.sweep import final, results, resume, tensorboard
from go1_sweep.sweep.cluster import check_nodes, checked, gpus_of_others, joined
from go1_sweep.sweep.local_ray import local_ray
from go1_sweep.sweep.mps import EACH_NODE_NEEDS_MPS, mps
from go1_sweep.sweep.preflight import Preflight, asking, with_simulator
from go1_sweep.sweep.slots import Slots, counting, mixed_gpus, slots_for, worker_for
from go1_sweep.sweep.trainable import TrialActor
from go1_sweep.sweep.trials import Retrainings, Trainings, Trials
from go1_sweep.sweep.tune_adapters import Trouble, TuneEvents, TuneScheduler, TuneSearcher
from go1_sweep.terminal import Plan, Terminal
from go1_sweep.tracking import follower
from go1_sweep.trials_table import INTERRUPTED, TrialRecord
from go1_sweep.wording import export_command, report_command, resume_command, title


def run(spec: Spec, terminal: Terminal, *, dry_run: bool = False, address: str | None = None) -> None:
    """Run the sweep, or go on with it; returns when it has a winner, and that is judged, filmed and exported.

    Args:
        spec: of the sweep.
        terminal: hears of each step.
        dry_run: only check it, and say what it would take.
        address: of a Ray cluster; ``None``: this machine alone.

    Raises:
        BadInput: nothing was started, and nothing is left behind.
        NoTrialSucceeded: all trials failed or were infeasible; their folders say why.
        Interrupted: Ctrl-C; each trial ended at its next report, or at once at the second.
        UserError: the results could not be written, or no finalist could be played.
    """
    before, warnings = resume.earlier(spec), follower.warnings(spec)
    go_on = resume_command(spec.folder, address, os.environ.get(lock.RESUME))
    with contextlib.ExitStack() as storage:
        with (
            tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch,
            _ray(spec, terminal, Path(scratch), address, go_on, is_for_trials=not dry_run) as (spec, preflight),
        ):
            slots = slots_for(spec.resources)
            resources = spec.resources.model_copy(update={"gpus": slots.gpus})
            spec = spec.model_copy(update={"resources": resources})
            if before:
                resume.refuse_changes(before, spec)
                if resume.is_done(before, spec):
                    terminal.note(f"{shown(spec.folder)} is finished; for more trials: {go_on} --trials N")
                    return
            terminal.plan(Plan(spec, preflight.task_id, preflight.versions, slots.count, slots.gpus))
            paths, versions = SweepPaths(spec.folder), results.packages(preflight)
            warnings += [*mixed_gpus(spec, slots), *resume.other_versions(paths, versions)]
            for warning in [*preflight.warnings, *warnings]:
                terminal.warn(warning)
            if dry_run:
                return
            if not before:
                results.make_folder(spec)
            gpus = _check_nodes(paths, slots, is_new=not before) if address else {platform.node(): results.gpu_names()}
            try:
                with lock.held(paths.lock, slots.count, resume.done_before(spec), address):
                    storage.enter_context(sweep_copy.kept(paths.folder, terminal.note))
                    earlier = results.reopen(paths, spec) if before else {}
                    results.write_environment(paths, preflight, gpus)
                    with refreshed(paths.folder), follower.followed(spec, paths, terminal.note):
                        ended = _run(spec, paths, slots, preflight.versions, terminal, scratch, go_on, earlier)
                    if address and (others := gpus_of_others(slots, gpus)):
                        results.write_environment(paths, preflight, gpus | others)
            except BlockingIOError:
                raise resume.runs_already(paths) from None
            except OSError as error:
                raise UserError(f"{error.filename or shown(paths.folder)}: {error.strerror or error}") from error
            except (StorageInternalError, SQLAlchemyError) as error:
                reason = " ".join(str(error.__cause__ or error).split())
                raise UserError(f"{shown(paths.study)} cannot be used: {reason}") from error
        _report(paths, terminal)  # says that the sweep is over, which it is when the lock is open
    if ended is not None:
        raise ended


def _check_nodes(paths: SweepPaths, slots: Slots, *, is_new: bool) -> dict[str, list[str]]:
    """Look at them; where they cannot be used, a new sweep leaves nothing behind. Gives each host's GPUs."""
    try:
        return check_nodes(paths.folder, slots)
    except BaseException:
        if is_new:
            sweep_copy.remove(paths.folder)
        raise


@contextlib.contextmanager
def _ray(
    spec: Spec, terminal: Terminal, scratch: Path, address: str | None, go_on: str, *, is_for_trials: bool
) -> Iterator[tuple[Spec, Preflight]]:
    """A Ray of our own, or the cluster at an address; with the simulator that is there, and what that says."""
    if address:
        with joined(address, f"go on: {go_on}") as dashboard:
            if dashboard:
                terminal.note(f"Ray's dashboard: http://{dashboard}, on its head")
            if spec.resources.shares_gpus:
                terminal.warn(EACH_NODE_NEEDS_MPS)
            yield checked(spec, terminal.note)
        return
    spec = with_simulator(spec)
    shares, python = spec.resources.shares_gpus and is_for_trials, spec.of_simulator(spec.simulator).python
    with (
        asking(spec) as answer,  # the simulator starts while Ray does
        mps(scratch, python, terminal.warn) if shares else contextlib.nullcontext({}) as variables,
        local_ray(str(scratch), f"go on: {go_on}", variables),
    ):
        yield spec, answer()


def _report(paths: SweepPaths, terminal: Terminal) -> None:
    """Write the page; a sweep does not fail for want of what can be made again."""
    try:
        terminal.note(f"All of it on one page: {shown(report.write(paths.folder))}")
    except Exception as error:
        why = getattr(error, "strerror", None) or one_line(error)
        terminal.note(f"no {paths.report.name}: {why}; later: {report_command(paths.folder)}")


def _run(
    spec: Spec,
    paths: SweepPaths,
    slots: Slots,
    versions: dict[str, str],
    terminal: Terminal,
    scratch: str,
    go_on: str,
    earlier: dict[str, float],
) -> UserError | None:
    """Trials, final stage and ``result.json``; how the sweep ended, unless well, and that ``go_on`` lets it go on.

    ``earlier``: seconds that it took before it was resumed.
    """
    began = time.monotonic()
    outcome, ended, phase = None, None, "finished"
    trials = _run_trials(spec, paths, slots, terminal, scratch)
    records, trained = list(trials.records.values()), time.monotonic()
    so_far = export_command(paths.folder)
    if trials.is_interrupted:
        how = f"go on: {go_on}; for the best policy so far: {so_far}"
        ended, phase = Interrupted(f"interrupted; {how}"), "interrupted"
    elif not any(record.state == "completed" for record in records):
        where = f"{shown(paths.trials_table)} and the worker.log of each trial"
        ended, phase = NoTrialSucceeded(f"no trial succeeded; see {where}"), "failed"
    else:
        try:
            candidates = candidates_of(spec, paths, records, terminal.note)
            stage = final.stage_of(spec, paths, records, slots, versions)
            outcome = final.run(stage, candidates, terminal)
            if spec.final.retrain_seeds and outcome.beside:
                both = [trials.records[each.trial] for each in (outcome.winner, outcome.beside)]
                ours, theirs = _train_again(spec, paths, both, slots, terminal, scratch)
                outcome = final.judge_parameters(stage, outcome, ours, theirs, terminal)
        except KeyboardInterrupt:
            ended, phase = Interrupted(f"interrupted in the final stage; go on: {go_on}"), "interrupted"
        except UserError as error:
            ended, phase = UserError(f"{error}; when that is mended: {go_on}"), "failed"
    now = time.monotonic()
    seconds = {"wall": now - began, "final": now - trained, "evaluation": outcome.player_seconds if outcome else 0.0}
    seconds = timeline.added(earlier, seconds)
    result = results.write_result(paths, spec, records, outcome, phase, str(ended or ""), seconds, trials.insight())
    filmed = trials.records[outcome.winner.trial] if outcome and not outcome.no_video else None
    _show_in_tensorboard(spec, paths, records, filmed, terminal)
    terminal.result(paths, result, outcome)
    return ended


def _show_in_tensorboard(
    spec: Spec, paths: SweepPaths, records: list[TrialRecord], filmed: TrialRecord | None, terminal: Terminal
) -> None:
    """What is not there yet; a sweep does not fail for it."""
    try:
        tensorboard.write_missing(spec, paths, records)
        if filmed:
            tensorboard.write_winner(paths, filmed)
    except Exception as error:  # whatever a decoder raises
        terminal.note(f"not all of it in TensorBoard: {one_line(error)}")


def _run_trials(spec: Spec, paths: SweepPaths, slots: Slots, terminal: Terminal, scratch: str) -> Trials:
    """Run all trials; returns when each is over, or when the user interrupts."""
    trials = Trials(spec, paths, terminal)
    if trials.records:
        over = sum(record.state != "interrupted" for record in trials.records.values())
        terminal.note(f"Going on: trials that are over: {over}, interrupted: {len(trials.records) - over}")
    with terminal.live(spec, trials.records, slots.count):
        _run_trainings(spec, trials, slots, terminal, scratch)
    return trials


def _run_trainings(spec: Spec, trainings: Trainings, slots: Slots, terminal: Terminal, scratch: str) -> None:
    """Run all of them; returns when each is over, or when the user interrupts."""
    if trainings.is_exhausted:  # before the sweep was resumed
        return

    def say() -> None:
        terminal.note("Stopping: each trial ends with its current iteration. Ctrl-C again ends them at once.")

    try:
        with interrupts.twice(trainings.interrupt, say):
            _fit(spec, trainings, slots, scratch)
    except KeyboardInterrupt:
        trainings.interrupt()  # the second may have come in the middle of the first
    except Exception as error:
        with contextlib.suppress(OSError, StorageInternalError, SQLAlchemyError):
            trainings.abandon(f"the sweep ended with {type(error).__name__}")
        raise
    trainings.abandon(INTERRUPTED)
    object_store.waited_for(lambda: sweep_copy.refresh(trainings.paths.folder))


def _train_again(
    spec: Spec, paths: SweepPaths, trials: list[TrialRecord], slots: Slots, terminal: Terminal, scratch: str
) -> list[Retrained]:
    """Train each of the trials again with fresh seeds; what came of each.

    Raises:
        KeyboardInterrupt: by the user.
    """
    again = Retrainings(spec, paths, terminal, trials)
    paths.retrained.trials.mkdir(parents=True, exist_ok=True)
    names = " and ".join(title(trial.trial) for trial in trials)
    terminal.note(f"Training {names} again, with {spec.final.retrain_seeds} seeds each")
    _run_trainings(spec, again, slots, terminal, scratch)
    if again.is_interrupted:
        raise KeyboardInterrupt
    return [retrained(spec, paths.retrained, again.of(trial.trial), terminal.note) for trial in trials]


def _fit(spec: Spec, trainings: Trainings, slots: Slots, scratch: str) -> None:
    def request(record: TrialRecord) -> protocol.Train:
        return _request(spec, trainings, record)

    worker = worker_for(spec.simulator, spec.of_simulator(spec.simulator), spec.resources, slots)
    trouble, now = Trouble(), counting(spec.resources, trainings.note)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(2**16)  # the searcher says how many, and all start at once
    tune.Tuner(
        tune.with_resources(TrialActor, {"cpu": slots.cpus, "gpu": slots.gpus, **slots.place}),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the searcher says that it has no more
            search_alg=TuneSearcher(trainings, trouble, request, worker, now, sweep_copy.Draws(spec.folder)),
            scheduler=TuneScheduler(trainings, trouble),
            reuse_actors=spec.resources.reuse_workers,
        ),
        run_config=RunConfig(
            name=trainings.paths.folder.name,
            storage_path=scratch,
            verbose=0,
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=spec.resources.retries),
            callbacks=[TuneEvents(trainings, trouble, now)],
        ),
    ).fit()
    trouble.raise_again()


def _request(spec: Spec, trainings: Trainings, record: TrialRecord) -> protocol.Train:
    stopping, paths = spec.early_stopping, trainings.paths
    return protocol.Train(
        trial=record.trial,
        folder=str(paths.trial(record.trial).folder),
        task=spec.task,
        parameters=record.parameters,
        seed=record.seed,
        budget_unit=spec.budget.unit,
        budget_max=spec.budget.max,
        checkpoints_at=list(map(float, spec.rungs())),
        metric=column(stopping.metric),
        window=stopping.window,
        keep_checkpoints=spec.resources.keep_checkpoints or 0,
        mode=stopping.mode,
        turn=turn.last(paths.trial(record.trial)) + 1 + trainings.losses(record.trial),
    )
