"""Entries of a simulator's configuration objects, by their dotted paths."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import inspect
import sys
import types
import typing
from typing import Any


class ConfigError(ValueError):
    """The task, or a parameter of it, is not what the simulator has. The message is for the user."""


def entry(root: Any, path: str) -> Any:
    """One entry of a configuration tree (objects, dicts, lists) by its dotted path.

    Raises:
        ConfigError: there is no such entry.
    """
    for part in path.split("."):
        root = _entry(root, part, path)
    return root


def set_entry(root: Any, path: str, value: Any, *, shown: str) -> None:
    """Set one entry of a configuration tree (objects, dicts, lists) by its dotted path.

    An int is taken for a float and a list for a tuple; nothing else is converted.

    Raises:
        ConfigError: there is no such entry, it is a whole section, or it has another type.
    """
    *parents, leaf = path.split(".")
    owner = root
    for part in parents:
        owner = _entry(owner, part, shown)
    current = _entry(owner, leaf, shown)
    value = _converted(current, value, _hints(owner, leaf), shown)
    if isinstance(owner, dict):
        owner[leaf] = value
    elif isinstance(owner, list):
        owner[int(leaf)] = value
    else:
        setattr(owner, leaf, value)


def _entry(owner: Any, part: str, shown: str) -> Any:
    names = _names(owner)
    if part not in names:
        close = difflib.get_close_matches(part, names, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"it has {', '.join(names) or 'no entries'}"
        raise ConfigError(f"{shown}: the configuration has no '{part}' there; {hint}")
    if isinstance(owner, dict):
        return owner[part]
    return owner[int(part)] if isinstance(owner, list | tuple) else getattr(owner, part)


def _names(owner: Any) -> list[str]:
    if isinstance(owner, dict):
        return [key for key in owner if isinstance(key, str)]
    if isinstance(owner, list | tuple):
        return [str(i) for i in range(len(owner))]
    return [name for name in getattr(owner, "__dict__", {}) if not name.startswith("_")]


def _hints(owner: Any, leaf: str) -> list[Any]:
    """The types that a dataclass gives for an entry, those of a union one by one; none where that is not known."""
    if not dataclasses.is_dataclass(owner):
        return []
    where = next((each for each in type(owner).__mro__ if leaf in inspect.get_annotations(each)), None)
    if where is None:
        return []
    given = inspect.get_annotations(where)[leaf]
    alone = types.SimpleNamespace(__annotations__={leaf: given})  # the others may not resolve
    try:
        hint = typing.get_type_hints(alone, vars(sys.modules[where.__module__]))[leaf]
    except (NameError, TypeError):
        return []
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return list(typing.get_args(hint)) if union else [hint]


def _converted(current: Any, value: Any, hints: list[Any], shown: str) -> Any:
    words = [word for hint in hints if typing.get_origin(hint) is typing.Literal for word in typing.get_args(hint)]
    if words and value not in words:
        raise ConfigError(f"{shown} is one of {', '.join(map(str, words))}, not {value!r}")
    if current is None:
        kinds = [hint for hint in hints if hint in (bool, int, float, str)]
        return _as_kind(kinds[0], value, shown) if len(kinds) == 1 else value
    if isinstance(current, bool | int | float | str) and not isinstance(current, enum.Enum):
        return _as_kind(type(current), value, shown, f" (now {current!r})")
    if isinstance(current, tuple | list) and isinstance(value, list):
        return type(current)(value)
    raise ConfigError(f"{shown} is no single value: name an entry inside it ({', '.join(_names(current)) or 'none'})")


def _as_kind(kind: type, value: Any, shown: str, now: str = "") -> Any:
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise ConfigError(f"{shown} takes {_noun(kind)}{now}, not {value!r}")


def _noun(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
