"""What ``train`` trains: from the command line, a checkpoint, and what the simulator says of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from go1_sweep import protocol
from go1_sweep.errors import BadInput
from go1_sweep.finalists import Trained, trained
from go1_sweep.parameters import Value
from go1_sweep.paths import TrialPaths
from go1_sweep.single_run.folders import ROOT, is_run, runs
from go1_sweep.worker.process import WorkerFailed, WorkerProcess

T = TypeVar("T", protocol.Checked, protocol.Inspected)

TASK, NUM_ENVS, MAX_ITERATIONS, SEED = "rough", 4096, 1500, 42
"""What is trained where nothing else is said; Isaac Lab and mjlab have the same seed in their configurations."""


_PATH_FLAG = "has no effect here: logs/rsl_rl/<the task's experiment>/<time> it is"
_START_FLAG = "use --resume or --checkpoint"
OVERRULED = {
    "env.seed": "use --seed",
    "agent.seed": "use --seed",
    "agent.max_iterations": "use --max_iterations",
    "agent.resume": _START_FLAG,
    "agent.load_run": _START_FLAG,
    "agent.load_checkpoint": _START_FLAG,
    "agent.experiment_name": _PATH_FLAG,
    "agent.run_name": _PATH_FLAG,
    "agent.logger": "has no effect here: TensorBoard it is",
}
"""Entries of the configuration that the command line or the folder decides."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for; ``None``: as the checkpoint's run had it, or the default.

    Attributes:
        task: a short name or a registered id.
        simulator: its name, or ``auto``.
        python: the interpreter that has it.
        physics: of Isaac Lab.
        num_envs: side by side.
        max_iterations: in all, those before a checkpoint included.
        seed: of everything random.
        resume: go on with the newest run of the task.
        checkpoint: go on from this one: a file, or a folder of checkpoints.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        deterministic: see ``protocol.Train``.
        gui: whether to show the training in the simulator's viewer.
        parameters: by neutral name or raw path.
    """

    task: str | None = None
    simulator: str | None = None
    python: str | None = None
    physics: str | None = None
    num_envs: int | None = None
    max_iterations: int | None = None
    seed: int | None = None
    resume: bool = False
    checkpoint: Path | None = None
    device: str = "auto"
    deterministic: bool | None = None
    gui: bool = False
    parameters: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        task_id: in the simulator.
        experiment: that the run belongs to.
        deterministic: see ``protocol.Train``.
        checkpoint: to go on from; ``None``: from the beginning.
        begin: where training stands.
        folder: of the run that goes on; ``None``: a new one.
    """

    task: str
    task_id: str
    experiment: str
    parameters: dict[str, Value]
    seed: int
    max_iterations: int
    deterministic: bool
    checkpoint: Path | None
    begin: protocol.Progress
    folder: TrialPaths | None


class Questions:
    """Asks the worker, before it trains."""

    def __init__(self, worker: WorkerProcess, timeout: float) -> None:
        self._worker = worker
        self._timeout = timeout

    def check(self, task: str, parameters: dict[str, Value]) -> protocol.Checked:
        """The task, and whether it takes the parameters.

        Raises:
            BadInput: it does not exist, or does not take them.
        """
        checked = self._ask(protocol.Check(task, [parameters]), protocol.Checked)
        if problem := checked.error or checked.errors[0]:
            raise BadInput(problem)
        return checked

    def inspect(self, source: Trained) -> protocol.Progress:
        """Where training stood.

        Raises:
            BadInput: it cannot go on from this file.
        """
        inspected = self._ask(protocol.Inspect(source.policy.checkpoint), protocol.Inspected)
        if inspected.error:
            raise BadInput(inspected.error)
        return inspected.progress

    def _ask(self, question: protocol.Message, expected: type[T]) -> T:
        self._worker.send(question)
        answer = self._worker.receive(self._timeout)
        if not isinstance(answer, expected):
            raise WorkerFailed(f"the simulator worker sent {type(answer).__name__}, not {expected.__name__}")
        return answer


def plan(wanted: Wanted, named: Trained | None, ask: Questions, warn: Callable[[str], None]) -> Plan:
    """Decide what is trained, and whether anything keeps it from starting.

    Args:
        wanted: by the command line.
        named: what its checkpoint, if it names one, was trained on.
        ask: the simulator.
        warn: told of checkpoints that are passed over.

    Raises:
        BadInput: no such task, checkpoint or parameter.
    """
    source, begin = named, protocol.Progress()
    if named:
        begin = ask.inspect(named)
    elif wanted.resume:
        source, begin = _newest(ask.check(wanted.task or TASK, {}), ask, warn)
    task = source.policy.task if source else wanted.task or TASK
    parameters: dict[str, Value] = {"num_envs": NUM_ENVS, **(source.policy.parameters if source else {})}
    for name in wanted.parameters:
        if name in OVERRULED:
            raise BadInput(f"--set {name}: {OVERRULED[name]}")
    parameters |= wanted.parameters | ({} if wanted.num_envs is None else {"num_envs": wanted.num_envs})
    checked = ask.check(task, parameters)
    return Plan(
        task=task,
        task_id=checked.task_id,
        experiment=checked.experiment,
        parameters=parameters,
        seed=_first(wanted.seed, source and source.seed, SEED),
        max_iterations=_first(wanted.max_iterations, source and source.max_iterations, MAX_ITERATIONS),
        deterministic=_first(wanted.deterministic, source and source.deterministic, False),
        checkpoint=source and source.file,
        begin=begin,
        folder=_own_folder(source, checked.task_id, wanted) if source else None,
    )


def _newest(
    checked: protocol.Checked, ask: Questions, warn: Callable[[str], None]
) -> tuple[Trained, protocol.Progress]:
    """The highest checkpoint that can be used of the task's newest run that has one."""
    ours = [run for run in runs(checked.experiment) if run.config.exists()]  # rsl_rl's own scripts write none
    for run in reversed(ours):
        for file in reversed(run.checkpoints()):
            try:
                source = trained(file.absolute())
                if source.task_id != checked.task_id:  # flat and rough may be one experiment
                    break
                return source, ask.inspect(source)
            except BadInput as error:
                warn(f"{error}: looking for the one before")
    raise BadInput(
        f"--resume: no checkpoint of {checked.task_id} found in {ROOT / checked.experiment}; "
        "train first, or name one with --checkpoint (one of rsl_rl's own scripts together with --task)"
    )


def _own_folder(source: Trained, task_id: str, wanted: Wanted) -> TrialPaths | None:
    """The folder of the checkpoint's run if training goes on in it.

    It does not where that would overwrite what came after a checkpoint that was named, nor in a sweep.
    """
    folder = TrialPaths(source.file.parent)
    is_last = wanted.checkpoint is None or source.file in folder.checkpoints()[-1:]
    return folder if is_run(folder.folder) and is_last and source.task_id == task_id else None


def _first(*values: Any) -> Any:
    """The first that is not ``None``."""
    return next(value for value in values if value is not None)
