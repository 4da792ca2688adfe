"""What is asked of an object store, and what it says when it refuses.

Credentials and the endpoint come from the environment, as the store's own tools have them (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from go1_sweep.patience import POLL_SECONDS

T = TypeVar("T")

SCHEMES = ("s3", "gs")
AWAY_SECONDS = 600.0
"""So long a store that has answered before is waited for, by whoever cannot do anything else meanwhile."""
TRIES = 4
"""Of a request that the store refused; its own library has tried each two or three times, within two seconds."""
RETRY_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""So long a store may take for its first answer; a request that failed after longer is not tried again at once."""
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
            system = copy.copy(system)
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
