"""Makes the environment that Isaac Lab 2.3.2 is tested in: once, beside ``.venv``."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
STUBS = HERE / "stubs"
FOLDER = HERE.parents[1] / ".venv-isaaclab2"
PACKAGES = FOLDER / "lib" / "python3.11" / "site-packages"
STAMP = FOLDER / "stamp.json"


class Unavailable(Exception):
    """The environment cannot be made on this machine; the message says why."""


def python() -> Path:
    """The interpreter of an environment with Isaac Lab 2.3.2, rsl_rl 3.0.1 and the stand-in for Isaac Sim.

    Packages that the running environment has in the very version are linked, not downloaded. Torch must be one of
    them: it would be gigabytes.

    Raises:
        Unavailable: this is not Python 3.11 on Linux, torch is another version, or pip cannot get a package.
    """
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        raise Unavailable("Isaac Lab 2.3.2 needs Python 3.11 on Linux")
    with open(FOLDER.with_name(FOLDER.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_current():
            _make()
    return FOLDER / "bin" / "python"


def _is_current() -> bool:
    """Whether the environment is complete, made of these files, and nothing that it links to is gone."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    return stamp["made_of"] == _made_of() and all((PACKAGES / link).exists() for link in stamp["links"])


def _made_of() -> str:
    digest = hashlib.sha256(f"{sys.version} {sys.prefix}".encode())
    for path in sorted([Path(__file__), REQUIREMENTS, *STUBS.rglob("*")]):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(HERE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def _make() -> None:
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE))
    linked = {name for name, pin in pins.items() if _version(name) == pin}
    if "torch" not in linked:
        raise Unavailable(f"the tests of Isaac Lab 2.3.2 need torch {pins['torch']}, and there is {_version('torch')}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(FOLDER)], check=True)
    _install([f"{name}=={pin}" for name, pin in pins.items() if name not in linked])
    links = [link for name in sorted(_closure(linked, without=set(pins) - linked)) for link in _link(name)]
    shutil.copytree(STUBS, PACKAGES, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    STAMP.write_text(json.dumps({"made_of": _made_of(), "links": links}))


def _version(name: str) -> str | None:
    """The package's version in the running environment, without what names a build of it (``+cpu``)."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _install(requirements: list[str]) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(FOLDER / "bin" / "python"), "install", "--no-deps"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--no-input", *requirements], capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f"pip cannot install Isaac Lab 2.3.2: {done.stderr.strip().splitlines()[-1]}")


def _closure(names: set[str], without: set[str]) -> set[str]:
    """The packages, and what they require of what is here; not those that were installed in another version."""
    excluded = {_normal(name) for name in without}
    found: set[str] = set()
    pending = [_normal(name) for name in names]
    while pending:
        name = pending.pop()
        if name in found or name in excluded or _version(name) is None:
            continue
        found.add(name)
        required = importlib.metadata.requires(name) or []
        pending += [_normal(re.split(r"[^\w.-]", each)[0]) for each in required if "extra ==" not in each]
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _link(name: str) -> list[str]:
    """Link what the running environment has of the package; the names of the links."""
    distribution = importlib.metadata.distribution(name)
    entries = sorted({file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"})
    for entry in entries:
        if not (PACKAGES / entry).exists():
            (PACKAGES / entry).symlink_to(Path(str(distribution.locate_file(entry))))
    return entries
