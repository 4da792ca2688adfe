"""Reads YAML mappings and remembers where every value stands; writes what it reads back the same.

PyYAML parses; the values are built here from its node tree, because a sweep file needs three things
that ``safe_load`` does not give: line numbers for messages, an error for a key that stands twice,
and numbers as YAML 1.2 has them (``147e6`` and ``1e-3`` are numbers).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from go1_sweep.errors import BadInput

MAX_BYTES = 100_000
"""A sweep file has about 2,000; PyYAML takes a second for this many."""
MAX_VALUES = 20_000
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}

Path_ = tuple[str | int, ...]


@dataclass
class Document:
    """A mapping, and where its values stand.

    Attributes:
        source: the file.
        data: plain dicts, lists and scalars.
        places: by path from the root, ``file:line`` of each key and list item (lines from 1), or the
            flag of the command line that set it.
    """

    source: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)

    def where(self, path: Path_) -> str:
        """The place of the path, or of its nearest parent that has one."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.source)

    def put(self, path: tuple[str, ...], value: Any, place: str) -> None:
        """Set a value that stands outside the file; mappings on the way to it are made.

        Raises:
            ValueError: something on the way is no mapping.
        """
        self.places = {p: at for p, at in self.places.items() if p[: len(path)] != path}
        target = self.data
        for depth, key in enumerate(path[:-1], start=1):
            if key not in target:
                target[key] = {}
                self.places[path[:depth]] = place
            target = target[key]
            if not isinstance(target, dict):
                raise ValueError(
                    f"{'.'.join(path[:depth])} is {in_yaml(target)}, not a section: nothing can be set in it"
                )
        target[path[-1]] = value
        self.places[path] = place


def read(path: Path) -> Document:
    """Read a YAML file whose root is a mapping.

    Raises:
        BadInput: not there, not readable, too large, not YAML, not a mapping, a key twice.
    """
    (document,) = _read(path, "a sweep file", lambda text: [_compose(text)], _printable)
    return document


def read_all(path: Path, what: str) -> list[Document]:
    """Read another program's YAML file: mappings, of which empty ones are left out, and texts of several lines.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        BadInput: not there, not readable, too large, not YAML, not a mapping, a key twice.
    """
    return _read(path, what, _compose_all, lambda text, line: text)


def text(path: Path, what: str) -> str:
    """The content of a file.

    Args:
        path: the file.
        what: it is, for messages.

    Raises:
        BadInput: not there, not readable, too large, not UTF-8.
    """
    try:
        with open(path, "rb") as file:  # may be a pipe, which has no size
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BadInput(f"{path} has more than {MAX_BYTES} bytes, which no {what.partition(' ')[2]} needs")
        return content.decode()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder, not {what}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not text in UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def scalar(text: str) -> Any:
    """The value that the text has in a sweep file, as ``--set key=text`` needs it.

    Raises:
        ValueError: the text is no YAML value.
    """
    root = _compose(text)
    return None if root is None else _Builder(Document(""), _printable).build(root, (), 0)


def dump(data: Mapping[str, Any]) -> str:
    """The mapping as YAML that ``read`` gives back the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


def in_yaml(value: Any) -> str:
    """A value as a message shows it: as a sweep file has it, on one line, cut where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _Problem(ValueError):
    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Refuses tags: a tag can make an object, and the others would have to be obeyed (``!!str 5``)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _Problem(event.start_mark.line + 1, f"tags are not supported, this has {tag}")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that ``read`` would take for a number; PyYAML knows only YAML 1.1's numbers."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


_Text = Callable[[str, int], str]
"""Takes a text and its line, and gives it back or refuses it."""


def _read(path: Path, what: str, compose: Callable[[str], list[yaml.Node | None]], takes: _Text) -> list[Document]:
    content, documents = text(path, what), []
    try:
        for root in compose(content):
            if not isinstance(root, yaml.MappingNode):
                raise BadInput(f"{path}: {what} is a mapping of keys to values, this is {_kind(root)}")
            document = Document(str(path))
            document.data = _Builder(document, takes).build(root, (), 0)
            documents.append(document)
    except _Problem as problem:
        raise BadInput(f"{path}{f':{problem.line}' if problem.line else ''}: {problem}") from None
    return documents


def _compose(text: str) -> yaml.Node | None:
    with _told(text):
        return _Loader(text).get_single_node()


def _compose_all(text: str) -> list[yaml.Node | None]:
    with _told(text):
        loader, nodes = _Loader(text), []
        while loader.check_node():
            nodes.append(loader.get_node())
    return [node for node in nodes if not (isinstance(node, yaml.ScalarNode) and not node.value)]


@contextlib.contextmanager
def _told(text: str) -> Iterator[None]:
    """What PyYAML raises, as a ``_Problem``."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
        if "'\\t'" in problem:
            problem += " (YAML is indented with spaces)"
        raise _Problem(mark.line + 1 if mark else None, f"not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Problem(line, f"not YAML: the character U+{error.character:04X} is not allowed") from None
    except RecursionError:
        raise _Problem(None, "nested too deeply") from None
    except _Problem:
        raise
    except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF"
        raise _Problem(None, "not YAML: the code of an escaped character is out of range") from None


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "empty"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


class _Builder:
    """Builds plain values; the count of values bounds what aliases can blow up to."""

    def __init__(self, document: Document, takes: _Text) -> None:
        self._document = document
        self._takes = takes
        self._count = 0

    def build(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self._count += 1
        line = node.start_mark.line + 1
        if self._count > MAX_VALUES:
            raise _Problem(line, f"more than {MAX_VALUES} values (an alias counts as all that it stands for)")
        if depth > MAX_DEPTH:
            raise _Problem(line, f"more than {MAX_DEPTH} levels, or an alias inside what it stands for")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*path, i), depth) for i, child in enumerate(node.value)]
        return self._scalar(node, line)

    def _item(self, node: yaml.Node, path: Path_, depth: int) -> Any:
        self._document.places[path] = f"{self._document.source}:{node.start_mark.line + 1}"
        return self.build(node, path, depth + 1)

    def _mapping(self, node: yaml.MappingNode, path: Path_, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = _key(key_node), key_node.start_mark.line + 1
            here = (*path, key)
            if key in result:
                first = self._document.places[here].rpartition(":")[2]
                raise _Problem(line, f"{'.'.join(map(str, here))} stands here again, after line {first}")
            self._document.places[here] = f"{self._document.source}:{line}"
            result[key] = self.build(value_node, here, depth + 1)
        return result

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        text = node.value
        if getattr(node, "style", None) is not None:  # quoted or a block: a string whatever it says
            return self._takes(text, line)
        if text in _SPECIAL:
            return _SPECIAL[text]
        if _INT.fullmatch(text):
            return int(text) if len(text) < 30 else float(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return self._takes(text, line)


def _key(node: yaml.Node) -> str:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.ScalarNode):
        raise _Problem(line, "a key is a word, not a list or a mapping")
    if node.value == "<<":
        raise _Problem(line, "merge keys (<<) are not supported: write the keys out")
    if not node.value:
        raise _Problem(line, "a key is missing before the ':'")
    return _printable(node.value, line)


def _printable(text: str, line: int) -> str:
    """The text; what cannot be printed cannot be a file name, a cell of a table or a line of a log either."""
    if not text.isprintable():
        raise _Problem(line, f"text is one line of printable characters, not {in_yaml(text)}")
    return text
