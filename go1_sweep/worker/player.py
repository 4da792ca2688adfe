"""Does jobs with trained policies in a worker: plays, films, exports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from go1_sweep import protocol
from go1_sweep.errors import one_line
from go1_sweep.simulators import SIMULATORS
from go1_sweep.worker.probing import probe
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec


def unheard(note: protocol.Note) -> None:
    """Nobody is told how far a job is."""


class Player:
    """One worker that does one job after the other, and stays warm between them."""

    def __init__(self, spec: WorkerSpec, log: Path, *, gl: str = "disable") -> None:
        """Start nothing yet; ``gl`` is MuJoCo's OpenGL, as in ``worker_environment``, for all jobs but films."""
        self._spec = spec
        self._log = log
        self._gl = gl
        self._worker: WorkerProcess | None = None

    def play(self, job: protocol.Job, tell: Callable[[protocol.Note], None] = unheard) -> protocol.Answer:
        """Do the job; whatever goes wrong is a ``Refused``.

        Where its worker fails, a fresh one tries, but for films: what crashes in GL does so again.

        Args:
            job: what.
            tell: hears how far it is.
        """
        retries = 0 if isinstance(job, protocol.Film) else self._spec.retries
        while True:
            try:
                return self._film(job, tell) if isinstance(job, protocol.Film) else self._do(job, tell, self._gl)
            except WorkerFailed as failure:
                if not retries:
                    return protocol.Refused(f"{failure}; see {self._log}")
                retries -= 1
                self._say(f"{failure}: a new one tries")
            except Exception as error:  # a raise would say less than a line does
                return protocol.Refused(one_line(error))

    def start(self) -> protocol.Hello:
        """Start the worker, before its first job; what it said of itself.

        Raises:
            WorkerFailed: it cannot be started, or it ended at once.
        """
        return self._start(self._gl)[1]

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            for left in self._worker.close():
                self._say(left)
            self._worker = None

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError), open(self._log, "a") as log:
            log.write(f"[go1_sweep] {text}\n")

    def _start(self, gl: str) -> tuple[WorkerProcess, protocol.Hello]:
        self._worker = worker = self._spec.start(self._log, gl=gl)
        return worker, worker.greeted(self._spec.stall_timeout)

    def _do(self, job: protocol.Job, tell: Callable[[protocol.Note], None], gl: str) -> protocol.Answer:
        """Do the job in the worker, which ends when that fails: what it holds is not to be trusted."""
        try:
            worker = self._worker or self._start(gl)[0]
            worker.send(job)
            while isinstance(message := worker.receive(self._spec.stall_timeout), protocol.Note):
                tell(message)
            if not isinstance(message, protocol.Answer):
                raise WorkerFailed(f"the simulator worker sent {type(message).__name__}, which is no answer")
        except WorkerFailed:
            self.close()
            raise
        if isinstance(message, protocol.Refused) and not message.is_bad_input:
            self.close()
        return message

    def _film(self, job: protocol.Film, tell: Callable[[protocol.Note], None]) -> protocol.Answer:
        """In a process of its own: a crash in GL costs the film and nothing else."""
        self.close()  # it cannot draw, and its memory is of no more use
        needs = SIMULATORS[self._spec.simulator].film_needs
        found = probe(self._spec.python, *{"graphics", *needs})
        for section in needs:
            if problem := found[section]["problem"]:
                mend = found[section]["mend"]
                return protocol.Refused(f"{problem}; mend it: {mend}" if mend else problem)
        if device := egl_device(os.environ.get("CUDA_VISIBLE_DEVICES", ""), found["graphics"]["devices"]):
            # Of this actor, for its workers: MuJoCo reads the first, and Newton's viewer, drawn by pyglet, the second.
            os.environ["MUJOCO_EGL_DEVICE_ID"] = os.environ["PYGLET_HEADLESS_DEVICE"] = device
        try:
            return self._do(job, tell, "egl")
        finally:
            self.close()


def egl_device(assigned: str, cuda_ordinals: list[int | None]) -> str | None:
    """The EGL device of the GPU that Ray assigned; ``None``: take the first that works.

    EGL does not heed CUDA_VISIBLE_DEVICES, which is how Ray assigns.

    Args:
        assigned: CUDA_VISIBLE_DEVICES.
        cuda_ordinals: the GPU of each EGL device, if it is one.
    """
    first = assigned.split(",")[0]
    return str(cuda_ordinals.index(int(first))) if first.isdigit() and int(first) in cuda_ordinals else None
