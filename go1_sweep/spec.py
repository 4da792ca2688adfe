"""The sweep file: its models, its defaults and every rule that can be checked without a simulator.

``load`` gives a spec whose defaults are all resolved, or one message with the line and the dotted path
of what is wrong. What only a simulator can say (does the task exist, does its configuration have that
parameter) is asked of it before anything starts, in ``sweep/preflight.py``.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from go1_sweep import parameters, paths, yaml_file
from go1_sweep.errors import BadInput, did_you_mean
from go1_sweep.parameters import Value
from go1_sweep.simulators import SIMULATORS
from go1_sweep.space import Choice, Dimension, Range, Space, parents_first


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, not {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, not {value}")
    return value


def _whole(value: Any) -> int:
    if _number(value) != int(value):
        raise ValueError(f"expected a whole number, not {value!r}")
    return int(value)


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, not {value!r}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {value!r}")
    return value


def _value(value: Any) -> Value:
    if isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, text, true or false, not {value!r}")
    return _number(value)


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_whole)]
Word = Annotated[str, BeforeValidator(_word)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Scalar = Annotated[Any, BeforeValidator(_value)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParameterSpec(_Section):
    """How one parameter is drawn: exactly one distribution, and the condition under which it exists."""

    choice: list[Scalar] | None = None
    uniform: list[Number] | None = None
    log_uniform: list[Number] | None = None
    int_uniform: list[Whole] | None = None
    when: dict[str, Any] = {}

    def given(self) -> list[str]:
        """The names of the distributions that are set."""
        return [name for name in ("choice", "uniform", "log_uniform", "int_uniform") if getattr(self, name)]


class SearchSpec(_Section):
    """What is searched, and how."""

    trials: Annotated[Whole, Field(ge=1)]
    sampler: Literal["tpe", "random"] = "tpe"
    seed: Annotated[Whole, Field(ge=0)] = 0
    parameters: dict[str, ParameterSpec]
    fixed: dict[str, Scalar] = {}


class BudgetSpec(_Section):
    """What one trial may use: completed PPO updates, environment steps, or seconds of PPO iterations."""

    unit: Literal["iterations", "env_steps", "train_seconds"] = "iterations"
    max: Annotated[Number, Field(gt=0)]


class EarlyStoppingSpec(_Section):
    """When a weak trial ends early; ``grace`` is the fraction of the budget that every trial gets."""

    scheduler: Literal["asha", "none"] = "asha"
    metric: Word = "mean_reward"
    mode: Literal["max", "min"] = "max"
    window: Annotated[Whole, Field(ge=1)] = 20
    grace: Annotated[Number, Field(gt=0)] = 0.1
    reduction_factor: Annotated[Number, Field(gt=1)] = 3


class ResourcesSpec(_Section):
    """What one trial holds, and how many run side by side (``null``: as many as fit)."""

    gpus: Literal["auto", 0, 1] = "auto"
    cpus: Annotated[Whole, Field(ge=1)] = 1
    concurrent: Annotated[Whole, Field(ge=1)] | None = None
    reuse_workers: Flag = True
    stall_timeout: Annotated[Number, Field(gt=0)] = 900


class MjlabSpec(_Section):
    """The Python interpreter that has mjlab; ``null``: the one that runs the sweep."""

    python: Word | None = None


class Spec(_Section):
    """A sweep file with every default resolved."""

    name: Word
    task: Word
    simulator: Word = "auto"
    search: SearchSpec
    baseline: Flag | dict[str, Scalar] = True
    budget: BudgetSpec
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()
    resources: ResourcesSpec = ResourcesSpec()
    mjlab: MjlabSpec = MjlabSpec()
    storage: Word = "runs"

    @property
    def space(self) -> Space:
        """The search space that ``search.parameters`` describes."""
        return {name: _dimension(name, spec) for name, spec in self.search.parameters.items()}

    @property
    def folder(self) -> Path:
        """The sweep's folder, absolute."""
        return Path(self.storage).expanduser().absolute() / self.name

    @property
    def python(self) -> str | None:
        """The interpreter that the spec names for its simulator; ``None``: the current one."""
        return getattr(getattr(self, self.simulator, None), "python", None)

    @property
    def baseline_parameters(self) -> dict[str, Value] | None:
        """What the baseline changes in the task's defaults (usually nothing); ``None``: no baseline."""
        if isinstance(self.baseline, dict):
            return self.baseline
        return {} if self.baseline else None

    def rungs(self) -> list[float]:
        """The budgets at which trials are compared, rising; none where ``scheduler`` is ``none``.

        The last one leaves at least a factor to the end: a stop after it would save too little
        (Li et al., MLSys 2020, with ``grace * max`` as the minimum resource).
        """
        stopping, rungs = self.early_stopping, []
        rung = stopping.grace * self.budget.max
        while stopping.scheduler == "asha" and rung <= self.budget.max / stopping.reduction_factor:
            rungs.append(rung)
            rung *= stopping.reduction_factor
        return rungs

    def to_yaml(self) -> str:
        """The spec as a sweep file."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=False), sort_keys=False)


def load(path: Path, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None) -> Spec:
    """Read a sweep file.

    Args:
        path: the file; ``search_spaces/NAME`` that is not in the working folder is looked up among
            the files that come with the package.
        overrides: ``dotted.path=value`` each, the value as it would stand in the file.
        changes: top-level keys set by flags of the command line (``None`` values are left out).

    Raises:
        BadInput: the first thing that is wrong, with file, line and dotted path.
    """
    document = yaml_file.read(_find(path))
    document.data.setdefault("name", path.stem)
    for override in overrides:
        _override(document, override)
    for key, value in (changes or {}).items():
        if value is not None:
            document.data[key] = value
    try:
        spec = Spec.model_validate(document.data)
        _check(spec)
    except ValidationError as error:
        raise _told(document, *_first_problem(error)) from None
    except _Problem as problem:
        raise _told(document, problem.path, problem.message) from None
    return spec


def _find(path: Path) -> Path:
    if path.exists() or path.is_absolute():
        return path
    shipped = Path(__file__).parent / path
    return shipped if path.parts[:1] == ("search_spaces",) and shipped.exists() else path


def _override(document: yaml_file.Document, override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise BadInput(f"--set takes dotted.path=value, not '{override}'")
    keys, target = dotted.split("."), document.data
    raw = next((i for i, key in enumerate(keys) if key in ("env", "agent")), None)
    if raw is not None:  # env.<path> and agent.<path> are one key, with dots in it
        keys = [*keys[:raw], ".".join(keys[raw:])]
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise BadInput(f"--set {dotted}: '{key}' is no section of the sweep file")
    target[keys[-1]] = yaml_file.scalar(text)


class _Problem(Exception):
    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(message)
        self.path, self.message = tuple(path), message


def _told(document: yaml_file.Document, path: tuple[str | int, ...], message: str) -> BadInput:
    dotted = ".".join(map(str, path))
    return BadInput(f"{document.where(path)}: {dotted + ': ' if dotted else ''}{message}")


def _first_problem(error: ValidationError) -> tuple[tuple[str | int, ...], str]:
    details = error.errors()[0]
    path = tuple(part for part in details["loc"] if not _is_union_branch(part))
    return path, _message(details, path)


def _is_union_branch(part: str | int) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("list", "dict", "function-before"))


def _message(details: ErrorDetails, path: tuple[str | int, ...]) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return f"unknown key{did_you_mean(str(path[-1]), _known_keys(path[:-1]))}"
        case "missing":
            return "is missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"expected a mapping of keys to values, not {details['input']!r}"
        case "list_type":
            return f"expected a list, not {details['input']!r}"
        case "literal_error":
            return f"expected {context['expected']}, not {details['input']!r}"
        case "value_error":
            return str(context["error"])
        case "greater_than":
            return f"must be above {context['gt']:g}, not {details['input']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, not {details['input']}"
    return details["msg"]


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys that the section at the path has."""
    if path[:2] == ("search", "parameters"):
        return list(ParameterSpec.model_fields)
    model: type[BaseModel] = Spec
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        candidates = (annotation, *typing.get_args(annotation))
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def _check(spec: Spec) -> None:
    if not paths.is_plain_name(spec.name):
        raise _Problem(("name",), f"'{spec.name}' cannot be a folder name: use letters, digits, . _ -")
    if "://" in spec.storage:
        raise _Problem(("storage",), f"{spec.storage} is no folder (object stores are not supported yet)")
    if spec.simulator not in ("auto", *SIMULATORS):
        known = ("auto", *SIMULATORS)
        raise _Problem(("simulator",), f"unknown simulator '{spec.simulator}'{did_you_mean(spec.simulator, known)}")
    _check_budget(spec)
    _check_fixed(("search", "fixed"), spec.search.fixed)
    if isinstance(spec.baseline, dict):
        _check_fixed(("baseline",), spec.baseline)
    if not spec.search.parameters:
        raise _Problem(("search", "parameters"), "nothing is searched: name at least one parameter")
    for name, parameter in spec.search.parameters.items():
        path = ("search", "parameters", name)
        if name in spec.search.fixed:
            raise _Problem(path, "is both searched and fixed (search.fixed)")
        _check_parameter(path, name, parameter)
        _check_condition((*path, "when"), name, spec)
    try:
        parents_first(spec.space)
    except ValueError as error:
        raise _Problem(("search", "parameters"), str(error)) from None


