"""What a sweep says on the terminal: a plan, a line per event, the winner. Plain lines where there is none."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from go1_sweep.paths import BASELINE, SweepPaths, shown
from go1_sweep.spec import Spec

if TYPE_CHECKING:
    from go1_sweep.sweep.trials import TrialRecord

COLORS = {
    "completed": "green",
    "early_stopped": "cyan",
    "infeasible": "yellow",
    "failed": "red",
    "interrupted": "magenta",
}


@dataclass(frozen=True)
class Plan:
    """What is about to run."""

    spec: Spec
    task_id: str
    versions: dict[str, str]
    slots: int
    gpus: int


class Terminal:
    """Prints to stdout; in color and with styles only where that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()
        self._budget_unit = ""
        self._budget_max = 0.0

    def plan(self, plan: Plan) -> None:
        """What will run, and what it may cost at most."""
        spec, budget = plan.spec, plan.spec.budget
        self._budget_unit, self._budget_max = budget.unit, budget.max
        version = plan.versions.get(spec.simulator, "")
        trials = spec.search.trials + (spec.baseline is not None)
        where = (
            f"{plan.slots} GPU{'s' * (plan.slots > 1)}, one each" if plan.gpus else f"{plan.slots} at a time on the CPU"
        )
        baseline = " and the baseline" if spec.baseline is not None else ""
        rungs = ", ".join(f"{rung:g}" for rung in spec.rungs())
        stops = f"stops at {rungs} {budget.unit}" if rungs else "no early stopping"
        self._say(f"[bold]{escape(spec.name)}[/]: {plan.task_id} on {f'{spec.simulator} {version}'.rstrip()}")
        self._say(f"  searched  {', '.join(map(escape, spec.search.parameters))} ({spec.search.sampler})")
        self._say(f"  trials    {spec.search.trials}{baseline}; {where}; {stops}")
        self._say(f"  at most   {_cost(trials, plan)}")
        self._say(f"  results   {escape(shown(spec.folder))}")

    def started(self, record: TrialRecord) -> None:
        """A trial has a slot."""
        self._event(f"{_title(record.trial)} started: {_parameters(record) or 'the defaults of the task'}")

    def ended(self, record: TrialRecord) -> None:
        """A trial is over, and why."""
        decimals = 1 if self._budget_unit == "train_seconds" else 0
        used = f"{record.progress.used(self._budget_unit):.{decimals}f} of {self._budget_max:g} {self._budget_unit}"
        color = COLORS.get(record.state, "default")
        self._event(
            f"{_title(record.trial)} [{color}]{record.state}[/]: score {_number(record.progress.score)}, "
            f"{used}; {escape(record.why)}"
        )
        for line in record.evidence:
            self._say(f"             | {escape(line)}")

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self._event(escape(text))

    def result(self, paths: SweepPaths, result: dict[str, Any]) -> None:
        """The winner, its parameters, its numbers and where its checkpoint is."""
        states = ", ".join(f"{count} {state}" for state, count in result["states"].items())
        self._say(f"[bold]Done[/] in {_clock(time.monotonic() - self._began)}: {states}")
        winner, baseline = result["winner"], result["baseline"]
        if winner is None:
            return
        self._say(
            f"[bold]Winner[/]: {_title(winner['trial'])}, {result['metric']} {_number(winner['score'])} in training"
        )
        if baseline and baseline["trial"] != winner["trial"] and baseline["score"] is not None:
            self._say(f"  baseline   {result['metric']} {_number(baseline['score'])}")
        for name, value in winner["parameters"].items():
            self._say(f"  {escape(name)} = {_value(value)}")
        self._say(
            f"  seed {winner['seed']}, {winner['iterations']} iterations, {winner['env_steps']} env steps, "
            f"{winner['train_seconds']:.1f} s of training"
        )
        at_best = f"its best published one, score {_number(winner['checkpoint_score'])}"
        self._say(f"  checkpoint {escape(shown(paths.folder / winner['checkpoint']))} ({at_best})")
        self._say(f"  all trials {escape(shown(paths.trials_table))}")

    def _event(self, text: str) -> None:
        self._say(f"[dim]{_clock(time.monotonic() - self._began)}[/]  {text}")

    def _say(self, text: str) -> None:
        self._console.print(text)


def _title(trial: str) -> str:
    return trial if trial == BASELINE else f"trial {trial}"


def _parameters(record: TrialRecord) -> str:
    return escape(", ".join(f"{name}={_value(value)}" for name, value in record.parameters.items()))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.4g}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _cost(trials: int, plan: Plan) -> str:
    budget = plan.spec.budget
    if budget.unit != "train_seconds":
        return f"{trials} x {budget.max:g} {budget.unit}"
    hours = trials * budget.max / 3600
    rounds = -(-trials // plan.slots)
    unit = "GPU hours" if plan.gpus else "hours of training"
    return f"{trials} x {budget.max:g} s = {hours:.2g} {unit}, about {_clock(rounds * budget.max)} and start-up"
