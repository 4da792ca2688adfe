"""What this machine has, what is missing for what, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from go1_sweep import __version__
from go1_sweep.errors import BadInput, UserError
from go1_sweep.findings import MISSING, NOTE, OK, Finding, show
from go1_sweep.paths import copy_of, shown
from go1_sweep.simulators import AUTOMATIC, SIMULATORS
from go1_sweep.spec import Spec
from go1_sweep.store import sweep_copy
from go1_sweep.worker.probing import probe

DRIVER = ("ray", "optuna")
"""What the sweep itself rests on."""

RESTS_ON = {
    "isaaclab": ("isaaclab", "isaacsim", "newton", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch"),
    "mjlab": ("mjlab", "mujoco", "mujoco-warp", "warp-lang", "rsl-rl-lib", "torch"),
    "fake": ("rsl-rl-lib", "torch"),
}
"""The packages of a simulator; where the first is installed, the simulator is."""

OLDEST_PYTHON = (3, 11)

RESULT_BYTES = 10**9
"""A checkpoint of a Go1 policy has about 5 MB, and a trial keeps several."""

SHARED = Path("/dev/shm")

SHARED_BYTES = 100 * 1024 * 1024
"""The object store of a sweep's Ray."""

SOFTWARE_RENDERERS = ("llvmpipe", "softpipe", "swrast")


@dataclass(frozen=True)
class Gpu:
    """What nvidia-smi says of a GPU; the memory is ``None`` where the GPU has none of its own."""

    name: str
    memory_mib: int | None
    driver: str


