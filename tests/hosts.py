"""Hosts of a cluster on this machine: network namespaces on a bridge, each with processes, mounts and a name.

Needs root. What is private to a host: its address, its process numbers, its home, and in /tmp what Ray and our actors
keep there. Ray is started again where it ends, as files of `cluster/` do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
from conftest import MARK, Command, alive, wait_for

PORT = 6379
ENTER = """
hostname {name}
mount --make-rprivate /
for each in ray go1_sweep-0; do
  mkdir -p {private}/$each /tmp/$each
  mount --bind {private}/$each /tmp/$each
done
{hidden}
while true; do
  {ray} start {arguments} --node-ip-address={address} --disable-usage-stats --block
  sleep 1
done
"""


def say(text: str) -> None:
    """Print what happens, and when, for ``pytest -s``."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def why_not() -> str:
    """Why there can be none here; empty if there can."""
    if os.geteuid():
        return "hosts in network namespaces need root"
    if missing := [
        each for each in ("ip", "nsenter", "setpriv", "unshare", "pgrep", "pkill") if shutil.which(each) is None
    ]:
        return f"hosts in network namespaces need {', '.join(missing)} (Debian packages iproute2, util-linux, procps)"
    name = f"g{secrets.token_hex(3)}"
    for command in (["ip", "netns", "add", name], ["ip", "netns", "del", name]):
        if subprocess.run(command, capture_output=True).returncode:
            return "network namespaces are not allowed here"
    return ""


@dataclass
class Host:
    """A host; ``process`` holds all of it."""

    name: str
    address: str
    process: subprocess.Popen[bytes]

    def cut_power(self) -> None:
        """End all processes of it, at once."""
        say(f"{self.name} is killed")
        subprocess.run(["pkill", "-KILL", "-P", str(self.process.pid)], check=True)
        self.process.wait()

    def cut_off(self) -> None:
        """Pull its cable."""
        say(f"{self.name} is cut off")
        _ip("link", "set", self.name, "down")

    def let_back(self) -> None:
        """Put it in again."""
        say(f"{self.name} is let back")
        _ip("link", "set", self.name, "up")


@dataclass
class Hosts:
    """Hosts of one cluster, the first of which is its head."""

    folder: Path
    has_dashboard: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    bridge: str = field(default_factory=lambda: f"g{secrets.token_hex(3)}")
    net: str = field(default_factory=lambda: f"10.77.{secrets.randbelow(256)}")
    all: list[Host] = field(default_factory=list)

    @property
    def outside(self) -> str:
        """This machine's address, as they see it."""
        return f"{self.net}.1"

    def add(self, cpus: int, *, hides: Path | None = None, has: str = "") -> Host:
        """Another host.

        Args:
            cpus: for Ray.
            hides: a folder that it does not share: it has an empty one there.
            has: the name of another of Ray's resources.
        """
        number = len(self.all) + 1
        name, address = f"{self.bridge}h{number}", f"{self.net}.{number + 1}"
        _ip("netns", "add", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", self.bridge, "up")
        for change in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _ip("-n", name, *change.split())
        private = self.folder / name
        (private / "empty").mkdir(parents=True)
        joins = f"--head --port={PORT} --include-dashboard={str(self.has_dashboard).lower()} --dashboard-host=0.0.0.0"
        if self.all:
            joins = f"--address={self.all[0].address}:{PORT}"
        if has:
            joins += f""" --resources='{{"{has}": 1}}'"""
        script = ENTER.format(
            name=name,
            private=private,
            hidden=f"mount --bind {private}/empty {hides}" if hides else "",
            ray=Path(sys.executable).with_name("ray"),
            arguments=f"--num-cpus={cpus} {joins}",
            address=address,
        )
        enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net=/run/netns/{name}"]  # it ends with us, however we do
        enter += ["unshare", "--pid", "--fork", "--kill-child"]
        enter += ["--mount", "--mount-proc", "--uts", "sh", "-c", script]
        with open(private / "ray.txt", "wb") as said:
            process = subprocess.Popen(enter, stdout=said, stderr=said, env=self._environment(private))
        host = Host(name, address, process)
        self.all.append(host)
        started = private / "ray.txt"
        wait_for(lambda: "Ray runtime started" in started.read_text(), 60, f"Ray on {name}")
        say(f"{name} ({address}) is up, with {cpus} CPUs for trials")
        return host

    def start(self, *arguments: str) -> Command:
        """``python -m go1_sweep ...`` on the head."""
        head = self.all[0]
        (child,) = subprocess.run(
            ["pgrep", "-P", str(head.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        enter = ["nsenter", f"--target={child}", "--mount", "--net", "--pid", "--uts", f"--wd={Path.cwd()}"]
        arguments = (*arguments, "--address", f"{head.address}:{PORT}")
        say(f"{head.name}: python -m go1_sweep {' '.join(arguments)}")
        return _started(enter, arguments, self._environment(self.folder / head.name), Path.cwd())

    def start_outside(self, *arguments: str, cwd: Path, hides: Path, **variables: str) -> Command:
        """``python -m go1_sweep ...`` on a machine that reaches the hosts, and does not have that folder of theirs."""
        empty = self.folder / "empty"
        empty.mkdir(exist_ok=True)
        script = f'mount --make-rprivate / && mount --bind {empty} {hides} && exec "$@"'
        enter = ["unshare", "--mount", "sh", "-c", script, "sh"]
        return _started(enter, arguments, {**self._environment(self.folder), **variables}, cwd)

    @property
    def dashboard(self) -> str:
        """The address of the head's."""
        return f"http://{self.all[0].address}:8265"

    def ray(self, *arguments: str) -> None:
        """``ray ... --address`` of the dashboard, outside."""
        command = [Path(sys.executable).with_name("ray"), *arguments, "--address", self.dashboard]
        subprocess.run(command, env=self._environment(self.folder), check=True, capture_output=True)

    def running(self) -> list[str]:
        """The command lines of ours on all hosts."""
        found = []
        for process in alive([p for h in self.all for p in psutil.Process(h.process.pid).children(recursive=True)]):
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(" ".join(process.cmdline()))
        return [line for line in found if "-m go1_sweep" in line]

    def _environment(self, home: Path) -> dict[str, str]:
        quick = {"RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000"}
        quick |= {"RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        python = {"PYTHONPATH": str(Path.cwd()), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return {**os.environ, **quick, **token, **python, "HOME": str(home)}


@contextlib.contextmanager
def hosts(folder: Path, *cpus: int, has_dashboard: bool = False) -> Iterator[Hosts]:
    """Hosts with so many CPUs for Ray, of which the first is the head."""
    found = Hosts(folder, has_dashboard)
    _ip("link", "add", found.bridge, "type", "bridge")
    try:
        _ip("addr", "add", f"{found.outside}/24", "dev", found.bridge)
        _ip("link", "set", found.bridge, "up")
        for each in cpus:
            found.add(each)
        yield found
    finally:
        for host in found.all:
            if host.process.poll() is None:
                host.process.kill()  # and its --kill-child all of it
                host.process.wait()
            _ip("netns", "del", host.name)
        _ip("link", "del", found.bridge)


def _started(enter: list[str], arguments: Sequence[str], environment: dict[str, str], cwd: Path) -> Command:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [*enter, sys.executable, "-m", "go1_sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env={**environment, MARK: mark},
    )
    return Command(process, mark)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