def _check_budget(spec: Spec) -> None:
    budget, grace = spec.budget, spec.early_stopping.grace
    if budget.unit != "train_seconds" and budget.max != int(budget.max):
        raise _Problem(("budget", "max"), f"{budget.unit} are whole numbers, not {budget.max}")
    if grace > 1:
        raise _Problem(
            ("early_stopping", "grace"),
            f"is the fraction of budget.max before the first stop, so at most 1; {grace:g} is more than all of it",
        )


def _check_fixed(path: tuple[str, ...], fixed: Mapping[str, Value]) -> None:
    for name, value in fixed.items():
        try:
            parameters.check_name(name)
            parameters.check_value(name, value)
        except ValueError as error:
            raise _Problem((*path, name), str(error)) from None


def _check_parameter(path: tuple[str, ...], name: str, spec: ParameterSpec) -> None:
    try:
        parameters.check_name(name)
    except ValueError as error:
        raise _Problem(path, str(error)) from None
    given = spec.given()
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise _Problem(path, f"needs one of choice, uniform, log_uniform, int_uniform with values; found {found}")
    kind = given[0]
    values: list[Any] = getattr(spec, kind)
    path = (*path, kind)
    if kind == "choice":
        if len(set(map(repr, values))) < len(values):
            raise _Problem(path, "a value stands twice")
    elif len(values) != 2:
        raise _Problem(path, f"a range is [low, high], this has {len(values)} values")
    elif values[0] >= values[1]:
        raise _Problem(path, f"low must be below high, not [{values[0]:g}, {values[1]:g}]")
    elif kind == "log_uniform" and values[0] <= 0:
        raise _Problem(path, f"a logarithmic range starts above 0, not at {values[0]:g}")
    for i, value in enumerate(values):
        try:
            parameters.check_value(name, value)
        except ValueError as error:
            raise _Problem((*path, i), str(error)) from None


