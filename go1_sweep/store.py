"""Object stores (S3, Google's), and the copy that a machine keeps of a sweep's folder in one.

All files are written locally, and a file is uploaded by whoever wrote it: what a worker wrote by its actor, the rest by
the driver. The driver fetches what actors have uploaded. Credentials and the endpoint come from the environment, as the
store's own tools have them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import contextlib
import copy as copying
import dataclasses
import functools
import os
import platform
import re
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from go1_sweep import lock, protocol, turn
from go1_sweep.errors import BadInput
from go1_sweep.paths import SweepPaths, TrialPaths, copy_of, is_checkpoint, is_of_driver, replacing, uri_of
from go1_sweep.patience import POLL_SECONDS
from go1_sweep.turn import TurnIsOver

T = TypeVar("T")

SCHEMES = ("s3", "gs")
BEAT_SECONDS = lock.ALIVE_SECONDS / 8
"""How often what is new is uploaded and fetched, and that the driver lives."""
MOST_OF_THE_TIME = 0.2
"""A store that takes long, with thousands of trials, is asked less often."""
AWAY_SECONDS = 600.0
"""So long a store that has answered before is waited for, by whoever cannot do anything else meanwhile."""
AT_ONCE = 16
"""Files that are fetched or uploaded side by side."""
TRIES = 4
"""Of a request that the store refused; its own library has tried each two or three times, within two seconds."""
RETRY_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""So long a store may take for its first answer; a request that failed after longer is not tried again at once."""
MOMENT_SECONDS = 1.0
"""More than the upload of a small file takes, less than anybody minds who waits for it."""
GOOGLE_KEYS = (
    "name a key file in GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`; "
    "gs://anonymous@BUCKET/PREFIX needs none"
)
ADVICE = {
    "OAuth2 access token": f"no Google credentials could be had: {GOOGLE_KEYS}",
    "^gs://(?!anonymous@).*: no answer": f"if it was Google's metadata server that was asked for a key, {GOOGLE_KEYS}",
    "UNAUTHENTICATED|PERMISSION_DENIED": "may the account of GOOGLE_APPLICATION_CREDENTIALS read and write there?",
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE": (
        "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws, those of one who may read and write there?"
    ),
    "NETWORK_CONNECTION|CURL error|: no answer": (
        "can this machine reach the endpoint, and is it the right one (endpoint_override in the address, or the "
        "environment's AWS_ENDPOINT_URL or CLOUD_STORAGE_EMULATOR_ENDPOINT)?"
    ),
}
"""What to do, by what a store's library says after the store's address."""
RETRY_LIMIT = "retry_limit_seconds"
PASSING = (".tmp", "-journal", ".lock")
"""How the names of files end that mean something on one machine alone."""


@dataclass(frozen=True)
class Stamp:
    """What tells one content of a file from the next: its size in bytes, and when it was written or uploaded [ns]."""

    size: int
    time: int

    @classmethod
    def of(cls, file: Path) -> Stamp | None:
        """Of a file here; ``None`` where there is none."""
        try:
            stat = file.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


class Store:
    """A folder of an object store. Every method raises an OSError where the store refuses."""

    def __init__(self, uri: str) -> None:
        """Reach nothing yet.

        Args:
            uri: of the folder: ``s3://bucket/prefix``, perhaps with a query such as
                ``?endpoint_override=host:9000&scheme=http`` (pyarrow.fs).
        """
        self.uri = uri

    @functools.cached_property
    def _found(self) -> tuple[Any, str]:
        """The file system, which has answered, and the folder's path in it."""
        return _in_time(self._find)

    def _find(self) -> tuple[Any, str]:
        from pyarrow import fs

        uri, mark = self.uri, "&" if "?" in self.uri else "?"
        if uri.startswith("s3://"):
            # A small file in one request: parts would take three.
            system, root = fs.FileSystem.from_uri(f"{uri}{mark}allow_delayed_open=true")
            # One that was made of a URI waits for 99 s for whoever does not answer; its copy has AWS's own patience.
            system = copying.copy(system)
        else:
            # Else Google's library would try for 15 minutes, in silence.
            system, root = fs.FileSystem.from_uri(uri if RETRY_LIMIT in uri else f"{uri}{mark}{RETRY_LIMIT}=1")
        system.get_file_info(root)
        return system, root

    def names(self, under: str = "") -> dict[str, Stamp]:
        """The files below a folder, by their names relative to the store's."""
        from pyarrow import fs

        def names(system: Any, root: str) -> dict[str, Stamp]:
            top = f"{root}/{under}".rstrip("/")
            infos = system.get_file_info(fs.FileSelector(top, allow_not_found=True, recursive=True))
            files = [each for each in infos if each.is_file]
            return {each.path.removeprefix(f"{root}/"): Stamp(each.size, each.mtime_ns) for each in files}

        return self._tried(names)

    def read(self, name: str) -> bytes:
        """All of a file."""

        def read(system: Any, root: str) -> bytes:
            with system.open_input_stream(f"{root}/{name}") as file:
                return file.read()

        return self._tried(read)

    def write(self, name: str, content: bytes) -> None:
        """Put a file there; a reader sees the old content or the new one."""

        def write(system: Any, root: str) -> None:
            with system.open_output_stream(f"{root}/{name}") as file:
                file.write(content)

        try:
            self._tried(write)
        except FileNotFoundError:  # a folder need not be there
            raise OSError(f"{self.uri}: there is no such bucket") from None

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._tried(lambda system, root: system.delete_file(f"{root}/{name}"))

    def _tried(self, call: Callable[[Any, str], T]) -> T:
        from pyarrow import ArrowException

        began = time.monotonic()
        for tries_left in reversed(range(TRIES)):
            try:
                return call(*self._found)
            except FileNotFoundError:
                raise
            except (OSError, ValueError, ArrowException) as error:
                is_for_good = not isinstance(error, OSError)  # a wrong address, or a broken file of keys
                if is_for_good or not tries_left or time.monotonic() - began >= ANSWER_SECONDS:
                    raise OSError(_refused(self.uri, error)) from None
                time.sleep(RETRY_SECONDS)
        raise AssertionError


def _in_time(call: Callable[[], T]) -> T:
    """What the call returns.

    Raises:
        OSError: it takes too long; it goes on, unheard: a request cannot be taken back.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="store answers", daemon=True).start()
    if not wait([answer], ANSWER_SECONDS).done:
        raise OSError(f"no answer within {ANSWER_SECONDS:g} s")
    return answer.result()


def _refused(uri: str, error: Exception) -> str:
    """What a store's library says, without what only its authors can read, and what to do."""
    said = " ".join(str(error).split())
    if found := re.search(r"Status\((\w+): .*?with a last message of (.*?) error_info=", said):
        said = f"{found[1]}: " + re.sub(r"(OAuth2 access token) .* error message was:", r"\1:", found[2])
    said = f"{uri}: {said}"
    advice = next((f"; {advice}" for sign, advice in ADVICE.items() if re.search(sign, said)), "")
    return said + advice


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


def refusal(error: OSError) -> str:
    """What a store, or a disk, has refused, in a line."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def waited_for(call: Callable[[], T]) -> T:
    """What the call returns, as soon as the store, which was there before, takes and gives again.

    Raises:
        FileNotFoundError: what it is asked for is not there.
        OSError: it does not for too long.
    """
    until = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return call()
        except FileNotFoundError:
            raise
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_SECONDS)


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
