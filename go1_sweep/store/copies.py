"""A machine's copy of a folder in a store: what is newer on either side goes to the other."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from go1_sweep import lock
from go1_sweep.paths import TrialPaths, replacing
from go1_sweep.store.object_store import Stamp, Store

BEAT_SECONDS = lock.ALIVE_SECONDS / 8
"""How often what is new is uploaded and fetched, and that the driver lives."""
AT_ONCE = 16
"""Files that are fetched or uploaded side by side."""
PASSING = (".tmp", "-journal", ".lock")
"""How the names of files end that mean something on one machine alone."""


class Copy:
    """What this machine has of a folder in a store."""

    def __init__(self, store: Store, folder: Path, under: str = "") -> None:
        """Reach nothing yet.

        Args:
            store: the folder there.
            folder: the one here.
            under: the part of both that is looked at.
        """
        self.store, self.folder = store, folder
        self._under = under
        self._lock = threading.RLock()
        self._theirs: dict[str, Stamp] = {}
        """As the store had it when it was fetched, or after it was uploaded."""
        self._ours: dict[str, Stamp] = {}
        """As it was here then."""
        self._database = threading.Lock()
        """An upload of a database never ends after that of a later state of it."""

    def fetch(self, wanted: Callable[[str], bool]) -> dict[str, Stamp]:
        """Bring each wanted file that is newer there; all that the store has.

        Raises:
            OSError: the store refuses, or the disk does.
        """
        with self._lock:
            return self._fetch(wanted)

    def _fetch(self, wanted: Callable[[str], bool]) -> dict[str, Stamp]:
        found, newer = self.store.names(self._under), []
        for name, theirs in found.items():
            if not wanted(name) or self._theirs.get(name) == theirs:
                continue
            ours, is_known = Stamp.of(self.folder / name), name in self._theirs
            if ours == theirs and not is_known:  # fetched by another process
                self._theirs[name] = self._ours[name] = theirs
            elif is_known or ours is None or ours.time < theirs.time:
                newer.append((name, theirs))
        _at_once(self._bring, newer)
        return found

    def bring(self, name: str) -> None:
        """Bring one file that does not change, if it is not here.

        Raises:
            OSError: the store refuses, or the disk does.
        """
        if not (self.folder / name).exists():
            self._bring(name, Stamp(0, 0))

    def has_sent(self, name: str, stamp: Stamp) -> bool:
        """Whether the store has got a file as it was here at that time, or later."""
        sent = self._ours.get(name)
        return sent is not None and sent.time >= stamp.time

    def send(self, name: str) -> None:
        """Upload one file, whatever else is under way.

        Raises:
            OSError: the store refuses.
        """
        path = self.folder / name
        self._send_file(name, path, Stamp.of(path))

    def publish(self, wanted: Callable[[str], bool]) -> None:
        """Upload each wanted file that changed here; remove there what was uploaded, and is here no more.

        The manifests are read first and come last: what they name is there when they are.

        Raises:
            OSError: the store refuses.
        """
        with self._lock:
            self._publish(wanted)

    def _publish(self, wanted: Callable[[str], bool]) -> None:
        top = self.folder / self._under
        manifests = [path for path in top.rglob(TrialPaths(Path()).manifest.name) if path.is_file()]
        held = [(path, Stamp.of(path), path.read_bytes()) for path in manifests]
        files = {path.relative_to(self.folder).as_posix(): path for path in top.rglob("*") if path.is_file()}
        changed = [
            (name, path, stamp)
            for name, path in files.items()
            if not path.name.endswith(PASSING)
            and path not in manifests
            and wanted(name)
            and (stamp := Stamp.of(path)) != self._ours.get(name)
        ]
        _at_once(self._send_file, changed)
        for path, stamp, content in held:
            name = path.relative_to(self.folder).as_posix()
            if wanted(name) and stamp != self._ours.get(name):
                self._send(name, stamp, content)
        for name in [name for name in self._ours if name not in files and wanted(name)]:
            self.store.delete(name)
            del self._ours[name]

    def _bring(self, name: str, theirs: Stamp) -> None:
        path = self.folder / name
        try:
            content = self.store.read(name)
        except FileNotFoundError:  # taken away meanwhile, as an old checkpoint is
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside:
            beside.write_bytes(content)
            os.utime(beside, ns=(theirs.time, theirs.time))
        self._theirs[name] = theirs
        self._ours[name] = Stamp(len(content), theirs.time)

    def _send_file(self, name: str, path: Path, stamp: Stamp | None) -> None:
        with contextlib.suppress(FileNotFoundError):  # an old checkpoint, just now
            if path.suffix != ".db":
                return self._send(name, stamp, path.read_bytes())
            with self._database:
                self._send(name, stamp, _snapshot(path))

    def _send(self, name: str, stamp: Stamp | None, content: bytes) -> None:
        self.store.write(name, content)
        if stamp:
            self._ours[name] = stamp


def _snapshot(database: Path) -> bytes:
    """A database as it is between two transactions."""
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        source, target = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True), sqlite3.connect(file.name)
        with contextlib.closing(source), contextlib.closing(target):
            source.backup(target)
        return Path(file.name).read_bytes()


def _at_once(call: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
    """Call it with each, side by side: most of the time is the way to the store and back."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda each: call(*each), arguments))
