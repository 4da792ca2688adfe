"""What a sweep file may say, and hardly means: said before anything starts, loudly, and no error."""

from __future__ import annotations

from collections.abc import Mapping

from go1_sweep.columns import is_paid_by
from go1_sweep.parameters import Value
from go1_sweep.space import Space
from go1_sweep.spec import Spec

SCHEDULE = "schedule"
REWARDS = "env.rewards."
"""What paths into the task's reward begin with, in both simulators."""


def warnings(spec: Spec, defaults: Mapping[str, Value]) -> list[str]:
    """Sentences for the user, each with the dotted path that it is about.

    Args:
        spec: valid.
        defaults: the task's own values, by neutral name.
    """
    found = []
    if "adaptive" in _schedules(spec, defaults, "learning_rate"):
        found.append(
            "search.parameters.learning_rate: under the adaptive schedule this searches next to nothing. rsl_rl moves "
            "the rate by a factor of 1.5 in every mini-batch, 20 in an iteration, to where the KL divergence is "
            "desired_kl: what it starts from is forgotten within an iteration. Search the schedule (choice: "
            "[adaptive, fixed]), the rate with `when: {schedule: fixed}` and desired_kl with `when: {schedule: "
            "adaptive}`, as search_spaces/flat.yaml does, or fix the schedule (search.fixed: {schedule: fixed})"
        )
    if "fixed" in _schedules(spec, defaults, "desired_kl"):
        found.append(
            "search.parameters.desired_kl: under the fixed schedule nothing reads it. Give it `when: {schedule: "
            "adaptive}`, or search the rate instead"
        )
    metric = spec.early_stopping.metric
    paying = [name for name in spec.space if name.startswith(REWARDS) and is_paid_by(metric, name.split(".")[2])]
    if paying:
        found.append(
            f"early_stopping.metric: search.parameters.{paying[0]} changes what {metric} is made of: trials that pay "
            "themselves most are not stopped and become finalists. Go by a column of logs.csv that all trials earn "
            "alike, such as a part of the reward that is not searched; the exam at the end does not count rewards"
        )
    if spec.budget.unit == "train_seconds" and spec.resources.shares_gpus:
        found.append(
            "budget.unit: trials that share a GPU slow each other down, and that counts as train_seconds: how far one "
            "comes hangs on its neighbours. Count in iterations or env_steps, or give each its own (resources.gpus: 1)"
        )
    return found


def _schedules(spec: Spec, defaults: Mapping[str, Value], parameter: str) -> set[Value]:
    """The schedules under which the parameter is drawn; none if it is not."""
    space = {_neutral(name): dimension for name, dimension in spec.space.items()}
    if parameter not in space:
        return set()
    if SCHEDULE in space:
        return _allowed(space, parameter, set(space[SCHEDULE].distribution.extremes()))
    fixed = {_neutral(name): value for name, value in spec.search.fixed.items()}
    return {fixed.get(SCHEDULE, defaults.get(SCHEDULE, ""))}


def _allowed(space: Space, parameter: str, schedules: set[Value]) -> set[Value]:
    """Of the schedules those under which the parameter exists, by its conditions and those of its conditions."""
    for parent, values in space[parameter].when.items():
        name = _neutral(parent)
        schedules = schedules & set(values) if name == SCHEDULE else _allowed(space, name, schedules)
    return schedules


def _neutral(name: str) -> str:
    """The name of a parameter that is named by its path."""
    return name.removeprefix("agent.algorithm.")
