"""Plays policies on all slots side by side: Ray actors, each with a simulator worker that stays warm between jobs."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from go1_sweep import protocol
from go1_sweep.paths import uri_of
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.store.actors import Visit
from go1_sweep.sweep.ray_watch import end_with_raylet
from go1_sweep.sweep.slots import Slots
from go1_sweep.worker.player import Player, unheard
from go1_sweep.worker.process import WorkerSpec

PATIENCE_SECONDS = 30.0
"""So long idle players are kept warm while others have the last jobs."""


class PlayerActor(Player):
    """A player in a process of Ray's; of a sweep in an object store, it has a folder of its own."""

    def __init__(self, spec: WorkerSpec, log: Path, folder: Path, uri: str) -> None:
        """Start nothing yet.

        Args:
            spec: of its worker.
            log: for all output of that.
            folder: of the sweep, in which jobs name their files.
            uri: of the folder, if it is a copy.
        """
        end_with_raylet()
        self._visit = Visit(uri, folder) if uri else None
        super().__init__(spec, self._visit.log(log) if self._visit else log)

    def play(self, job: protocol.Job, tell: Callable[[protocol.Note], None] = unheard) -> protocol.Answer:
        """See there."""
        if self._visit is None:
            return super().play(job, tell)
        try:
            visit = self._visit
            answer = super().play(object_store.waited_for(lambda: visit.brought(job)), tell)
            object_store.waited_for(visit.publish)
        except OSError as error:
            return protocol.Refused(object_store.refusal(error))
        return answer

    def close(self) -> None:
        """See there."""
        super().close()
        if self._visit:
            self._visit.end()


class Players:
    """As many players as there are slots, made when they are needed; they stay warm from one ``play`` to the next.

    Attributes:
        seconds: that they have been busy, all together.
    """

    def __init__(self, slots: Slots, worker: WorkerSpec, log: Path, folder: Path) -> None:
        """Start nothing yet; ``folder`` is that of the sweep, in which jobs name their files."""
        self._slots = slots
        self._make: Any = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, resources=slots.place)(PlayerActor)
        self._folder = folder
        self._arguments = worker, log, folder, uri_of(folder) or ""
        self._retries = worker.retries
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, int, float]] = {}
        self.seconds = 0.0

    def __enter__(self) -> Players:
        return self

    def __exit__(self, *_: object) -> None:
        """End all players and what they still do."""
        self._end_idle()
        for running in self._running.values():
            ray.kill(running[0])

    def _end_idle(self) -> None:
        with contextlib.suppress(RayError):
            ray.get([player.close.remote() for player in self._idle])
        for player in self._idle:
            ray.kill(player)
        self._idle.clear()

    def play(self, jobs: list[protocol.Job]) -> Iterator[tuple[int, protocol.Answer]]:
        """Do all jobs, as many at a time as there are slots; gives each one's place and answer, as they come.

        A player that dies (its host went down) is replaced; a job in which that happens too often is ``Refused``.
        """
        waiting = deque(enumerate(jobs))
        lost = Counter[int]()
        while waiting or self._running:
            while waiting and len(self._running) < self._slots.count:
                player = self._idle.pop() if self._idle else self._make.remote(*self._arguments)
                place, job = waiting.popleft()
                self._running[player.play.remote(job)] = player, place, time.monotonic()
            found, _ = ray.wait(list(self._running), num_returns=1, timeout=None if waiting else PATIENCE_SECONDS)
            if not found:  # a node has left: an actor may wait for what an idle one holds
                self._end_idle()
                continue
            (done,) = found
            player, place, began = self._running.pop(done)
            self.seconds += time.monotonic() - began
            try:
                answer = ray.get(done)
            except RayError as error:
                lost[place] += 1
                if lost[place] <= self._retries:
                    waiting.append((place, jobs[place]))
                    continue
                answer = protocol.Refused(f"its actor died: {str(error).splitlines()[0]}")
            else:
                self._idle.append(player)
                object_store.waited_for(lambda: sweep_copy.refresh(self._folder))
            yield place, answer
