"""The kinds of values that stand in a sweep file, and what is said of one that is of another kind."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from go1_sweep.parameters import Value
from go1_sweep.yaml_file import in_yaml


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {in_yaml(value)}")
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, not {in_yaml(value)}")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or _number(value) != int(value):
        raise ValueError(f"expected a whole number, not {in_yaml(value)}")
    return int(value)


def _word(value: Any) -> str:
    if isinstance(value, int | float):
        raise ValueError(f"expected text, not {in_yaml(value)} (in quotes it is text)")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, not {in_yaml(value)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {in_yaml(value)}")
    return value


def _value(value: Any) -> Value:
    if isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, text, true or false, not {in_yaml(value)}")
    return _number(value)


def _gpus(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "auto" and not (is_number and 0 <= value <= 1):
        raise ValueError(f"expected 'auto', 0, 1 or a share of one (0.25: four trials to a GPU), not {in_yaml(value)}")
    return value


def trials_to_a_gpu(share: float) -> int:
    """How many trials run on one GPU side by side, each with such a share of it."""
    return int(1 / share)


def _baseline(value: Any) -> Any:
    if not isinstance(value, bool | dict):
        raise ValueError(f"expected true, false or a mapping of parameters to values, not {in_yaml(value)}")
    return value if isinstance(value, dict) else {} if value else None


def section_or_flag(value: Any) -> Any:
    """A section: as it is, with its defaults for ``true``, and none for ``false``."""
    if value is None or not isinstance(value, bool | dict):
        raise ValueError(f"expected true, false or a mapping, not {in_yaml(value)}")
    return value if isinstance(value, dict) else {} if value else None


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Number = Annotated[float, PlainValidator(_number)]  # a whole one stays an int
Whole = Annotated[int, BeforeValidator(_whole)]
Word = Annotated[str, BeforeValidator(_word)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Scalar = Annotated[Any, BeforeValidator(_value)]
Scalars = Annotated[list[Scalar], BeforeValidator(_as_list)]
Gpus = Annotated[Literal["auto"] | int | float, BeforeValidator(_gpus)]
Baseline = Annotated[
    dict[str, Scalar] | None,
    BeforeValidator(_baseline),
    PlainSerializer(lambda value: value or value is not None),
]
