"""``train``: one training in one worker. It goes on from checkpoints, and gives way where memory is short."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from go1_sweep import interrupts, lock, protocol
from go1_sweep.checkpoint import read_manifest
from go1_sweep.errors import BadInput, Interrupted, UserError
from go1_sweep.finalists import trained
from go1_sweep.paths import TrialPaths, shown
from go1_sweep.single_run.folders import checkpoint_at, new_run
from go1_sweep.single_run.progress_line import GIB, ProgressLine
from go1_sweep.single_run.single_worker import (
    STALL_TIMEOUT,
    gl_of,
    require_viewer,
    viewer_of,
    why_on_cpu,
    worker_spec,
    working,
)
from go1_sweep.single_run.train_plan import Plan, Questions, Wanted, plan
from go1_sweep.spec import simulator_spec
from go1_sweep.wording import opened_at
from go1_sweep.worker.lookup import find_simulator
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec

FEWEST_ENVS = 64
"""Where halving ends: fewer teach PPO next to nothing."""


def train(wanted: Wanted, console: Console) -> None:
    """Train until the last iteration.

    Raises:
        BadInput: no such task, parameter, checkpoint or device; nothing was trained.
        Interrupted: Ctrl-C or SIGTERM; with the command that goes on.
        UserError: training failed.
    """

    def say(text: str) -> None:
        console.print(text, markup=False)

    try:
        named = trained(checkpoint_at(wanted.checkpoint).absolute(), wanted.task) if wanted.checkpoint else None
        wanted_simulator = wanted.simulator or (named.simulator if named else "auto")
        simulator = find_simulator(wanted_simulator, lambda name: wanted.python)
        if wanted.gui:
            require_viewer(simulator)
        spec = worker_spec(simulator, simulator_spec(simulator, wanted.python, wanted.physics), wanted.device)
        with (
            tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch,
            contextlib.ExitStack() as workers,
        ):
            start = working(spec, Path(scratch, "worker.log"), gl=gl_of(wanted.gui))
            worker, hello = workers.enter_context(start)
            if why := why_on_cpu(hello, spec.python, wanted.device):
                say(f"warning: {why}: training on the CPU, where an iteration of 32 envs takes ten seconds or more")
            if wanted.gui:
                say("warning: showing the training slows it down: watch a checkpoint with play --gui instead")
            questions = Questions(worker, spec.stall_timeout)
            todo = plan(wanted, named, questions, lambda text: say(f"warning: {text}"))
            if todo.checkpoint and todo.begin.iterations >= todo.max_iterations:
                done = f"{shown(todo.checkpoint)} has {todo.begin.iterations} of {todo.max_iterations} iterations"
                say(f"{done}: nothing left to do (--max_iterations is the total)")
                return
            with _opened(todo) as paths:
                run = _Run(paths, todo, wanted, console)
                run.announce(simulator, hello)
                run.train(worker, spec, workers)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror or error}" if error.filename else str(error)) from error


@contextlib.contextmanager
def _opened(todo: Plan) -> Iterator[TrialPaths]:
    """The run's folder, which is ours alone as long as it is entered.

    Raises:
        BadInput: somebody else trains there.
        OSError: it cannot be written.
    """
    paths = todo.folder or _new_folder(todo)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock.held(paths.lock, slots=1))
        except BlockingIOError:
            owner = lock.driver(paths.lock)
            who = f" by process {owner.pid} on {owner.host}" if owner else ""
            raise BadInput(f"{shown(paths.folder)} is being trained{who}; wait for its end, or stop it") from None
        paths.worker_log.touch()
        yield paths


class _Run:
    """A training in its folder, over as many attempts as memory makes necessary."""

    def __init__(self, paths: TrialPaths, todo: Plan, wanted: Wanted, console: Console) -> None:
        self._console = console
        self._wanted = wanted
        self._todo = todo
        self._paths = paths
        self._begin = todo.begin
        self._free: str = ""
        self._worker: WorkerProcess | None = None
        self._is_stopping = False
        self._request = protocol.Train(
            trial=paths.folder.name,
            folder=str(paths.folder.absolute()),
            task=todo.task,
            parameters=todo.parameters,
            seed=todo.seed,
            budget_unit="iterations",
            budget_max=todo.max_iterations,
            checkpoints_at=[],
            metric="",
            window=1,
            checkpoint=str(todo.checkpoint or ""),
            deterministic=todo.deterministic,
            viewer=viewer_of(wanted.gui),
        )

    def announce(self, simulator: str, hello: protocol.Hello) -> None:
        """Say what is trained, and where everything goes."""
        envs, first = self._request.parameters["num_envs"], self._begin.iterations + 1
        version = f" {hello.versions[simulator]}" if simulator in hello.versions else ""
        self._say(f"{self._todo.task_id} on {simulator}{version}, {hello.device}")
        self._say(f"  {envs} envs, iterations {first} to {self._todo.max_iterations}, seed {self._todo.seed}")
        if self._todo.checkpoint:
            self._say(f"  from {shown(self._todo.checkpoint)}")
        self._say(f"  logs in {shown(self._paths.folder)}")

    def train(self, worker: WorkerProcess, spec: WorkerSpec, workers: contextlib.ExitStack) -> None:
        """Train, and say how it ended.

        Args:
            worker: the first one, which is among ``workers``.
            spec: of those that follow it: where memory did not suffice, a fresh one holds none.
            workers: those that are to be ended.

        Raises:
            BadInput: the checkpoint does not fit.
            Interrupted: by Ctrl-C.
            UserError: it failed.
        """

        def say() -> None:
            self._say("stopping after this iteration (Ctrl-C again: at once)")

        try:
            with interrupts.twice(self._stop, say):
                ended = self._attempt(worker)
                while ended.state == "infeasible" and not self._is_stopping:
                    workers.close()
                    if self._num_envs <= FEWEST_ENVS:
                        raise UserError(f"not even {self._num_envs} envs fit: {ended.why}{self._what_fits(spec)}")
                    self._halve(ended.why)
                    start = working(spec, self._paths.worker_log, gl=gl_of(self._wanted.gui))
                    ended = self._attempt(workers.enter_context(start)[0])
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted{self._how_to_go_on()}") from None
        except (WorkerFailed, UserError) as failure:
            if self._is_stopping:  # Ctrl-C also kills a worker that is just being started
                raise Interrupted(f"interrupted{self._how_to_go_on()}") from None
            if isinstance(failure, UserError):
                raise
            raise UserError(f"{failure}; see {shown(self._paths.worker_log)}{self._how_to_go_on()}") from None
        self._conclude(ended)

    def _stop(self) -> None:
        self._is_stopping = True
        if self._worker:
            self._worker.send(protocol.Stop(self._request.trial, save=True))

    @property
    def _num_envs(self) -> int:
        return int(self._request.parameters["num_envs"])

    def _attempt(self, worker: WorkerProcess) -> protocol.Ended:
        """Train until there is no more to do, no more memory for it, or Ctrl-C."""
        line, waits = ProgressLine(self._console, self._todo.max_iterations), False
        worker.log_to(self._paths.worker_log)
        worker.send(self._request)
        self._worker = worker
        if self._is_stopping:  # before there was one to be told
            worker.send(protocol.Stop(self._request.trial, save=True))
        with line.shown(self._begin):
            while not isinstance(message := worker.receive(STALL_TIMEOUT), protocol.Ended):
                if isinstance(message, protocol.Report):
                    line.report(message)
                    waits = False
                    worker.send(protocol.Continue(self._request.trial))
                elif isinstance(message, protocol.Waiting):
                    if not waits:
                        self._say("warning: the disk is full: waiting for room")
                    waits = True
                elif isinstance(message, protocol.Started):
                    self._free = _free(message.gpu_memory)
                elif isinstance(message, protocol.Viewing) and message.address:
                    self._say(opened_at(message.address))
        self._worker = None
        return message

    def _halve(self, why: str) -> None:
        """Go on with half the envs."""
        envs, fewer = self._num_envs, max(FEWEST_ENVS, self._num_envs // 2)
        if published := read_manifest(self._paths):
            self._begin = published[-1].progress
            self._request = replace(self._request, checkpoint=str(self._paths.folder.absolute() / published[-1].file))
        self._request = replace(self._request, parameters={**self._request.parameters, "num_envs": fewer})
        since = f" after iteration {self._begin.iterations}" if self._begin.iterations else ""
        self._say(f"warning: {envs} envs do not fit ({why}): going on with {fewer}{since}")

    def _what_fits(self, spec: WorkerSpec) -> str:
        """How many envs can be trained for an iteration, and what memory there was; the rest of a message."""
        self._say("trying fewer envs, to say how many would fit")
        envs = self._num_envs // 2
        while envs and not self._is_stopping:
            parameters = {**self._request.parameters, "num_envs": envs}
            with (
                tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch,
                working(spec, Path(scratch, "worker.log")) as (worker, _),
            ):
                worker.send(replace(self._request, folder=scratch, parameters=parameters, budget_max=1, checkpoint=""))
                while not isinstance(message := worker.receive(STALL_TIMEOUT), protocol.Ended):
                    pass
            if message.state == "completed":
                return f"{self._free}; {envs} would fit (--num_envs {envs}), which teach PPO next to nothing"
            envs //= 2
        return self._free

    def _conclude(self, ended: protocol.Ended) -> None:
        if ended.state == "refused":
            if self._todo.folder is None:
                shutil.rmtree(self._paths.folder)
            raise BadInput(ended.why)
        if ended.state == "stopped" or (self._is_stopping and ended.state == "infeasible"):
            raise Interrupted(f"stopped after iteration {ended.progress.iterations}{self._how_to_go_on()}")
        if ended.state != "completed":
            raise UserError(f"{ended.why}; see {shown(self._paths.worker_log)}{self._how_to_go_on()}")
        checkpoint = shown(self._published() or self._paths.folder)
        self._say(f"Done: {ended.progress.iterations} iterations, {ended.progress.env_steps:,} env steps")
        self._say(f"  checkpoint {checkpoint}")
        flags = self._flags("python", "physics")
        self._say(f"  play it    python -m go1_sweep play --checkpoint {shlex.quote(checkpoint)}{flags}")

    def _published(self) -> Path | None:
        found = self._paths.checkpoints()
        return found[-1].absolute() if found else None

    def _how_to_go_on(self) -> str:
        """The command, as the rest of a message."""
        if not (found := self._published()):
            return "; no checkpoint was saved yet"
        flags = self._flags("python", "physics", "device")
        return f"; go on: python -m go1_sweep train --checkpoint {shlex.quote(shown(found))}{flags}"

    def _flags(self, *names: str) -> str:
        """Those of the command line that are no part of the run."""
        given = {name: getattr(self._wanted, name) for name in names}
        return "".join(
            f" --{name} {shlex.quote(value)}" for name, value in given.items() if value not in (None, "auto")
        )

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _new_folder(todo: Plan) -> TrialPaths:
    """The folder of a new run, with the log of what its checkpoint rests on."""
    paths = new_run(todo.experiment)
    if todo.checkpoint:
        before = TrialPaths(todo.checkpoint.parent)
        for old, new in ((before.logs, paths.logs), (before.progress, paths.progress)):
            if old.exists():
                shutil.copyfile(old, new)
    return paths


def _free(gpu_memory: list[int]) -> str:
    if not gpu_memory:
        return ""
    used, total = gpu_memory
    return f"; {(total - used) / GIB:.1f} of {total / GIB:.1f} GiB of the GPU's memory were free before"
