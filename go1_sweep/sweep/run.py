"""Runs a sweep: checks it, starts Ray, lets Tune place the trials, writes the result."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Read when Ray is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # Tune's own CSV, JSON and TensorBoard files
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours ends the trials with their states
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own banner
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would train with the least CPU priority

import ray
from optuna.exceptions import StorageInternalError
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from sqlalchemy.exc import SQLAlchemyError

from go1_sweep import protocol
from go1_sweep.errors import BadInput, Interrupted, NoTrialSucceeded, UserError
from go1_sweep.paths import SweepPaths, shown
from go1_sweep.spec import Spec
from go1_sweep.sweep import results
from go1_sweep.sweep.preflight import check
from go1_sweep.sweep.trainable import TrialActor, WorkerSpec
from go1_sweep.sweep.trials import INTERRUPTED, TrialRecord, Trials
from go1_sweep.sweep.tune_adapters import Trouble, TuneEvents, TuneScheduler, TuneSearcher
from go1_sweep.terminal import Plan, Terminal

OBJECT_STORE_BYTES = 100 * 1024 * 1024
"""A sweep puts next to nothing into Ray's object store; the default takes 30% of the memory."""


@dataclass(frozen=True)
class Slots:
    """What a trial holds, and how many run side by side."""

    count: int
    gpus: int
    cpus: int


def run(spec: Spec, terminal: Terminal, *, dry_run: bool = False) -> None:
    """Run the sweep; returns when it has a winner.

    Raises:
        BadInput: nothing was started, and nothing is left behind.
        NoTrialSucceeded: all trials failed or were infeasible; their folders say why.
        Interrupted: Ctrl-C; each trial ended at its next report, or at once at the second.
        UserError: the results could not be written.
    """
    if spec.folder.exists():
        raise results.exists_already(spec)
    preflight = check(spec)
    with tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch, _ray(scratch):
        slots = _slots(preflight.spec)
        resources = preflight.spec.resources.model_copy(update={"gpus": slots.gpus})
        spec = preflight.spec.model_copy(update={"resources": resources})
        terminal.plan(Plan(spec, preflight.task_id, preflight.versions, slots.count, slots.gpus))
        if dry_run:
            return
        paths = results.make_folder(spec)
        try:
            started = time.monotonic()
            results.write_environment(paths, preflight)
            trials = _run_trials(spec, paths, slots, terminal, scratch)
            result = results.write_result(paths, spec, trials, time.monotonic() - started)
        except OSError as error:
            raise UserError(f"{error.filename or shown(paths.folder)}: {error.strerror or error}") from error
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"{shown(paths.study)} cannot be written: {reason}") from error
    terminal.result(paths, result)
    if trials.is_interrupted:
        raise Interrupted(f"interrupted; what was done is in {shown(paths.folder)}")
    if result["winner"] is None:
        raise NoTrialSucceeded(f"no trial succeeded; see {shown(paths.trials_table)} and the worker.log of each trial")


@contextlib.contextmanager
def _ray(scratch: str) -> Iterator[None]:
    """A Ray of our own on this machine, whatever cluster may be running.

    The actors' temporary files go to the scratch folder: some packages leave theirs behind.
    """
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
        object_store_memory=OBJECT_STORE_BYTES,
        runtime_env={"env_vars": {"TMPDIR": scratch}},
    )
    # What Ray and Tune log of a lost actor names things that are in none of our files; we say it ourselves.
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _slots(spec: Spec) -> Slots:
    """How many trials fit, by what the machine has.

    Raises:
        BadInput: not even one fits.
    """
    total, wanted = ray.cluster_resources(), spec.resources
    have_gpus, have_cpus = int(total.get("GPU", 0)), int(total.get("CPU", 0))
    gpus = (1 if have_gpus else 0) if wanted.gpus == "auto" else wanted.gpus
    if gpus > have_gpus:
        raise BadInput(
            f"resources.gpus: each trial wants {gpus} GPU, and none was found on this machine; "
            "set it to 0 to train on the CPU (--set resources.gpus=0)"
        )
    if wanted.cpus > have_cpus:
        raise BadInput(f"resources.cpus: each trial wants {wanted.cpus} CPUs, and this machine has {have_cpus}")
    fit = min(have_cpus // wanted.cpus, have_gpus // gpus if gpus else have_cpus)
    return Slots(min(fit, wanted.concurrent or fit), gpus, wanted.cpus)


def _run_trials(spec: Spec, paths: SweepPaths, slots: Slots, terminal: Terminal, scratch: str) -> Trials:
    """Run all trials; returns when each is over, or when the user interrupts."""
    trials = Trials(spec, paths, terminal)
    try:
        with contextlib.suppress(KeyboardInterrupt), _interruptible(trials, terminal):
            _fit(spec, paths, trials, slots, scratch)
    except Exception as error:
        with contextlib.suppress(OSError, StorageInternalError, SQLAlchemyError):
            trials.abandon(f"the sweep ended with {type(error).__name__}")
        raise
    trials.abandon(INTERRUPTED)
    return trials


def _fit(spec: Spec, paths: SweepPaths, trials: Trials, slots: Slots, scratch: str) -> None:
    def request(record: TrialRecord) -> protocol.Train:
        return _request(spec, paths, record)

    resources = spec.resources
    worker = WorkerSpec(
        simulator=spec.simulator,
        python=spec.python,
        device="cuda:0" if slots.gpus else "cpu",
        threads=slots.cpus,
        stall_timeout=resources.stall_timeout,
    )
    trouble = Trouble()
    tune.Tuner(
        tune.with_resources(TrialActor, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the searcher says that it has no more
            search_alg=TuneSearcher(trials, trouble, slots.count, request, worker),
            scheduler=TuneScheduler(trials, trouble),
            reuse_actors=resources.reuse_workers,
        ),
        run_config=RunConfig(
            name=spec.name,
            storage_path=scratch,
            verbose=0,
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=0),
            callbacks=[TuneEvents(trials, trouble)],
        ),
    ).fit()
    trouble.raise_again()


def _request(spec: Spec, paths: SweepPaths, record: TrialRecord) -> protocol.Train:
    stopping = spec.early_stopping
    return protocol.Train(
        trial=record.trial,
        folder=str(paths.trial(record.trial).folder),
        task=spec.task,
        parameters=record.parameters,
        seed=record.seed,
        budget_unit=spec.budget.unit,
        budget_max=spec.budget.max,
        checkpoints_at=list(map(float, spec.rungs())),
        metric=stopping.metric,
        window=stopping.window,
    )


@contextlib.contextmanager
def _interruptible(trials: Trials, terminal: Terminal) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets each trial end its iteration; the second ends the sweep at once."""

    def first(signum: int, frame: Any) -> None:
        for number in numbers:  # at once: the second may come before this is done
            signal.signal(number, second)
        trials.interrupt()
        terminal.note("Stopping: each trial ends with its current iteration. Ctrl-C again ends them at once.")

    def second(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, first) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
