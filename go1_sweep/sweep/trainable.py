"""The trial actor: a Ray Tune class Trainable that drives one simulator worker, and keeps it between trials."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from go1_sweep import checkpoint, protocol, timeline
from go1_sweep.paths import SweepPaths, TrialPaths
from go1_sweep.patience import POLL_SECONDS, is_full
from go1_sweep.protocol import Progress
from go1_sweep.store.actors import Part
from go1_sweep.store.object_store import refusal
from go1_sweep.sweep.ray_watch import end_with_raylet
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec

TRIALS = SweepPaths(Path()).trials
LEAK_FACTOR, LEAK_BYTES = 1.5, 2 * 2**30
"""A worker that holds so much more than after its first trial is replaced; one trial may be larger than another."""


def leak(memory: list[int]) -> str:
    """What is wrong with a worker's memory, if so.

    Args:
        memory: that it held when each of its trials began [bytes]; the first did so before any env was made.
    """
    if len(memory) < 3 or memory[-1] < max(memory[1] * LEAK_FACTOR, memory[1] + LEAK_BYTES):
        return ""
    return f"its memory grew from {memory[1] / 2**30:.1f} to {memory[-1] / 2**30:.1f} GiB"


class StorageMissing(Exception):
    """This node does not reach the sweep's storage: a sentence."""


