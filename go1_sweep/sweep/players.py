"""Plays policies on all slots side by side: Ray actors, each with a simulator worker that stays warm between jobs."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from go1_sweep import protocol
from go1_sweep.errors import one_line
from go1_sweep.sweep.local_ray import Slots
from go1_sweep.sweep.probing import probe
from go1_sweep.sweep.worker_process import WorkerFailed, WorkerProcess, WorkerSpec


class Player:
    """One slot: does one job after the other in its worker. Becomes an actor."""

    def __init__(self, spec: WorkerSpec, log: Path) -> None:
        self._spec = spec
        self._log = log
        self._worker: WorkerProcess | None = None

    def play(self, job: protocol.Job) -> protocol.Answer:
        """Do the job; whatever goes wrong is a ``Refused``."""
        try:
            return self._film(job) if isinstance(job, protocol.Film) else self._do(job)
        except Exception as error:  # a raise would say less than a line does
            return protocol.Refused(one_line(error))

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _do(self, job: protocol.Job, *, gl: str = "disable") -> protocol.Answer:
        """Do the job in the worker, which ends when that fails: what it holds is not to be trusted."""
        try:
            if self._worker is None:
                self._worker = self._spec.start(self._log, gl=gl)
                self._worker.receive(self._spec.stall_timeout)  # Hello
            self._worker.send(job)
            while isinstance(message := self._worker.receive(self._spec.stall_timeout), protocol.Working):
                pass
            if not isinstance(message, protocol.Answer):
                raise WorkerFailed(f"the simulator worker sent {type(message).__name__}, which is no answer")
        except WorkerFailed as failure:
            message = protocol.Refused(f"{failure}; see {self._log}")
        if isinstance(message, protocol.Refused) and not message.is_bad_input:
            self.close()
        return message

    def _film(self, job: protocol.Film) -> protocol.Answer:
        """In a process of its own: a crash in GL costs the film and nothing else."""
        self.close()  # it cannot draw, and its memory is of no more use
        found = probe(self._spec.python, "graphics", "encoder")
        for section in ("graphics", "encoder"):
            if problem := found[section]["problem"]:
                mend = found[section]["mend"]
                return protocol.Refused(f"{problem}; mend it: {mend}" if mend else problem)
        if device := egl_device(os.environ.get("CUDA_VISIBLE_DEVICES", ""), found["graphics"]["devices"]):
            os.environ["MUJOCO_EGL_DEVICE_ID"] = device  # of this actor, for its workers
        try:
            return self._do(job, gl="egl")
        finally:
            self.close()


def egl_device(assigned: str, cuda_ordinals: list[int | None]) -> str | None:
    """The EGL device of the GPU that Ray assigned; ``None``: MuJoCo takes the first that works.

    EGL does not heed CUDA_VISIBLE_DEVICES, which is how Ray assigns.

    Args:
        assigned: CUDA_VISIBLE_DEVICES.
        cuda_ordinals: the GPU of each EGL device, if it is one.
    """
    first = assigned.split(",")[0]
    return str(cuda_ordinals.index(int(first))) if first.isdigit() and int(first) in cuda_ordinals else None


class Players:
    """As many players as there are slots, made when they are needed; they stay warm from one ``play`` to the next."""

    def __init__(self, slots: Slots, worker: WorkerSpec, log: Path) -> None:
        self._slots = slots
        self._make: Any = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus)(Player)
        self._arguments = worker, log
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, int]] = {}

    def __enter__(self) -> Players:
        return self

    def __exit__(self, *_: object) -> None:
        """End all players and what they still do."""
        with contextlib.suppress(RayError):
            ray.get([player.close.remote() for player in self._idle])
        for player in [*self._idle, *(player for player, _ in self._running.values())]:
            ray.kill(player)

    def play(self, jobs: list[protocol.Job]) -> Iterator[tuple[int, protocol.Answer]]:
        """Do all jobs, as many at a time as there are slots; gives each one's place and answer, as they come.

        A player that dies (its host went down) answers its job with ``Refused``, and is replaced.
        """
        waiting = deque(enumerate(jobs))
        while waiting or self._running:
            while waiting and len(self._running) < self._slots.count:
                player = self._idle.pop() if self._idle else self._make.remote(*self._arguments)
                place, job = waiting.popleft()
                self._running[player.play.remote(job)] = player, place
            (done,), _ = ray.wait(list(self._running), num_returns=1)
            player, place = self._running.pop(done)
            try:
                answer = ray.get(done)
            except RayError as error:
                answer = protocol.Refused(f"its actor died: {str(error).splitlines()[0]}")
            else:
                self._idle.append(player)
            yield place, answer
