"""The simulators that a sweep can train on, by name; loaded only in a worker."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """

    module: str
    class_name: str
    requires: str
    install: str


SIMULATORS = {
    "mjlab": Entry("go1_sweep.simulators.mjlab", "Mjlab", "mjlab", "pip install 'go1_sweep[mjlab]'"),
    "fake": Entry("go1_sweep.simulators.fake", "Fake", "rsl_rl", "pip install 'go1_sweep[mjlab]'"),
}

AUTOMATIC = ("mjlab",)
"""What ``simulator: auto`` tries, in this order."""


def load(name: str) -> Simulator:
    """Import and make the simulator.

    Raises:
        ImportError: it is not installed in this interpreter.
    """
    entry = SIMULATORS[name]
    return getattr(importlib.import_module(entry.module), entry.class_name)()