class TrialActor(tune.Trainable):
    """One GPU slot.

    ``setup`` and ``reset_config`` only take the configuration, and ``step`` never raises: what goes wrong
    is a result with ``done``, a ``state`` and a ``why``. Tune would not tell the searcher of a failed
    setup, and a raise in ``step`` would cost the actor with its warm worker.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        end_with_raylet()
        self._worker: WorkerProcess | None = None
        self._worker_is_on: str | None = None
        """The trial that the worker trains; another than ours after Tune stopped that one."""
        self._max_trials: int | None = None
        self._worker_memory: list[int] = []
        """What the worker held when each of its trials began [bytes]."""
        self._notes: list[str] = []
        """What the user should hear with the next result."""
        self._gpu = ",".join(map(str, ray.get_gpu_ids()))
        self._part: Part | None = None
        """Of an object store, that the trial's files are uploaded to; ``None``: they are in the sweep's folder."""
        self._left: list[Part] = []
        """Parts of trials that Tune stopped, and that are not all uploaded."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial. A trial that Tune stopped is ended in the worker by the next one's first step."""
        self._spec = WorkerSpec(**new_config["worker"])
        self._train = protocol.Train(**new_config["train"])
        self._leave_part()
        if uri := new_config["store"]:
            self._part = Part(uri, TRIALS / self._train.trial, self._train.turn)
            self._train = dataclasses.replace(self._train, folder=str(self._part.folder))
        self._last: dict[str, Any] | None = None
        """The trial's end, which is told when its files are uploaded."""
        self._progress: Progress | None = None
        """Where the trial stands; ``None`` before its folder was looked at."""
        self._retries_left = self._spec.retries
        self._seconds: dict[str, float] = {}
        """That the trial took here besides training, by use: all but what its worker tells of itself."""
        self._seconds_of_worker: dict[str, float] = {}
        self._waits = False
        """Whether the storage is full, or missing; the worker says the former again and again."""
        return True

    def step(self) -> dict[str, Any]:
        """One PPO iteration of the trial, or its end.

        Of a trial that goes on from a checkpoint, at first where that was taken: the sweep may have died before it
        heard of it, and compares the trial at a rung as it was there.
        """
        if self._last:
            return self._told(self._last)
        try:
            if self._progress is None:
                self._begin_part()
                self._find_checkpoint()
                if self._train.checkpoint:
                    return self._result("running", "")
            reported = self._progress.iterations if self._progress else 0
            while (message := self._iterate()) is None:
                if self._progress and self._progress.iterations > reported:  # published, and not reported
                    return self._result("running", "")
        except WorkerFailed as failure:
            return self._failed(str(failure))
        except StorageMissing as error:  # a trial that failed would make room for the next one to do so
            time.sleep(POLL_SECONDS)
            return self._waiting(str(error))
        except Exception as error:  # a raise would cost the actor, and Tune would not say why
            if is_full(error):  # before there was a worker that could say so
                time.sleep(POLL_SECONDS)
                return self._waiting()
            return self._failed(f"{type(error).__name__}: {error}")
        if isinstance(message, protocol.Waiting):
            return self._waiting()
        self._progress, self._waits, self._seconds_of_worker = message.progress, False, message.seconds
        if isinstance(message, protocol.Report):
            return self._result("running", "")
        self._worker_is_on = None
        if message.state == "completed":
            return self._told(self._result(message.state, message.why))
        if message.state != "infeasible":
            return self._failed(message.why, diverged=message.diverged)
        self._end_worker()  # what it held is not to be trusted by the next trial
        return self._told(self._result(message.state, message.why))

    def cleanup(self) -> None:
        """End the worker; Tune calls this when it gives the actor up.

        A trial that was stopped in mid-course (the user interrupted the sweep) publishes where it stands. One that ASHA
        stopped at a rung has done so there.
        """
        with contextlib.suppress(WorkerFailed):
            if self._worker_is_on == self._train.trial and not self._is_published():
                self._tell(protocol.Stop(self._train.trial, save=True))
                while not isinstance(self._receive(), protocol.Ended):
                    pass
        self._end_worker()
        self._leave_part()

    def _begin_part(self) -> None:
        """Take what the store has of the trial.

        Raises:
            StorageMissing: it refuses.
        """
        try:
            if self._part:
                self._part.begin()
        except OSError as error:
            raise StorageMissing(f"{refusal(error)} (node {platform.node()}): it waits for the storage") from None

    def _leave_part(self) -> None:
        """Upload what is left of this trial, and of those before; what cannot be is tried again with the next one."""
        self._left += [self._part] if self._part else []
        self._part = None
        for part in list(self._left):
            with contextlib.suppress(OSError):
                part.end()
                self._left.remove(part)

    def _told(self, result: dict[str, Any]) -> dict[str, Any]:
        """A trial's end, if its files are where the driver finds them; else that it waits for the storage."""
        self._last = result
        try:
            if self._part:
                self._part.end()
                self._part = None
            return result
        except OSError as error:
            time.sleep(POLL_SECONDS)
            return self._waiting(f"{refusal(error)}: its end waits for the storage")

    def _iterate(self) -> protocol.Report | protocol.Waiting | protocol.Ended | None:
        """The next iteration; ``None`` where the worker failed, and another one is to try.

        Raises:
            WorkerFailed: once too often.
        """
        try:
            if self._worker_is_on != self._train.trial:
                self._start()
            elif not self._waits:
                self._tell(protocol.Continue(self._train.trial))
            return self._next()
        except WorkerFailed as failure:
            if not self._retries_left:
                raise
            self._retries_left -= 1
            self._waits = False
            self._end_worker()
            self._note(f"{failure}: it goes on in a new one ({self._retries_left} retries left)")
            self._find_checkpoint()
            return None

    def _waiting(self, why: str = "the disk is full: it waits for room") -> dict[str, Any]:
        """The trial goes on when it can."""
        if not self._waits:
            self._note(why)
        self._waits = True
        return self._result("running", "")

    def _is_published(self) -> bool:
        newest = checkpoint.read_manifest(TrialPaths(Path(self._train.folder)))[-1:]
        return [entry.progress for entry in newest] == [self._progress]

    def _note(self, text: str) -> None:
        """Tell the user, in the trial's log as well."""
        self._notes.append(text)
        self._log(text)

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), open(TrialPaths(Path(self._train.folder)).worker_log, "a") as log:
            log.write(f"[go1_sweep] {text}\n")

    def _start(self) -> None:
        """Bring the worker to where the trial stands, in a fresh process if the old one is no longer sound."""
        folder = Path(self._train.folder)
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:  # made by the driver: this node has another storage, or none
            why = f"{folder.parent} is not there on node {platform.node()}"
            raise StorageMissing(f"{why}: it waits for the storage, which all nodes need under one path") from None
        log = TrialPaths(folder).worker_log
        if self._worker is not None and (problem := self._switch()):
            self._end_worker()
            self._log(f"the warm worker was replaced: {problem}")
        if self._worker is None:
            began = time.monotonic()
            self._worker = self._spec.start(log)
            hello = self._worker.greeted(self._spec.stall_timeout)
            importing = {"importing": time.monotonic() - began}
            self._seconds = timeline.added(self._seconds, self._seconds_of_worker, importing)
            self._seconds_of_worker = {}
            self._max_trials = self._spec.max_trials or hello.max_trials
            self._tell(self._train)
            self._started(self._receive())
        self._worker.log_to(log)
        self._worker_is_on = self._train.trial

    def _switch(self) -> str:
        """Move the warm worker to the new trial; what is wrong with it, if so, is not the new trial's fault."""
        assert self._worker is not None
        if len(self._worker_memory) == self._max_trials:
            return f"it had {self._max_trials} trials"
        try:
            if self._worker_is_on is not None:
                self._tell(protocol.Stop(self._worker_is_on))
            self._tell(self._train)
            while not self._has_started(message := self._receive()):
                pass  # the last words of the trial before
        except WorkerFailed as failure:
            return str(failure)
        self._started(message)
        return leak(self._worker_memory)

    def _has_started(self, message: protocol.Message) -> bool:
        return isinstance(message, protocol.Started) and message.trial == self._train.trial

    def _find_checkpoint(self) -> None:
        """Let the trial go on from the newest checkpoint that is what it published, if there is one."""
        paths, before = TrialPaths(Path(self._train.folder)), len(self._notes)
        newest = checkpoint.intact(paths, self._note)[-1:]
        if not newest and len(self._notes) > before:
            self._note("no checkpoint is left: it begins again")
        file = str(paths.folder / newest[0].file) if newest else ""
        self._train = dataclasses.replace(self._train, checkpoint=file)
        self._progress = newest[0].progress if newest else Progress()

    def _started(self, message: protocol.Message) -> None:
        if not isinstance(message, protocol.Started):
            raise WorkerFailed(f"the simulator worker sent {type(message).__name__}, not Started")
        self._worker_memory.append(message.memory)

    def _tell(self, message: protocol.Message) -> None:
        assert self._worker is not None
        self._worker.send(message)

    def _receive(self) -> protocol.Message:
        assert self._worker is not None
        return self._worker.receive(self._spec.stall_timeout)

    def _next(self) -> protocol.Report | protocol.Waiting | protocol.Ended:
        message = self._receive()
        if (
            not isinstance(message, protocol.Report | protocol.Waiting | protocol.Ended)
            or message.trial != self._train.trial
        ):
            raise WorkerFailed(f"the simulator worker sent {message}, which is no report of this trial")
        return message

    def _failed(self, why: str, *, diverged: bool = False) -> dict[str, Any]:
        evidence = self._evidence()
        self._end_worker()
        return self._told(self._result("failed", why, evidence, diverged=diverged))

    def _evidence(self) -> list[str]:
        return self._worker.evidence() if self._worker is not None else []

    def _end_worker(self) -> None:
        self._worker_is_on = None
        self._worker_memory = []
        if self._worker is not None:
            for left in self._worker.close():
                self._note(left)
            self._worker = None

    def _result(
        self, state: str, why: str, evidence: list[str] | None = None, *, diverged: bool = False
    ) -> dict[str, Any]:
        notes, self._notes = self._notes, []
        return {
            "trial": self._train.trial,
            "notes": notes,
            "state": state,
            "why": why,
            "evidence": evidence or [],
            "diverged": diverged,
            "gpu": self._gpu,
            "slot": f"{platform.node()} {f'GPU {self._gpu}' if self._gpu else f'process {os.getpid()}'}",
            "seconds": timeline.added(self._seconds, self._seconds_of_worker),
            "progress": dataclasses.asdict(self._progress or Progress()),
            "done": state != "running",
        }
