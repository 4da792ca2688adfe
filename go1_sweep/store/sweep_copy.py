"""The driver's copy of its sweep's folder, and what the commands that only look take of a store."""

from __future__ import annotations

import contextlib
import functools
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from go1_sweep import lock
from go1_sweep.errors import BadInput
from go1_sweep.paths import SweepPaths, TrialPaths, is_checkpoint, is_of_driver, uri_of
from go1_sweep.store.copies import BEAT_SECONDS, Copy
from go1_sweep.store.object_store import Stamp, Store, refusal, waited_for

MOST_OF_THE_TIME = 0.2
"""A store that takes long, with thousands of trials, is asked less often."""
MOMENT_SECONDS = 1.0
"""More than the upload of a small file takes, less than anybody minds who waits for it."""


def try_out(folder: Path) -> None:
    """Write a file beside a sweep's folder in a store, and remove it, where the folder is a copy.

    Raises:
        OSError: the store refuses.
    """
    if copy := copy_at(folder):
        name = f".{secrets.token_hex(8)}.tmp"
        copy.store.write(name, name.encode())
        copy.store.delete(name)


@functools.cache
def copy_at(folder: Path) -> Copy | None:
    """The copy of a sweep's folder; ``None`` where that is no copy, but the folder itself."""
    uri = uri_of(folder)
    return Copy(Store(uri), folder) if uri else None


def is_small(name: str) -> bool:
    """Whether a file is fetched unasked: all but checkpoints, and every step of an exam."""
    return not is_checkpoint(name) and Path(name).suffix != ".npz"


def is_live(name: str) -> bool:
    """Whether a file of a trial is looked at while that runs."""
    trial = TrialPaths(Path())
    return Path(name).name in (trial.logs.name, trial.progress.name, trial.config.name, trial.manifest.name)


def fetched(folder: Path) -> Path:
    """The folder, with what the store has of the sweep now; where that is nothing, nothing is left here.

    Raises:
        BadInput: the store cannot be read.
    """
    copy, paths = copy_at(folder), SweepPaths(folder)
    if copy is None or lock.is_locked(paths.lock):  # its driver, on this machine, does that
        return folder
    try:
        found = copy.fetch(is_small)
        if not found and folder.exists():  # of a sweep that was taken away there
            shutil.rmtree(folder)
        if paths.alive.name in found:
            paths.lock.write_bytes(paths.alive.read_bytes())
        else:
            paths.alive.unlink(missing_ok=True)
    except OSError as error:
        raise BadInput(f"storage: {refusal(error)}") from None
    return folder


def bring(paths: SweepPaths, trial: str) -> None:
    """Bring a trial with its checkpoints, where the sweep's folder is a copy.

    Raises:
        OSError: the store refuses.
    """
    if copy := copy_at(paths.folder):
        where = paths.trial(trial).folder.relative_to(paths.folder).as_posix()
        copy.fetch(lambda name: name.startswith(f"{where}/") and (is_checkpoint(name) or is_small(name)))


def refresh(folder: Path, *, only_live: bool = False) -> None:
    """Bring what workers have written into a sweep's folder, but for checkpoints, where that is a copy.

    Args:
        folder: of the sweep.
        only_live: leave out what nobody looks at while a trial runs: its log is megabytes.

    Raises:
        OSError: the store refuses.
    """
    if copy := copy_at(folder):
        is_wanted = is_live if only_live else is_small
        copy.fetch(lambda name: is_wanted(name) and not is_of_driver(name))


def publish(folder: Path) -> None:
    """Upload what the driver has written into a sweep's folder, where that is a copy.

    Raises:
        OSError: the store refuses.
    """
    if copy := copy_at(folder):
        copy.publish(is_of_driver)


def remove(folder: Path) -> None:
    """Remove a sweep's folder, from the store as well where it is a copy."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        publish(folder)


@contextlib.contextmanager
def kept(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep the store and a sweep's folder up to date, each with what the other has, until the context is left.

    Args:
        folder: of the sweep; where it is no copy there is nothing to do.
        say: for a sentence; also called by another thread.
    """
    copy = copy_at(folder)
    if copy is None:
        yield
        return
    is_over = threading.Event()
    threads = [
        threading.Thread(target=_beat, args=(copy, is_over), name="store alive", daemon=True),
        threading.Thread(target=_keep, args=(copy, is_over, say), name="store", daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        _finish(copy, say)


def _beat(copy: Copy, is_over: threading.Event) -> None:
    """Say that the driver lives, however long the rest takes."""
    paths, pause = SweepPaths(copy.folder), 0.0
    while not is_over.wait(pause):
        with contextlib.suppress(OSError):
            copy.store.write(paths.alive.name, paths.lock.read_bytes())
        pause = BEAT_SECONDS


def _keep(copy: Copy, is_over: threading.Event, say: Callable[[str], None]) -> None:
    pause, is_lost = 0.0, False
    while not is_over.wait(pause):
        began = time.monotonic()
        try:
            publish(copy.folder)
            refresh(copy.folder, only_live=True)
            if is_lost:
                say("The store takes and gives again")
            is_lost = False
        except OSError as error:
            if not is_lost:
                say(f"{refusal(error)}: trials go on, and what they write is uploaded when the store is back")
            is_lost = True
        pause = max(BEAT_SECONDS, (time.monotonic() - began) / MOST_OF_THE_TIME)


def _finish(copy: Copy, say: Callable[[str], None]) -> None:
    """Upload the rest, and take back that the driver lives."""

    def finish() -> None:
        publish(copy.folder)
        copy.store.delete(SweepPaths(copy.folder).alive.name)

    try:
        waited_for(finish)
    except OSError as error:
        say(f"{refusal(error)}: not all is there; {copy.folder} has it, and `resume` uploads it")


class Draws:
    """The study in the store, which knows of each trial before that begins: no checkpoint is of unknown parameters."""

    def __init__(self, folder: Path) -> None:
        """Reach nothing yet; ``folder``: of the sweep."""
        self._copy, self._study = copy_at(folder), SweepPaths(folder).study
        self._drawn: Stamp | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="store draws")
        self._upload: Future[None] | None = None

    def add(self) -> None:
        """A trial was drawn."""
        self._drawn = Stamp.of(self._study)

    def are_kept(self) -> bool:
        """Whether the store has all draws; what is not there yet is uploaded, and waited for a moment."""
        if self._copy is None or self._drawn is None or self._copy.has_sent(self._study.name, self._drawn):
            return True
        if self._upload is None or self._upload.done():
            self._upload = self._pool.submit(self._copy.send, self._study.name)
        wait([self._upload], MOMENT_SECONDS)
        return self._copy.has_sent(self._study.name, self._drawn)
