"""Which Isaac Lab an interpreter has. Imports nothing of it, and runs in any Python from 3.8 on."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

INSTALL = {
    "isaacsim": "pip install 'isaacsim[all,extscache]==5.1.0' --extra-index-url https://pypi.nvidia.com",
    "newton": "./isaaclab.sh -i newton",
    "rsl_rl": "./isaaclab.sh -i rsl_rl",
}


def release() -> str:
    """Of Isaac Lab: of its checkout, whose packages have other versions, or of the package from PyPI; or nothing."""
    found = find_spec("isaaclab")
    if found is None:
        return ""
    for folder in Path(found.origin or "").parents[:4]:
        if (folder / "VERSION").is_file() and (folder / "source").is_dir():
            return (folder / "VERSION").read_text(encoding="utf-8").strip()
    try:
        return metadata.version("isaaclab")
    except metadata.PackageNotFoundError:
        return "of an unknown release"


def is_3() -> bool:
    """Whether it is Isaac Lab 3, which has Newton; only that comes with this package."""
    return find_spec("isaaclab_newton") is not None


def has_kit() -> bool:
    """Whether Isaac Sim is installed."""
    return find_spec("isaacsim") is not None


def physics(wanted: str = "auto") -> str:
    """``physx`` or ``newton``; ``auto`` is PhysX where Isaac Sim is, or nothing else can be."""
    return ("physx" if has_kit() or not is_3() else "newton") if wanted == "auto" else wanted


def problem(wanted: str = "auto") -> tuple[str, str]:
    """What is missing for physics, and the command that installs it; empty where nothing is."""
    if not release():
        return "Isaac Lab is not installed in this interpreter", "see https://isaac-sim.github.io/IsaacLab"
    name = f"Isaac Lab {release()} found"
    if physics(wanted) == "newton":
        if not is_3():
            return f"{name}, Newton missing: it comes with Isaac Lab 3 (physics: physx)", ""
        if find_spec("newton") is None:
            return f"{name}, Newton and Isaac Sim missing", INSTALL["newton"]
    elif not has_kit():
        return f"{name}, Isaac Sim missing: PhysX needs it", INSTALL["isaacsim"] if not is_3() else ""
    if find_spec("rsl_rl") is None:
        return f"{name}, rsl_rl missing", INSTALL["rsl_rl"]
    return "", ""
