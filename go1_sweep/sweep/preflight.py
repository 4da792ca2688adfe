"""What only the simulator can say of a sweep file, asked before anything starts."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import protocol
from go1_sweep.errors import BadInput
from go1_sweep.parameters import Value
from go1_sweep.spec import Spec
from go1_sweep.spec_warnings import warnings
from go1_sweep.worker.lookup import find_simulator
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec


@dataclass(frozen=True)
class Preflight:
    """What the simulator answered.

    Attributes:
        task_id: the id that the task has in the simulator.
        versions: of the simulator and what it rests on.
        warnings: about what the spec hardly means.
    """

    task_id: str
    versions: dict[str, str]
    warnings: list[str]


def with_simulator(spec: Spec) -> Spec:
    """The spec with the simulator that is there, if it says ``auto``.

    Raises:
        BadInput: there is none, or not the one that is named.
    """
    return spec.model_copy(update={"simulator": find_simulator(spec.simulator, spec.python_of)})


def check(spec: Spec) -> Preflight:
    """Ask, and wait for the answer.

    Raises:
        BadInput: see ``asking``.
    """
    with asking(spec) as answer:
        return answer()


@contextlib.contextmanager
def asking(spec: Spec) -> Iterator[Callable[[], Preflight]]:
    """Ask the simulator for the task, and whether it takes every parameter, at both ends of its range.

    It imports its packages for seconds, during which something else can be done; what is yielded waits for its answer.

    Args:
        spec: with the simulator found.

    Raises:
        BadInput: no such task, or a parameter that the task's configuration refuses; the simulator does not start.
    """
    settings, timeout = spec.of_simulator(spec.simulator), spec.resources.stall_timeout
    with contextlib.ExitStack() as until_the_answer:
        folder = until_the_answer.enter_context(tempfile.TemporaryDirectory(prefix="go1_sweep-"))
        try:
            worker = WorkerSpec(spec.simulator, settings.python, "cpu", 1, timeout, settings.launch).start(
                Path(folder, "worker.log")
            )
        except WorkerFailed as failure:
            raise BadInput(str(failure)) from None
        until_the_answer.enter_context(contextlib.closing(worker))

        def answer() -> Preflight:
            with until_the_answer:
                return _answer(spec, worker)

        yield answer


def _answer(spec: Spec, worker: WorkerProcess) -> Preflight:
    settings, timeout = _settings(spec), spec.resources.stall_timeout
    try:
        hello = worker.greeted(timeout)
        worker.send(protocol.Check(spec.task, [setting for _, setting in settings]))
        checked = worker.receive(timeout)
        if not isinstance(checked, protocol.Checked):
            raise WorkerFailed(f"the simulator worker answered {checked}")
    except WorkerFailed as failure:
        raise BadInput(f"the simulator {spec.simulator} does not start: {failure}{worker.last_words()}") from None
    if checked.error:
        raise BadInput(f"task: {checked.error}")
    for (where, _), error in zip(settings, checked.errors, strict=True):
        if error:
            raise BadInput(f"{where}: {error} (task {checked.task_id})")
    return Preflight(checked.task_id, hello.versions, warnings(spec, checked.defaults))


def _settings(spec: Spec) -> list[tuple[str, dict[str, Value]]]:
    """What is tried on the task's configuration, each by itself and together, and where it stands in the file."""
    settings = [("search.fixed." + name, {name: value}) for name, value in spec.search.fixed.items()]
    settings += [("baseline." + name, {name: value}) for name, value in (spec.baseline or {}).items()]
    for name, dimension in spec.space.items():
        where = "search.parameters." + name
        settings += [(where, {name: value}) for value in dimension.distribution.extremes()]
    always = {name: each.distribution.extremes()[0] for name, each in spec.space.items() if not each.when}
    return [*settings, ("search", {**spec.search.fixed, **always})]
