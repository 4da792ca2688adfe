"""``train``: one training in one worker. It goes on from checkpoints, and gives way where memory is short."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from go1_sweep import interrupts, protocol
from go1_sweep.errors import BadInput, Interrupted, UserError
from go1_sweep.finalists import trained
from go1_sweep.paths import TrialPaths, shown
from go1_sweep.single_run.folders import new_run
from go1_sweep.single_run.progress_line import GIB, ProgressLine
from go1_sweep.single_run.single_worker import STALL_TIMEOUT, gl_of, viewer_of, why_on_cpu, worker_spec, working
from go1_sweep.single_run.train_plan import Plan, Questions, Wanted, plan
from go1_sweep.wording import opened_at
from go1_sweep.worker.lookup import find_simulator
from go1_sweep.worker.process import WorkerFailed, WorkerProcess

FEWEST_ENVS = 64
"""Where halving ends: fewer teach PPO next to nothing."""


def train(wanted: Wanted, console: Console) -> None:
    """Train until the last iteration.

    Raises:
        BadInput: no such task, parameter, checkpoint or device; nothing was trained.
        Interrupted: Ctrl-C or SIGTERM; with the command that goes on.
        UserError: training failed.
    """

    def warn(text: str) -> None:
        console.print(f"warning: {text}", markup=False)

    if wanted.checkpoint and not wanted.checkpoint.is_file():
        raise BadInput(f"--checkpoint {wanted.checkpoint}: there is no such file")
    beside = trained(wanted.checkpoint, wanted.task) if wanted.checkpoint else None
    simulator = find_simulator(wanted.simulator or (beside.simulator if beside else "auto"))
    spec = worker_spec(simulator, wanted.device)
    with tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch, interrupts.raising():
        with working(spec, Path(scratch, "worker.log"), gl=gl_of(wanted.gui)) as (worker, hello):
            if why := why_on_cpu(hello, wanted.device):
                warn(f"{why}: training on the CPU, where more than some 32 envs take minutes an iteration")
            if wanted.gui:
                warn("showing the training slows it down: watch a checkpoint with play --gui instead")
            todo = plan(wanted, Questions(worker, spec.stall_timeout), warn)
            if todo.checkpoint and todo.begin.iterations >= todo.max_iterations:
                done = f"{shown(todo.checkpoint)} has {todo.begin.iterations} of {todo.max_iterations} iterations"
                console.print(f"{done}: nothing left to do (--max_iterations is the total)")
                return
            run = _Run(todo, wanted, console)
            run.announce(simulator, hello)
            ended = run.attempt(worker)
        while ended.state == "infeasible":
            run.halve(ended.why)
            with working(spec, run.paths.worker_log, gl=gl_of(wanted.gui)) as (
                worker,
                _,
            ):  # a fresh one: the other held memory
                ended = run.attempt(worker)
    run.conclude(ended)


class _Run:
    """A training and its folder, over as many attempts as memory makes necessary."""

    def __init__(self, todo: Plan, wanted: Wanted, console: Console) -> None:
        self._console = console
        self._device = wanted.device
        self._todo = todo
        self._free: str = ""
        self.paths = todo.folder or _new_folder(todo)
        self._request = protocol.Train(
            trial=self.paths.folder.name,
            folder=str(self.paths.folder.absolute()),
            task=todo.task,
            parameters=todo.parameters,
            seed=todo.seed,
            budget_unit="iterations",
            budget_max=todo.max_iterations,
            checkpoints_at=[],
            metric="",
            window=1,
            checkpoint=str(todo.checkpoint or ""),
            deterministic=wanted.deterministic,
            viewer=viewer_of(wanted.gui),
        )

    def announce(self, simulator: str, hello: protocol.Hello) -> None:
        """Say what is trained, and where everything goes."""
        envs, first = self._request.parameters["num_envs"], self._todo.begin.iterations + 1
        version = f" {hello.versions[simulator]}" if simulator in hello.versions else ""
        self._console.print(f"{self._todo.task_id} on {simulator}{version}, {hello.device}")
        self._console.print(f"  {envs} envs, iterations {first} to {self._todo.max_iterations}, seed {self._todo.seed}")
        if self._todo.checkpoint:
            self._console.print(f"  from {shown(self._todo.checkpoint)}")
        self._console.print(f"  logs in {shown(self.paths.folder)}")

    def attempt(self, worker: WorkerProcess) -> protocol.Ended:
        """Train until there is no more to do, to memory for it, or Ctrl-C."""
        request = self._request

        def stop() -> None:
            self._console.print("stopping after this iteration (Ctrl-C again: at once)")
            worker.send(protocol.Stop(request.trial, save=True))

        line = ProgressLine(self._console, self._todo.max_iterations)
        begin = self._todo.begin
        try:
            with interrupts.twice(stop), line.shown(begin):
                worker.log_to(self.paths.worker_log)
                worker.send(request)
                while not isinstance(message := worker.receive(STALL_TIMEOUT), protocol.Ended):
                    if isinstance(message, protocol.Report):
                        line.report(message)
                        worker.send(protocol.Continue(request.trial))
                    elif isinstance(message, protocol.Started):
                        self._free = _free(message.gpu_memory)
                    elif isinstance(message, protocol.Viewing) and message.address:
                        self._console.print(opened_at(message.address))
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted{self._how_to_go_on()}") from None
        except WorkerFailed as failure:
            raise UserError(f"{failure}; see {shown(self.paths.worker_log)}{self._how_to_go_on()}") from None
        return message

    def halve(self, why: str) -> None:
        """Go on with half the envs.

        Raises:
            UserError: there are too few already.
        """
        envs = int(self._request.parameters["num_envs"])
        if envs <= FEWEST_ENVS:
            raise UserError(f"not even {envs} envs fit: {why}{self._free}")
        fewer = max(FEWEST_ENVS, envs // 2)
        self._console.print(f"warning: {envs} envs do not fit ({why}): going on with {fewer}", markup=False)
        published = self._published()
        self._request = replace(
            self._request,
            parameters={**self._request.parameters, "num_envs": fewer},
            checkpoint=str(published) if published else self._request.checkpoint,
        )

    def conclude(self, ended: protocol.Ended) -> None:
        """Say how it ended.

        Raises:
            BadInput: the checkpoint does not fit.
            Interrupted: by Ctrl-C.
            UserError: it failed.
        """
        if ended.state == "refused":
            if self._todo.folder is None:
                shutil.rmtree(self.paths.folder)
            raise BadInput(ended.why)
        if ended.state == "stopped":
            raise Interrupted(f"stopped after iteration {ended.progress.iterations}{self._how_to_go_on()}")
        if ended.state != "completed":
            raise UserError(f"{ended.why}; see {shown(self.paths.worker_log)}{self._how_to_go_on()}")
        checkpoint = shown(self._published() or self.paths.folder)
        self._console.print(f"Done: {ended.progress.iterations} iterations, {ended.progress.env_steps:,} env steps")
        self._console.print(f"  checkpoint {checkpoint}")
        self._console.print(f"  play it    python -m go1_sweep play --checkpoint {shlex.quote(checkpoint)}")

    def _published(self) -> Path | None:
        found = self.paths.checkpoints()
        return found[-1].absolute() if found else None

    def _how_to_go_on(self) -> str:
        """The command, as the rest of a message."""
        if not (found := self._published()):
            return "; no checkpoint was saved yet"
        device = "" if self._device == "auto" else f" --device {self._device}"
        return f"; go on: python -m go1_sweep train --checkpoint {shlex.quote(shown(found))}{device}"


def _new_folder(todo: Plan) -> TrialPaths:
    """The folder of a new run, with the log of what its checkpoint rests on."""
    try:
        paths = new_run(todo.experiment)
        if todo.checkpoint:
            before = TrialPaths(todo.checkpoint.parent)
            for old, new in ((before.logs, paths.logs), (before.progress, paths.progress)):
                if old.exists():
                    shutil.copyfile(old, new)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}") from None
    return paths


def _free(gpu_memory: list[int]) -> str:
    if not gpu_memory:
        return ""
    used, total = gpu_memory
    return f"; {(total - used) / GIB:.1f} of {total / GIB:.1f} GiB of the GPU's memory were free before"
