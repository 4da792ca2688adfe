"""Entries of a simulator's configuration objects, by their dotted paths."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import typing
from typing import Any


class ConfigError(ValueError):
    """The task, or a parameter of it, is not what the simulator has. The message is for the user."""


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
    value = _converted(current, value, _allowed_words(owner, leaf), shown)
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


def _allowed_words(owner: Any, leaf: str) -> tuple[Any, ...]:
    if not dataclasses.is_dataclass(owner):
        return ()
    try:
        hint = typing.get_type_hints(type(owner)).get(leaf)
    except (NameError, TypeError):
        return ()
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _converted(current: Any, value: Any, words: tuple[Any, ...], shown: str) -> Any:
    if words and value not in words:
        raise ConfigError(f"{shown} is one of {', '.join(map(str, words))}, not {value!r}")
    if current is None:
        return value
    if isinstance(current, bool | int | float | str) and not isinstance(current, enum.Enum):
        wanted = type(current)
        if type(value) is wanted or (wanted is float and type(value) is int):
            return wanted(value)
        raise ConfigError(f"{shown} takes {_noun(wanted)} (now {current!r}), not {value!r}")
    if isinstance(current, tuple | list) and isinstance(value, list):
        return type(current)(value)
    raise ConfigError(f"{shown} is no single value: name an entry inside it ({', '.join(_names(current)) or 'none'})")


def _noun(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