@dataclass(frozen=True)
class Disk:
    """A folder that is written to: bytes that are free there, or why none can be written."""

    folder: Path
    free: int
    problem: str = ""


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        python: the interpreter that has the simulator; ``None``: the current one.
        simulator: a name in ``SIMULATORS``, or ``auto``.
        probed: the answer of ``probe``, all sections.
        packages: versions of ``DRIVER``, as far as installed.
        gpus: as nvidia-smi lists them.
        gpu_problem: why nvidia-smi lists none although there is a GPU device.
        storage: the folder of the sweeps.
        shared_memory: /dev/shm.
    """

    python: str | None
    simulator: str
    probed: dict[str, Any]
    packages: dict[str, str]
    gpus: list[Gpu]
    gpu_problem: str
    storage: Disk
    shared_memory: Disk


def examine(spec: Spec | None = None, python: str | None = None, storage: str | None = None) -> None:
    """Print what this machine has for the spec's sweep, a line a finding.

    Args:
        spec: names the simulator, its interpreter and the folder of the results; ``None``: the defaults.
        python: another interpreter than the spec's.
        storage: another folder than the spec's.

    Raises:
        BadInput: the interpreter cannot be started, or is no Python.
        UserError: something is missing.
    """
    found = findings(gather(spec, python, storage))
    show(found)
    missing = [finding.what for finding in found if finding.level == MISSING]
    if missing:
        raise UserError(f"missing: {', '.join(missing)}")
    print("Nothing is missing.")


def gather(spec: Spec | None, python: str | None, storage: str | None) -> Machine:
    """Look at the machine; the arguments and errors are those of ``examine``."""
    simulator = spec.simulator if spec else "auto"
    python = python or _named_python(spec)
    try:
        probed = probe(python)
    except OSError as error:
        raise UserError(f"there is no place for temporary files: {error}; make room, or set TMPDIR") from None
    if problem := probed["packages"]["problem"]:
        raise BadInput(f"the interpreter {python or 'that runs this'} does not work: {problem}")
    gpus, gpu_problem = _gpus()
    folder = storage or (spec.storage if spec else Spec.model_fields["storage"].default)
    return Machine(
        python=python,
        simulator=simulator,
        probed=probed,
        packages={name: version for name in DRIVER if (version := _version(name))},
        gpus=gpus,
        gpu_problem=gpu_problem,
        storage=_storage_at(folder),
        shared_memory=_disk(SHARED) if SHARED.is_dir() else Disk(SHARED, 0, "is not there"),
    )


def findings(machine: Machine) -> list[Finding]:
    """What there is to say of the machine, in the order in which it is read."""
    return [
        *_driver(machine),
        *_simulators(machine),
        *_compute(machine),
        *_videos(machine),
        _storage(machine.storage),
        _shared_memory(machine.shared_memory),
    ]


def _driver(machine: Machine) -> list[Finding]:
    found = [Finding(OK, f"go1_sweep {__version__} (Python {platform.python_version()})")]
    for name in DRIVER:
        if version := machine.packages.get(name):
            found.append(Finding(OK, f"{name} {version}"))
        else:
            found.append(Finding(MISSING, f"{name} (sweeps)", "not installed", mend=f"pip install {name}"))
    if machine.python is None:
        return found
    version = machine.probed["packages"]["python"]
    if tuple(map(int, version.split(".")[:2])) >= OLDEST_PYTHON:
        return [*found, Finding(OK, f"Python {version} in {machine.python}")]
    wanted = ".".join(map(str, OLDEST_PYTHON))
    detail = f"{machine.python} is Python {version}, and {wanted} or later is wanted"
    mend = "name another one with --python, or in the sweep file (mjlab.python)"
    return [*found, Finding(MISSING, "Python (training)", detail, mend=mend)]


def _simulators(machine: Machine) -> list[Finding]:
    isaaclab = machine.probed["isaaclab"]
    versions = machine.probed["packages"]["versions"] | {"isaaclab": isaaclab["release"]}
    names = AUTOMATIC if machine.simulator == "auto" else (machine.simulator,)
    found = []
    for name in names:
        if name == "isaaclab" and isaaclab["problem"]:
            mend = _in(machine.python, isaaclab["mend"])
            found.append(Finding(MISSING, "isaaclab (training)", isaaclab["problem"], mend=mend))
        elif versions.get(RESTS_ON[name][0]):
            rest = [f"{each} {versions[each]}" for each in RESTS_ON[name] if each in versions and each != name]
            found.append(Finding(OK, f"{name} {versions.get(name, '')}".rstrip() + f" ({', '.join(rest)})"))
    if not found:
        mend = " or ".join(_in(machine.python, SIMULATORS[name].install) for name in names)
        where = machine.python or "this interpreter"
        found = [Finding(MISSING, f"{' or '.join(names)} (training)", f"not installed in {where}", mend=mend)]
    return found


def _compute(machine: Machine) -> list[Finding]:
    torch, gpus = machine.probed["torch"], machine.gpus
    count = len(torch["devices"])
    if torch["problem"] or (gpus and not count):
        problem = torch["problem"] or f"torch {torch['version']} sees none of them"
        what = "torch (training on the GPUs)" if torch["version"] else "torch (training)"
        found = [Finding(MISSING, what, problem, mend=_in(machine.python, torch["mend"]))]
    else:
        uses = f" of {len(gpus)}" * (count < len(gpus)) + f" GPU{'s' * (max(count, len(gpus)) > 1)}"
        found = [Finding(OK, f"torch {torch['version']}", f"uses {count}{uses}" if count else "uses the CPU")]
    for i, gpu in enumerate(gpus):
        memory = f"{gpu.memory_mib / 1024:.0f} GiB, " if gpu.memory_mib else ""
        found.append(Finding(OK, f"GPU {i}: {gpu.name}", f"{memory}driver {gpu.driver}"))
    if machine.gpu_problem:
        level = NOTE if count else MISSING
        mend = "install the NVIDIA driver with its nvidia-smi"
        found.append(Finding(level, "NVIDIA driver (training on the GPUs)", machine.gpu_problem, mend=mend))
    elif not gpus and not count:
        found.append(Finding(NOTE, "no NVIDIA GPU", "trials run on the CPU"))
    return found


def _videos(machine: Machine) -> list[Finding]:
    graphics, encoder = machine.probed["graphics"], machine.probed["encoder"]
    found = []
    if machine.simulator in ("auto", "isaaclab") and machine.probed["isaaclab"]["release"]:
        found.append(Finding(NOTE, "Isaac Lab's pictures (videos)", "whether it can draw here is seen when it films"))
    elif graphics["problem"]:
        mend = _in(machine.python, graphics["mend"])
        found.append(Finding(MISSING, "EGL (videos)", graphics["problem"], mend=mend))
    elif machine.gpus and graphics["renderer"].startswith(SOFTWARE_RENDERERS):
        detail = f"draws with {graphics['renderer']}, slowly, beside a GPU"
        mend = "install the libnvidia-gl package of the NVIDIA driver; in a container NVIDIA_DRIVER_CAPABILITIES=all"
        found.append(Finding(NOTE, "EGL (videos)", detail, mend=mend))
    else:
        found.append(Finding(OK, "EGL (videos)", f"draws with {graphics['renderer']}"))
    if encoder["problem"]:
        mend = _in(machine.python, encoder["mend"])
        found.append(Finding(MISSING, "H.264 encoder (videos)", encoder["problem"], mend=mend))
    else:
        found.append(Finding(OK, "H.264 encoder (videos)", f"libx264 of {Path(encoder['ffmpeg']).name}"))
    return found


def _storage(disk: Disk) -> Finding:
    mend = "make room there, or name another folder with --storage"
    free = f"{disk.free / 1e9:.1f} GB free"
    if disk.problem:
        return Finding(MISSING, "free disk (results)", f"{shown(disk.folder)} {disk.problem}", mend=mend)
    if disk.free < RESULT_BYTES:
        detail = f"{free} in {shown(disk.folder)}, and {RESULT_BYTES / 1e9:g} GB is wanted"
        return Finding(MISSING, "free disk (results)", detail, mend=mend)
    return Finding(OK, "free disk (results)", f"{free} in {shown(disk.folder)}")


def _shared_memory(disk: Disk) -> Finding:
    mend = "make room there; in a container docker run --shm-size=1g"
    if disk.problem:
        return Finding(MISSING, "/dev/shm (Ray)", disk.problem, mend=mend)
    free = f"{disk.free / 1e9:.1f} GB free"
    if disk.free < SHARED_BYTES:
        return Finding(NOTE, "/dev/shm (Ray)", f"{free}; Ray takes the disk instead", mend=mend)
    return Finding(OK, "/dev/shm (Ray)", free)


def _in(python: str | None, mend: str) -> str:
    """The command for the interpreter that it is meant for."""
    return f"{python} -m {mend}" if python and mend.startswith("pip ") else mend


def _named_python(spec: Spec | None) -> str | None:
    """The interpreter that the spec names; for ``simulator: auto`` the first one that it names."""
    if spec is None:
        return None
    names = AUTOMATIC if spec.simulator == "auto" else (spec.simulator,)
    return next(filter(None, map(spec.python_of, names)), None)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _gpus() -> tuple[list[Gpu], str]:
    """The GPUs, or why nvidia-smi lists none although there is a device."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
        rows = [line.split(", ") for line in done.stdout.splitlines()] if done.returncode == 0 else []
        problem = f"nvidia-smi fails: {(done.stdout + done.stderr).strip()[:300]}"
    except (OSError, subprocess.SubprocessError) as error:
        rows, problem = [], f"nvidia-smi does not run: {error}"
    gpus = [Gpu(row[0], int(row[1]) if row[1].isdecimal() else None, row[2]) for row in rows if len(row) == 3]
    has_device = any(Path("/dev").glob("nvidia[0-9]*"))
    return gpus, problem if has_device and not gpus else ""


def _storage_at(place: str) -> Disk:
    """Where results are written; of an object store, the place on this machine from which they are uploaded."""
    if "://" not in place:
        return _disk(Path(place).expanduser().absolute())
    copy = copy_of(place)
    try:
        sweep_copy.try_out(copy)
    except OSError as error:
        return Disk(copy, 0, f"cannot be used: {error}")
    return _disk(copy)


def _disk(folder: Path) -> Disk:
    """The file system that the folder is on, or will be."""
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Disk(folder, 0, f"cannot be read: {error.strerror}")
    if not there.is_dir():
        return Disk(folder, free, f"cannot be made: {shown(there)} is no folder")
    return Disk(folder, free, "" if os.access(there, os.W_OK | os.X_OK) else "cannot be written")
