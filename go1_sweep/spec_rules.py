"""What the entries of a sweep file must be beyond their types: every rule that needs no simulator."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from go1_sweep import columns, parameters, paths
from go1_sweep.errors import did_you_mean
from go1_sweep.parameters import Value
from go1_sweep.simulators import SIMULATORS
from go1_sweep.space import DISTRIBUTIONS, parents_first
from go1_sweep.store.object_store import SCHEMES
from go1_sweep.yaml_file import in_yaml

if TYPE_CHECKING:
    from go1_sweep.spec import ParameterSpec, SearchSpec, Spec


FEWEST = 4
"""Trainings of each that say something of parameters: from three, a verdict's interval claims a gain that is not there
in one case of ten, from four or more in one of thirty (normal scores, simulated)."""


class BrokenRule(Exception):
    """The entry at the path is not what the sweep file needs. The text is for the user."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def check(spec: Spec) -> None:
    """Check every rule.

    Raises:
        BrokenRule: the first that does not hold.
    """
    if not paths.is_plain_name(spec.name):
        problem = "cannot be a folder name: at most 100 letters, digits, . _ -, and the first no . or -"
        raise BrokenRule(("name",), f"'{spec.name}' {problem}")
    if spec.simulator not in (known := ("auto", *SIMULATORS)):
        raise BrokenRule(("simulator",), f"unknown simulator '{spec.simulator}'{did_you_mean(spec.simulator, known)}")
    _check_storage(spec)
    _check_budget(spec)
    _check_metric(spec)
    _check_final(spec)
    _check_wandb(spec)
    for name, value in spec.search.fixed.items():
        _checked(("search", "fixed", name), name, value)
    for name, value in (spec.baseline or {}).items():
        _checked(("baseline", name), name, value)
    _check_search(spec)


def _check_metric(spec: Spec) -> None:
    """Which tags a task logs, only training tells; but each has a slash."""
    metric = spec.early_stopping.metric
    known = dict.fromkeys([*columns.NEUTRAL_NAMES.values(), *columns.OF_TASKS.values(), *columns.OURS])
    if "/" not in metric and metric not in known:
        problem = f"neither a column of logs.csv nor a tag such as Episode_Reward/upright{did_you_mean(metric, known)}"
        raise BrokenRule(("early_stopping", "metric"), f"'{metric}' is {problem}")


def _check_final(spec: Spec) -> None:
    if 0 < spec.final.retrain_seeds < FEWEST:
        problem = f"fewer than {FEWEST} trainings of each say nothing of their parameters (0: none are trained again)"
        raise BrokenRule(("final", "retrain_seeds"), problem)
    if spec.final.retrain_seeds and spec.baseline is None:
        raise BrokenRule(("final", "retrain_seeds"), "there is no baseline to compare with (baseline: false)")


def _check_wandb(spec: Spec) -> None:
    wandb = spec.tracking.wandb
    if wandb is None:
        return
    for name in ("project", "group"):
        value = getattr(wandb, name) or ""
        if len(value) > 128 or any(each in r"/\#?%:" for each in value):
            problem = f"W&B takes at most 128 letters, and none of / \\ # ? % :, not '{value}'"
            raise BrokenRule(("tracking", "wandb", name), problem)
    if wandb.base_url is not None and not _is_address(wandb.base_url):
        raise BrokenRule(("tracking", "wandb", "base_url"), "expected an address such as https://wandb.example.org")


def _is_address(text: str) -> bool:
    """Of a server, and no more: a key in it would come into the sweep's files."""
    try:
        parts = urlsplit(text)
        is_server = bool(parts.hostname) and parts.hostname != "wandb.ai" and parts.port != 0  # that one is a web site
        return parts.scheme in ("http", "https") and is_server and "@" not in parts.netloc
    except ValueError:
        return False


def _check_storage(spec: Spec) -> None:
    if spec.is_in_store:
        return _check_store(spec.storage)
    try:
        spec.folder.exists()
    except OSError as error:
        raise BrokenRule(("storage",), f"{spec.storage} cannot be used: {error.strerror}") from None
    except RuntimeError:
        raise BrokenRule(("storage",), f"{spec.storage} starts with the home folder of an unknown user") from None


