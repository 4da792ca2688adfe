"""What actors keep of a sweep's folder in a store, on whatever node they are."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import tempfile
import threading
from pathlib import Path

from go1_sweep import protocol, turn
from go1_sweep.paths import TrialPaths, copy_of, is_checkpoint, is_of_driver
from go1_sweep.store.copies import BEAT_SECONDS, Copy
from go1_sweep.store.object_store import Store
from go1_sweep.turn import TurnIsOver


def on_node(uri: str, base: str = "") -> Path:
    """Where a node keeps what an actor on it writes into a folder of a store.

    The node may be the driver's as well: what that keeps there is another copy.

    Args:
        uri: of the folder.
        base: what tells an actor's files from those of others that write into the same folder.
    """
    return copy_of(uri, Path(tempfile.gettempdir()) / f"go1_sweep-{os.getuid()}" / base)


class Part:
    """What an actor writes of a sweep's folder: on its own node first, and from there, all the time, into the store."""

    def __init__(self, uri: str, under: Path, number: int) -> None:
        """Reach nothing yet.

        Args:
            uri: of the sweep's folder.
            under: of a trial, the part of it that nobody else writes, but for the driver.
            number: of our turn; see ``turn``.
        """
        self.folder = on_node(uri) / under
        self._turn, self._turns = number, TrialPaths(under).turn.as_posix()
        self._copy = Copy(Store(uri), on_node(uri), under.as_posix())
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="store", daemon=True)

    def begin(self) -> None:
        """Take what the store has, and nothing else: what this node may have is of another time.

        Raises:
            OSError: the store refuses.
            TurnIsOver: another actor has the trial.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self._has_passed():
            raise TurnIsOver
        self._copy.store.write(self._turns, f"{self._turn}\n".encode())
        self._copy.fetch(_is_of_worker)
        self._thread.start()

    def end(self) -> None:
        """Upload the rest, and leave nothing here; may be tried again.

        Raises:
            OSError: the store refuses.
        """
        self._is_over.set()
        if not self.folder.exists():  # it was never begun
            return
        if self._thread.is_alive():
            self._thread.join()
        self._publish()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self) -> None:
        while not self._is_over.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # with the next beat; the driver, which is refused as well, says so
                self._publish()

    def _publish(self) -> None:
        """Upload what is new, unless another actor has the trial."""
        if not self._has_passed():
            self._copy.publish(_is_of_worker)

    def _has_passed(self) -> bool:
        """Whether a later turn was taken."""
        try:
            return turn.number(self._copy.store.read(self._turns)) > self._turn
        except FileNotFoundError:
            return False


class Visit:
    """What a player on a node takes of a sweep's folder, and leaves there; it has a folder of its own."""

    def __init__(self, uri: str, folder: Path) -> None:
        """Reach nothing yet.

        Args:
            uri: of the sweep's folder.
            folder: the driver's copy, in which jobs name their files.
        """
        self._folder = folder
        self._here = on_node(uri, f"player-{os.getpid()}")
        self._copy = Copy(Store(uri), self._here)
        self._log = ""

    def log(self, log: Path) -> Path:
        """This player's own log, in the place of the one of all."""
        self._log = f"{log.stem}_{platform.node()}_{os.getpid()}{log.suffix}"
        self._here.mkdir(parents=True, exist_ok=True)
        return self._here / self._log

    def brought(self, job: protocol.Job) -> protocol.Job:
        """The job with files of ours, its checkpoint among them.

        Raises:
            OSError: the store refuses, or the disk does.
        """
        policy = dataclasses.replace(job.policy, checkpoint=self._ours(job.policy.checkpoint))
        self._copy.bring(Path(job.policy.checkpoint).relative_to(self._folder).as_posix())
        match job:
            case protocol.Evaluate() if job.trajectories:
                return dataclasses.replace(job, policy=policy, trajectories=self._ours(job.trajectories))
            case protocol.Film():
                return dataclasses.replace(job, policy=policy, video=self._ours(job.video))
            case protocol.Export():
                Path(folder := self._ours(job.folder)).mkdir(parents=True, exist_ok=True)
                return dataclasses.replace(job, policy=policy, folder=folder)
        return dataclasses.replace(job, policy=policy)

    def publish(self) -> None:
        """Upload what came of the jobs.

        Raises:
            OSError: the store refuses.
        """
        self._copy.publish(lambda name: name == self._log or not (is_of_driver(name) or is_checkpoint(name)))

    def end(self) -> None:
        """Leave nothing here; what cannot be uploaded was of use for people alone."""
        with contextlib.suppress(OSError):
            self.publish()
        shutil.rmtree(self._here, ignore_errors=True)

    def _ours(self, file: str) -> str:
        ours = self._here / Path(file).relative_to(self._folder)
        ours.parent.mkdir(parents=True, exist_ok=True)
        return str(ours)


def _is_of_worker(name: str) -> bool:
    return not is_of_driver(name)
