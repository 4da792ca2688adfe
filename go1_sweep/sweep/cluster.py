"""A Ray cluster that is there already: joined as one of its drivers, and looked at before trials are sent to it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError, GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import go1_sweep
from go1_sweep.errors import BadInput, one_line
from go1_sweep.paths import shown, uri_of
from go1_sweep.spec import Spec
from go1_sweep.store.actors import on_node
from go1_sweep.store.object_store import Store, refusal
from go1_sweep.sweep import quiet_ray
from go1_sweep.sweep.preflight import Preflight, check, with_simulator
from go1_sweep.sweep.ray_watch import ending_with_head
from go1_sweep.sweep.results import gpu_names
from go1_sweep.sweep.slots import Slots, slots_for

ADDRESS = re.compile(r"[^\s:/]+:\d+")
TOKEN = (
    "its token must be in ~/.ray/auth_token, RAY_AUTH_TOKEN or the file of RAY_AUTH_TOKEN_PATH; "
    "a cluster that has none takes everybody, and us with RAY_AUTH_MODE=disabled"
)
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray's variable, in the environment of what its dashboard was told to run."""
CHECK_SECONDS = 60.0
"""After so long without an answer about the sweep file it is said what that may wait for."""
ANSWER_SECONDS = 10.0
NODE_SECONDS = 120.0
"""So long a node may take to start a process of ours and to look at the storage."""
LEAST_BYTES = 2**30
"""Free space, below which a sweep is not begun."""


@contextlib.contextmanager
def joined(address: str, then: str) -> Iterator[str]:
    """The cluster, until the context is left; what it ran for us ends then, however we end.

    Gives HOST:PORT of its dashboard; empty where none runs.

    Args:
        address: HOST:PORT of its head, or ``auto``: the one that runs on this machine. To a job of its own, the
            dashboard to which that was submitted.
        then: the command for a user whose cluster has lost its head.

    Raises:
        BadInput: there is none, it does not take us, or that is no address.
    """
    if "://" in address and IN_A_JOB in os.environ:
        address = "auto"
    if address != "auto" and not ADDRESS.fullmatch(address):
        raise BadInput(f"--address: expected HOST:PORT or auto, not '{address}'")
    try:
        context = quiet_ray.init(address=address, _node_ip_address=_own_address(address))
    except AuthenticationError:
        raise BadInput(f"--address: the Ray cluster at {address} does not take us: {TOKEN}") from None
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadInput(f"--address: no Ray cluster takes us at {address}: {one_line(error)} ({TOKEN})") from None
    try:
        with ending_with_head(context.address_info["gcs_address"], then):
            yield context.dashboard_url or ""
    finally:
        ray.shutdown()


def _own_address(address: str) -> str | None:
    """Ours, as the cluster's head sees it: without DNS or a way out of its network Ray would take 127.0.0.1.

    Raises:
        BadInput: nobody answers there, for which Ray would wait for minutes.
    """
    if address == "auto":
        return None
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
            return connection.getsockname()[0]
    except (OSError, OverflowError) as error:
        raise BadInput(f"--address: nobody answers at {address}: {error}") from None


def checked(spec: Spec, say: Callable[[str], None]) -> tuple[Spec, Preflight]:
    """What the simulator says of a sweep file, on a node that trials may get: the driver's need not have it.

    Where other sweeps hold all such nodes it waits for one, and says so.

    Raises:
        BadInput: see ``preflight``; or no node has what a trial wants.
    """
    slots = slots_for(spec.resources)  # else it would wait for a node for ever
    look = ray.remote(num_cpus=slots.cpus, num_gpus=slots.gpus, resources=slots.place, max_retries=0)(_check)
    answer = look.remote(spec)
    if not ray.wait([answer], timeout=CHECK_SECONDS)[0]:
        say(f"Waiting for a node with {slots.cpus} CPUs and {slots.gpus:g} GPUs free, and for the simulator on it")
    try:
        return ray.get(answer)
    except RayError as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, BadInput):
            raise BadInput(str(error.cause)) from None
        raise BadInput(f"a node that trials may get cannot check the sweep file: {_last_line(error)}") from None


