"""The simulators that a sweep can train on, by name; loaded only in a worker."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from go1_sweep.simulators.base import Simulator


@dataclass(frozen=True)
class Entry:
    """Where a simulator's class is, and what must be installed for it.

    Attributes:
        module: the module of the class.
        class_name: the class, a ``Simulator``.
        requires: a module that is there where the simulator is installed.
        install: the command that installs it.
        rough: the id of the Go1's task on rough terrain.
        flat: the id of its task on flat ground.
        has_viewer: whether it can show what happens.
        app: the module whose ``launch`` starts what has to run before the simulator's module is imported.
        film_needs: sections of ``trial/probe.py`` without which it cannot draw, or a film cannot be written.
    """

    module: str
    class_name: str
    requires: str
    install: str
    rough: str
    flat: str
    has_viewer: bool = False
    app: str = ""
    film_needs: tuple[str, ...] = ("graphics", "encoder")

    @property
    def aliases(self) -> dict[str, str]:
        """Short and foreign names of tasks (``flat``, ``rough``, Isaac Lab's ids) -> the simulator's own id."""
        isaaclab = {
            f"Isaac-Velocity-{kind}-Unitree-Go1{variant}-v0": task_id
            for kind, task_id in (("Rough", self.rough), ("Flat", self.flat))
            for variant in ("", "-Play")
        }
        return {"rough": self.rough, "flat": self.flat, **isaaclab}


SIMULATORS = {
    "mjlab": Entry(
        module="go1_sweep.simulators.mjlab",
        class_name="Mjlab",
        requires="mjlab",
        install="pip install 'go1_sweep[mjlab]'",
        rough="Mjlab-Velocity-Rough-Unitree-Go1",
        flat="Mjlab-Velocity-Flat-Unitree-Go1",
        has_viewer=True,
    ),
    "isaaclab": Entry(
        module="go1_sweep.simulators.isaaclab",
        class_name="IsaacLab",
        requires="isaaclab",
        install="https://isaac-sim.github.io/IsaacLab",
        rough="Isaac-Velocity-Rough-Unitree-Go1-v0",
        flat="Isaac-Velocity-Flat-Unitree-Go1-v0",
        app="go1_sweep.simulators.isaaclab_app",
        film_needs=("encoder",),  # whether Isaac Sim or Newton's viewer draws here, they say themselves
    ),
    "fake": Entry(
        module="go1_sweep.simulators.fake",
        class_name="Fake",
        requires="rsl_rl",
        install="pip install 'go1_sweep[mjlab]'",
        rough="Fake-Rough-Unitree-Go1",
        flat="Fake-Flat-Unitree-Go1",
        app="go1_sweep.simulators.fake_app",
    ),
}

AUTOMATIC = ("isaaclab", "mjlab")
"""What ``simulator: auto`` tries, in this order."""


def launch(name: str, device: str, *, draws: bool, **options: Any) -> None:
    """Start what a simulator rests on; before ``load``, once in a process, and on its main thread.

    Args:
        name: of the simulator.
        device: ``cpu``, ``cuda:0``, or ``auto``: what there is.
        draws: whether this process will be asked for pictures.
        options: what only this simulator takes.

    Raises:
        ConfigError: it cannot run here; the message says why.
    """
    if app := SIMULATORS[name].app:
        importlib.import_module(app).launch(device, draws=draws, **options)


def load(name: str) -> Simulator:
    """Import and make the simulator.

    Raises:
        ImportError: it is not installed in this interpreter.
    """
    entry = SIMULATORS[name]
    return getattr(importlib.import_module(entry.module), entry.class_name)()
