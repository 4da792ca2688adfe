"""Modules that exist as far as they are imported: every name in them is a class that does nothing."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any

CONTENTS: dict[str, dict[str, Any]] = {}
"""What a module has that does something, by the module's name."""


class _Kind(type):
    """The type of stand-in classes: they have every attribute, and each is such a class."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Kind(name, (StandIn,), {"__module__": cls.__module__})
        setattr(cls, name, made)
        return made


class StandIn(metaclass=_Kind):
    """An object that can be called, entered, iterated over (it is empty), and that has every attribute."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> StandIn:
        return StandIn()

    def __getattr__(self, name: str) -> StandIn:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn()

    def __getitem__(self, key: object) -> StandIn:
        return StandIn()

    def __iter__(self) -> Iterator[StandIn]:
        return iter(())

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def __int__(self) -> int:
        return 0


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in CONTENTS:
            return importlib.import_module(f"{self.__name__}.{name}")
        made = _Kind(name, (StandIn,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    """Finds all modules below some packages, where nobody else did."""

    def __init__(self) -> None:
        self.packages: set[str] = set()

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] in self.packages:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(CONTENTS.get(module.__name__, {}))


_FINDER = _Finder()


def install(*packages: str) -> None:
    """From now on the packages and all modules below them can be imported."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
    _FINDER.packages.update(packages)
