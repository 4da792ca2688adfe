"""The trial actor: a Ray Tune class Trainable that drives one simulator worker, and keeps it between trials."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ray
from ray import tune

from go1_sweep import protocol
from go1_sweep.paths import TrialPaths
from go1_sweep.protocol import Progress
from go1_sweep.worker.process import WorkerFailed, WorkerProcess, WorkerSpec

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


class TrialActor(tune.Trainable):
    """One GPU slot.

    ``setup`` and ``reset_config`` only take the configuration, and ``step`` never raises: what goes wrong
    is a result with ``done``, a ``state`` and a ``why``. Tune would not tell the searcher of a failed
    setup, and a raise in ``step`` would cost the actor with its warm worker.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial."""
        self._worker: WorkerProcess | None = None
        self._worker_is_on: str | None = None
        """The trial that the worker trains; another than ours after Tune stopped that one."""
        self._max_trials: int | None = None
        self._worker_memory: list[int] = []
        """What the worker held when each of its trials began [bytes]."""
        self._gpu = ",".join(map(str, ray.get_gpu_ids()))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial. A trial that Tune stopped is ended in the worker by the next one's first step."""
        self._spec = WorkerSpec(**new_config["worker"])
        self._train = protocol.Train(**new_config["train"])
        self._progress = Progress()
        return True

    def step(self) -> dict[str, Any]:
        """One PPO iteration of the trial, or its end."""
        try:
            if self._worker_is_on == self._train.trial:
                self._tell(protocol.Continue(self._train.trial))
            else:
                self._start()
            message = self._next()
        except WorkerFailed as failure:
            return self._failed(str(failure))
        except Exception as error:  # a raise would cost the actor, and Tune would not say why
            return self._failed(f"{type(error).__name__}: {error}")
        self._progress = message.progress
        if isinstance(message, protocol.Report):
            return self._result("running", "")
        self._worker_is_on = None
        evidence = []
        if message.state != "completed":  # what it held is not to be trusted by the next trial
            evidence = self._evidence() if message.state == "failed" else []
            self._end_worker()
        return self._result(message.state, message.why, evidence, diverged=message.diverged)

    def cleanup(self) -> None:
        """End the worker; Tune calls this when it gives the actor up."""
        self._end_worker()

    def _start(self) -> None:
        """Bring the worker to the trial's beginning, in a fresh process if the old one is no longer sound."""
        folder = Path(self._train.folder)
        folder.mkdir(parents=True, exist_ok=True)
        log = TrialPaths(folder).worker_log
        if self._worker is not None and (problem := self._switch()):
            self._end_worker()
            log.write_text(f"The warm worker was replaced: {problem}\n", encoding="utf-8")
        if self._worker is None:
            self._worker = self._spec.start(log)
            hello = self._worker.greeted(self._spec.stall_timeout)
            self._max_trials = self._spec.max_trials or hello.max_trials
            self._tell(self._train)
            self._note(self._worker.receive(self._spec.stall_timeout))
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
            while not self._has_started(message := self._worker.receive(self._spec.stall_timeout)):
                pass  # the last words of the trial before
        except WorkerFailed as failure:
            return str(failure)
        self._note(message)
        return leak(self._worker_memory)

    def _has_started(self, message: protocol.Message) -> bool:
        return isinstance(message, protocol.Started) and message.trial == self._train.trial

    def _note(self, message: protocol.Message) -> None:
        if not isinstance(message, protocol.Started):
            raise WorkerFailed(f"the simulator worker sent {type(message).__name__}, not Started")
        self._worker_memory.append(message.memory)

    def _tell(self, message: protocol.Message) -> None:
        assert self._worker is not None
        self._worker.send(message)

    def _next(self) -> protocol.Report | protocol.Ended:
        assert self._worker is not None
        message = self._worker.receive(self._spec.stall_timeout)
        if not isinstance(message, protocol.Report | protocol.Ended) or message.trial != self._train.trial:
            raise WorkerFailed(f"the simulator worker sent {message}, which is no report of this trial")
        return message

    def _failed(self, why: str) -> dict[str, Any]:
        evidence = self._evidence()
        self._end_worker()
        return self._result("failed", why, evidence)

    def _evidence(self) -> list[str]:
        return self._worker.evidence() if self._worker is not None else []

    def _end_worker(self) -> None:
        self._worker_is_on = None
        self._worker_memory = []
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _result(
        self, state: str, why: str, evidence: list[str] | None = None, *, diverged: bool = False
    ) -> dict[str, Any]:
        return {
            "trial": self._train.trial,
            "state": state,
            "why": why,
            "evidence": evidence or [],
            "diverged": diverged,
            "gpu": self._gpu,
            "progress": dataclasses.asdict(self._progress),
            "done": state != "running",
        }
