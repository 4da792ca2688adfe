"""Finds a simulator without importing it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from go1_sweep.errors import BadInput, did_you_mean
from go1_sweep.simulators import AUTOMATIC, SIMULATORS
from go1_sweep.worker.probing import probe


def find_simulator(name: str, python_of: Callable[[str], str | None]) -> str:
    """The simulator of that name, or the first of the automatic ones that is installed.

    Args:
        name: of a simulator, or ``auto``.
        python_of: the interpreter that is named for a simulator, if one is; a simulator that is named as well is
            taken to be there, and says itself what is missing.

    Raises:
        BadInput: it is not installed, or there is none of that name; or an interpreter cannot be started.
    """
    if name != "auto" and name not in SIMULATORS:
        raise BadInput(f"unknown simulator '{name}'{did_you_mean(name, SIMULATORS)}")
    names = AUTOMATIC if name == "auto" else (name,)
    for each in names:
        if _has(python_of(each), each, is_named=name != "auto"):
            return each
    install = " or ".join(SIMULATORS[each].install for each in names)
    what = "no simulator" if name == "auto" else f"the simulator {name}"
    not_here = "is installed here" if name == "auto" else "is not installed here"
    elsewhere = f"name the interpreter that has it (--python; in a sweep file {names[0]}: {{python: PATH}})"
    raise BadInput(f"{what} {not_here}; install it: {install}; or {elsewhere}")


def _has(python: str | None, simulator: str, *, is_named: bool) -> bool:
    if python is None:
        return importlib.util.find_spec(SIMULATORS[simulator].requires) is not None
    if is_named:
        return True
    if simulator == "isaaclab":
        return bool(probe(python, "isaaclab")["isaaclab"]["release"])
    return SIMULATORS[simulator].requires in probe(python, "packages")["packages"]["versions"]
