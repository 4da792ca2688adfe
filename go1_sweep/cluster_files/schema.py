"""JSON schemas over YAML documents: what does not fit, with its line and its dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from go1_sweep.errors import did_you_mean
from go1_sweep.findings import WRONG, Finding
from go1_sweep.yaml_file import Document, Path_, in_yaml


def violations(document: Document, schema: Mapping[str, Any]) -> list[Finding]:
    """All of them, in the order of the file's paths."""
    errors = sorted(Draft7Validator(schema).iter_errors(document.data), key=lambda error: list(map(str, error.path)))
    return [violation(document, *said) for error in errors for said in _sentences(error)]


def violation(document: Document, path: Path_, what: str) -> Finding:
    """One, at the path."""
    at = ".".join(map(str, path))
    return Finding(WRONG, "schema", f"{document.where(path)}: {f'{at}: ' if at else ''}{what}")


def _sentences(error: ValidationError) -> list[tuple[Path_, str]]:
    path: Path_ = tuple(error.path)
    wanted: Any = error.validator_value
    value: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties" and not wanted:
        known = schema.get("properties", {})
        return [((*path, key), f"there is no such key{did_you_mean(key, known)}") for key in value if key not in known]
    if error.validator == "required":
        return [(path, f"{key} is missing") for key in wanted if key not in value]
    if error.validator == "type":
        return [(path, f"expected {wanted}, not {in_yaml(value)}")]
    if error.validator == "enum":
        return [(path, f"expected {' or '.join(map(str, wanted))}, not {in_yaml(value)}")]
    return [(path, error.message)]


def at(data: Any, *path: Any) -> Any:
    """The value at the path, or None where there is none: a file with a wrong shape is looked at all the same."""
    for key in path:
        if not isinstance(data, dict | list):
            return None
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def mapping(data: Any, *path: Any) -> dict[str, Any]:
    """The mapping at the path; empty where there is none."""
    found = at(data, *path)
    return found if isinstance(found, dict) else {}


def items(data: Any, *path: str | int) -> list[Any]:
    """The list at the path; empty where there is none."""
    found = at(data, *path)
    return found if isinstance(found, list) else []
