"""Starts what Isaac Lab rests on, before torch or anything else of it is imported: Kit may crash otherwise."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from go1_sweep.simulators import isaaclab_release
from go1_sweep.simulators.entries import ConfigError


@dataclass
class Launched:
    """What runs in this process.

    Attributes:
        physics: ``physx`` or ``newton``.
        kit: Isaac Sim's application; ``None``: there is none.
    """

    physics: str
    kit: Any


launched: Launched | None = None


def launch(device: str, *, draws: bool, physics: str = "auto") -> None:
    """Launch Isaac Sim, where the physics needs it, and register the tasks. Once in a process, on its main thread.

    Args:
        device: ``cpu``, ``cuda:0``, or ``auto``: the first GPU.
        draws: whether pictures will be taken: cameras cost memory, so that training does without.
        physics: ``physx``, ``newton``, or ``auto``: PhysX where Isaac Sim is installed.

    Raises:
        ConfigError: something is missing for it.
    """
    global launched
    why, mend = isaaclab_release.problem(physics)
    if why:
        raise ConfigError(f"{why}; mend it: {mend}" if mend else why)
    physics = isaaclab_release.physics(physics)
    kit = _launch_kit("cpu" if device == "cpu" else "cuda:0", draws=draws) if physics == "physx" else None
    launched = Launched(physics, kit)
    importlib.import_module("isaaclab_tasks")


def _launch_kit(device: str, *, draws: bool) -> Any:
    """Isaac Sim's application, without a window. It takes over stdout, and handles signals."""
    sys.argv = sys.argv[:1]  # it looks for arguments of its own there
    from isaaclab.app import AppLauncher  # pyright: ignore[reportMissingImports]

    # Rendering stays on the GPU that the worker was given.
    return AppLauncher(headless=True, enable_cameras=draws, video=draws, device=device, multi_gpu=False).app