def _check_store(uri: str) -> None:
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise BrokenRule(("storage",), f"expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not '{uri}'")
    is_open_to_all = parts.scheme == "gs" and parts.netloc.startswith("anonymous@")  # pyarrow's word for no key at all
    if "@" in parts.netloc and not is_open_to_all:
        raise BrokenRule(("storage",), "a key would come into the sweep's files: give it in the environment")


def _check_budget(spec: Spec) -> None:
    budget, grace = spec.budget, spec.early_stopping.grace
    if budget.unit != "train_seconds" and budget.max != int(budget.max):
        raise BrokenRule(("budget", "max"), f"{budget.unit} are whole numbers, not {budget.max}")
    if grace > 1:
        message = f"is the part of budget.max before the first stop, so at most 1, not {in_yaml(grace)}"
        raise BrokenRule(("early_stopping", "grace"), message)


def _checked(path: tuple[str | int, ...], name: str, value: Value) -> Value:
    try:
        parameters.check_name(name)
        return parameters.check_value(name, value)
    except ValueError as error:
        raise BrokenRule(path, str(error)) from None


def _check_search(spec: Spec) -> None:
    search, path = spec.search, ("search", "parameters")
    if not search.parameters:
        raise BrokenRule(path, "nothing is searched: name at least one parameter")
    for name, parameter in search.parameters.items():
        _check_distribution((*path, name), name, parameter)
        if name in search.fixed:
            raise BrokenRule((*path, name), "is both searched and fixed (search.fixed)")
    for name, parameter in search.parameters.items():
        for parent, allowed in parameter.when.items():
            _check_condition((*path, name, "when", parent), search, name, parent, allowed)
    try:
        parents_first(spec.space)
    except ValueError as error:
        raise BrokenRule(path, str(error)) from None


def _check_distribution(path: tuple[str, ...], name: str, parameter: ParameterSpec) -> None:
    try:
        parameters.check_name(name)
    except ValueError as error:
        raise BrokenRule(path, str(error)) from None
    given = parameter.given()
    if len(given) != 1:
        found = f"; {' and '.join(given)} exclude each other" if given else ""
        raise BrokenRule(path, f"needs one of {', '.join(DISTRIBUTIONS)}{found}")
    (kind,) = given
    path = (*path, kind)
    values: list[Any] = [_checked((*path, i), name, value) for i, value in enumerate(given[kind])]
    problem = _choice_problem(values) if kind == "choice" else _range_problem(values, kind == "log_uniform")
    if problem:
        raise BrokenRule(path, problem)


def _choice_problem(values: list[Value]) -> str | None:
    if not values:
        return "a choice needs at least one value"
    twice = [value for value, count in Counter(values).items() if count > 1]
    return f"{in_yaml(twice[0])} stands twice" if twice else None


def _range_problem(values: list[float], log: bool) -> str | None:
    if len(values) != 2:
        return f"a range is [low, high], not {in_yaml(values)}"
    low, high = values
    if low >= high:
        return f"low must be below high, not {in_yaml(values)}"
    return f"a logarithmic range starts above 0, not at {in_yaml(low)}" if log and low <= 0 else None


def _check_condition(path: tuple[str, ...], search: SearchSpec, name: str, parent: str, allowed: list[Value]) -> None:
    if parent == name:
        raise BrokenRule(path, "a parameter cannot be its own condition")
    if parent not in search.parameters:
        others = [other for other in search.parameters if other != name]
        raise BrokenRule(path, f"is no searched parameter{did_you_mean(parent, others)}")
    choice = search.parameters[parent].choice
    if choice is None:
        raise BrokenRule(path, f"only a choice can be a condition, and {parent} is a range")
    if not allowed:
        raise BrokenRule(path, "names no value, so that the parameter would never exist")
    for value in allowed:
        if value not in choice:
            raise BrokenRule(
                path, f"{in_yaml(value)} is not among the choices of {parent}: {', '.join(map(in_yaml, choice))}"
            )