def _check_condition(path: tuple[str, ...], name: str, spec: Spec) -> None:
    for parent, allowed in spec.search.parameters[name].when.items():
        other = spec.search.parameters.get(parent)
        if other is None or parent == name:
            others = [n for n in spec.search.parameters if n != name]
            raise _Problem((*path, parent), f"is not another searched parameter{did_you_mean(parent, others)}")
        if not other.choice:
            raise _Problem((*path, parent), f"only a choice can be a condition, and {parent} is a range")
        for value in _as_list(allowed):
            if value not in other.choice:
                choices = ", ".join(map(str, other.choice))
                raise _Problem((*path, parent), f"{value!r} is not among the choices of {parent}: {choices}")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _dimension(name: str, spec: ParameterSpec) -> Dimension:
    kind = spec.given()[0]
    values = [parameters.check_value(name, value) for value in getattr(spec, kind)]
    when = {parent: tuple(_as_list(allowed)) for parent, allowed in spec.when.items()}
    if kind == "choice":
        return Dimension(Choice(tuple(values)), when)
    whole = kind == "int_uniform" or (isinstance(values[0], int) and not parameters.is_raw(name))
    low, high = (float(value) for value in values)
    return Dimension(Range(low, high, log=kind == "log_uniform", whole=whole), when)