def _check(spec: Spec) -> tuple[Spec, Preflight]:
    found = with_simulator(spec)
    return found, check(found)


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node says of itself.

    Attributes:
        versions: of Ray's and our package.
        gpus: the names of those that it has.
        problem: with the storage; empty if there is none.
        free: bytes there.
    """

    versions: dict[str, str]
    gpus: list[str]
    problem: str
    free: int


def check_nodes(folder: Path, slots: Slots) -> dict[str, list[str]]:
    """Make sure that each node which trials may get has our version, and reads and writes the sweep's folder.

    Gives the names of each host's GPUs.

    Args:
        folder: that was just made.
        slots: what a trial holds.

    Raises:
        BadInput: the first node that does not, and why.
    """
    word = secrets.token_hex(8)
    place = _place(folder)
    place.write(word)
    try:
        gpus = {}
        for (host, address), answer in _asked(slots, _look, place, word).items():
            who = f"node {host} ({address})"
            try:
                said: Any = ray.get(answer, timeout=NODE_SECONDS)
            except GetTimeoutError:
                raise BadInput(f"{who} gave no answer within {NODE_SECONDS:g} s") from None
            except RayError as error:
                raise BadInput(f"{who} does not run our package: {_last_line(error)}") from None
            _refuse(who, said, place)
            gpus[host] = said.gpus
        return gpus
    finally:
        place.clear()


def gpus_of_others(slots: Slots, known: Container[str]) -> dict[str, list[str]]:
    """The names of the GPUs of each host that joined meanwhile, and answers.

    Args:
        slots: what a trial holds.
        known: the other hosts.
    """
    asked = _asked(slots, gpu_names, known=known)
    if asked:
        ray.wait([*asked.values()], num_returns=len(asked), timeout=NODE_SECONDS)
    gpus = {}
    for (host, _), answer in asked.items():
        with contextlib.suppress(RayError):
            gpus[host] = ray.get(answer, timeout=0)
    return gpus


def _asked(slots: Slots, what: Callable, *arguments: Any, known: Container[str] = ()) -> dict[tuple[str, str], Any]:
    """The answer to come from each node that trials may get, by its host and address, but for those of known hosts."""
    asked = {}
    for node in ray.nodes():
        host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
        if node["Alive"] and slots.fits(node["Resources"]) and host not in known:
            there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ask = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(what)
            asked[host, address] = ask.remote(*arguments)
    return asked


def _last_line(error: RayError) -> str:
    """What Ray says of an error elsewhere ends with it."""
    return str(error).strip().splitlines()[-1]


def _refuse(who: str, node: Node, place: _Folder | _InStore) -> None:
    for package, version in _versions().items():
        if node.versions[package] != version:
            raise BadInput(f"{who} has {package} {node.versions[package]}, and this machine has {version}")
    if node.problem:
        raise BadInput(f"storage: {who} {node.problem}; {place.needed}")
    if node.free < LEAST_BYTES:
        raise BadInput(f"storage: {who} has {node.free / 1e9:.1f} GB left in {place.room}")


def _versions() -> dict[str, str]:
    return {"ray": ray.__version__, "go1_sweep": go1_sweep.__version__}


@dataclasses.dataclass(frozen=True)
class _Folder:
    """A place that the driver and the nodes share; ``file`` is made in it, and taken away again."""

    file: Path

    @property
    def needed(self) -> str:
        return f"all nodes need {shown(self.file.parent.parent)} under that path"

    @property
    def room(self) -> Path:
        """Where nodes write."""
        return self.file.parent

    def write(self, word: str) -> None:
        self.file.write_text(word)

    def look(self, word: str) -> str:
        """What is wrong on this node, if so."""
        try:
            if self.file.read_text() != word:
                return f"reads another {self.file} than the driver wrote"
            beside = self.file.with_name(f".{secrets.token_hex(8)}.tmp")
            beside.write_text(word)
            beside.unlink()
        except OSError as error:
            return f"cannot use {error.filename or self.file}: {error.strerror}"
        return ""

    def clear(self) -> None:
        self.file.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class _InStore:
    """Likewise, in an object store."""

    uri: str
    name: str
    needed = "all nodes need its endpoint and credentials in the environment of their `ray start`"

    @property
    def room(self) -> Path:
        """Where nodes write before they upload."""
        return on_node(self.uri)

    def write(self, word: str) -> None:
        Store(self.uri).write(self.name, word.encode())

    def look(self, word: str) -> str:
        """What is wrong on this node, if so."""
        try:
            if Store(self.uri).read(self.name) != word.encode():
                return f"reads another {self.uri} than the driver wrote"
            Store(self.uri).write(f"{self.name}.{platform.node()}", word.encode())
            Store(self.uri).delete(f"{self.name}.{platform.node()}")
            self.room.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"cannot use {refusal(error)}"
        return ""

    def clear(self) -> None:
        Store(self.uri).delete(self.name)


def _place(folder: Path) -> _Folder | _InStore:
    name = f".{secrets.token_hex(8)}.tmp"
    uri = uri_of(folder)
    return _InStore(uri, name) if uri else _Folder(folder / name)


def _look(place: _Folder | _InStore, word: str) -> Node:
    """What a node sees of what the driver wrote."""
    problem = place.look(word)
    return Node(_versions(), gpu_names(), problem, 0 if problem else shutil.disk_usage(place.room).free)
