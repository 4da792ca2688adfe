"""Reads a YAML mapping and remembers the line of every value.

PyYAML parses; the values are built here from its node tree, because a sweep file needs three things
that ``safe_load`` does not give: line numbers for messages, an error for a key that stands twice,
and numbers as YAML 1.2 has them (``147e6`` and ``1e-3`` are numbers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from go1_sweep.errors import BadInput

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf", ".Inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}

Path_ = tuple[str | int, ...]


@dataclass
class Document:
    """A mapping, and where its values stand.

    Attributes:
        data: plain dicts, lists and scalars.
        lines: the line (from 1) of each key and list item, by its path from the root.
    """

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path_, int] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """``file:line`` of the path, or of its nearest parent that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines[path]}" if path else self.source


def read(path: Path) -> Document:
    """Read a YAML file whose root is a mapping.

    Raises:
        BadInput: not there, not readable, too large, not YAML, not a mapping, a key twice.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadInput(f"{path} has {size} bytes: a sweep file has at most {MAX_BYTES}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder, not a sweep file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    root = _compose(text, str(path))
    document = Document(str(path))
    if not isinstance(root, yaml.MappingNode):
        raise BadInput(f"{path}: a sweep file is a mapping of keys to values, this is {_kind(root)}")
    document.data = _Builder(document).build(root, (), 0)
    return document


def scalar(text: str) -> Any:
    """The value that the text has in a sweep file, as ``--set key=text`` needs it.

    Raises:
        BadInput: the text is no YAML value.
    """
    root = _compose(text, "--set")
    return None if root is None else _Builder(Document("--set")).build(root, (), 0)


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{source}{line}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{source}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadInput(f"{source}: nested too deeply") from None


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "empty"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


class _Builder:
    """Builds plain values; the count of values bounds what aliases can blow up to."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def build(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > MAX_VALUES:
            raise self._error(line, f"more than {MAX_VALUES} values (aliases count each time)")
        if depth > MAX_DEPTH:
            raise self._error(line, "nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*path, i), depth) for i, child in enumerate(node.value)]
        return self._scalar(node, line)

    def _item(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self._document.lines[path] = node.start_mark.line + 1
        return self.build(node, path, depth + 1)

    def _mapping(self, node: yaml.MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, "a key is a word, not a list or a mapping")
            key = key_node.value
            if key == "<<":
                raise self._error(line, "merge keys (<<) are not supported: write the keys out")
            if key in result:
                raise self._error(line, f"the key '{key}' stands twice in '{'.'.join(map(str, path)) or '/'}'")
            self._document.lines[(*path, key)] = line
            result[key] = self.build(value_node, (*path, key), depth + 1)
        return result

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        text = node.value
        if node.tag.startswith("tag:yaml.org,2002:python") or node.tag.startswith("!"):
            raise self._error(line, f"the tag {node.tag} is not allowed")
        if getattr(node, "style", None) is not None:  # quoted or a block: a string whatever it says
            return text
        if text in _SPECIAL:
            return _SPECIAL[text]
        if _INT.fullmatch(text):
            return int(text) if len(text) < 30 else float(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return text

    def _error(self, line: int, problem: str) -> BadInput:
        return BadInput(f"{self._document.source}:{line}: {problem}")
