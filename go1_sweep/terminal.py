"""What a sweep or a play says on the terminal: a plan, a line per event, tables. Plain lines where there is none."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from go1_sweep import live
from go1_sweep.console import lasting
from go1_sweep.evaluation import Evaluation
from go1_sweep.paths import PolicyPaths, SweepPaths, TrialPaths, shown
from go1_sweep.spec import Spec
from go1_sweep.spec_values import trials_to_a_gpu
from go1_sweep.trials_table import TrialRecord
from go1_sweep.wording import COLORS, amount, clock, figures_of, in_exam, number, opened_at, title, train_command, value

if TYPE_CHECKING:
    from go1_sweep.sweep.final import Outcome


BEGUN = re.compile(r"^[0-9:]+  (?:[^:]* started: |Exam for )", re.MULTILINE)
"""A line that only a sweep prints which has been checked and runs."""


@dataclass(frozen=True)
class Plan:
    """What is about to run."""

    spec: Spec
    task_id: str
    versions: dict[str, str]
    slots: int
    gpus: float


class Terminal:
    """Prints to stdout; in color and with styles only where that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or lasting()
        self._began = time.monotonic()
        self._spec: Spec | None = None

    def plan(self, plan: Plan) -> None:
        """What will run, and what it may cost at most."""
        spec, budget = plan.spec, plan.spec.budget
        self._spec = spec
        version = plan.versions.get(spec.simulator, "")
        trials = spec.search.trials + (spec.baseline is not None) + 2 * spec.final.retrain_seeds
        where = f"{plan.slots} at a time on the CPU"
        if plan.gpus:
            where = f"{plan.slots} GPU{'s' * (plan.slots > 1)}, one each"
        if 0 < plan.gpus < 1:
            where = f"{plan.slots} at a time, {trials_to_a_gpu(plan.gpus)} to a GPU"
        baseline = " and the baseline" if spec.baseline is not None else ""
        rungs = ", ".join(amount(rung) for rung in spec.rungs())
        stops = f"stops at {rungs} {budget.unit}" if rungs else "no early stopping"
        self._say(f"[bold]{escape(spec.name)}[/]: {plan.task_id} on {f'{spec.simulator} {version}'.rstrip()}")
        self._say(f"  searched  {', '.join(map(escape, spec.search.parameters))} ({spec.search.sampler})")
        self._say(f"  trials    {spec.search.trials}{baseline}; {where}; {stops}")
        again = f"; {spec.final.retrain_seeds} of them the winner's, and as many the baseline's, with fresh seeds"
        self._say(f"  at most   {_cost(trials, plan)}{again if spec.final.retrain_seeds else ''}")
        self._say(f"  results   {escape(shown(spec.folder))}")

    def warn(self, text: str) -> None:
        """What the user may not want, though it can be done."""
        self._say(f"[bold yellow]warning[/]: {escape(text)}")

    def live(self, spec: Spec, records: Mapping[str, TrialRecord], slots: int) -> AbstractContextManager[None]:
        """While entered, a table of the trials below the lines, where stdout is a terminal."""
        return live.shown(self._console, spec, records, slots, self._began)

    def started(self, record: TrialRecord) -> None:
        """A trial has a slot."""
        self._event(f"{title(record.trial)} started: {_parameters(record) or 'the defaults of the task'}")

    def ended(self, record: TrialRecord, folder: TrialPaths) -> None:
        """A trial is over, and why."""
        assert self._spec is not None
        budget = self._spec.budget
        decimals = 1 if budget.unit == "train_seconds" else 0
        used = f"{record.progress.used(budget.unit):.{decimals}f} of {amount(budget.max)} {budget.unit}"
        color = COLORS.get(record.state, "default")
        self._event(
            f"{title(record.trial)} [{color}]{record.state}[/]: score {number(record.progress.score)}, "
            f"{used}; {escape(record.why)}"
        )
        for line in record.evidence:
            self._say(f"             | {escape(line)}")
        if record.state == "failed":
            self._say(f"             log: {escape(shown(folder.worker_log))}")
            self._say(f"             repeat it: {escape(train_command(self._spec, record))}")

    def noted(self, record: TrialRecord, text: str) -> None:
        """Something befell a trial that goes on."""
        self._event(f"{title(record.trial)}: {escape(text)}")

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self._event(escape(text))

    def examining(self, purpose: str, count: int, envs: int, seeds: int) -> None:
        """That many checkpoints begin to sit the exam; the purpose as in "for selection"."""
        who = "1 checkpoint" if count == 1 else f"{count} checkpoints"
        self._event(f"Exam for {purpose}: {who} in {envs} envs, {seeds} seed{'s' * (seeds > 1)}")

    def examined(self, evaluation: Evaluation) -> None:
        """A checkpoint has sat the exam."""
        roles = f" ({' and '.join(evaluation.roles)})" if evaluation.roles else ""
        self._event(f"{title(evaluation.trial, evaluation.checkpoint)}{roles}: {in_exam(evaluation.summary())}")

    def result(self, paths: SweepPaths, result: dict[str, Any], outcome: Outcome | None) -> None:
        """What became of the trials; then the winner, its parameters, its numbers and where everything is."""
        states = ", ".join(f"{count} {state}" for state, count in result["states"].items())
        self._say(f"[bold]Done[/] in {clock(time.monotonic() - self._began)}: {states}")
        if (spent := result["slots"]["trials"]["sum"])["held"]:
            shares = ", ".join(f"{use} {spent[use] / spent['held']:.0%}" for use in spent if use != "held")
            self._say(f"  slots held {clock(spent['held'])} for the trials: {shares}")
        if outcome is None:
            return
        winner = result["winner"]
        self._say(f"[bold]Winner[/]: {title(outcome.winner.trial)}")
        for name, setting in winner["parameters"].items():
            self._say(f"  {escape(name)} = {value(setting)}")
        self._say(
            f"  seed {winner['seed']}, {winner['iterations']} iterations, {winner['env_steps']} env steps, "
            f"{winner['train_seconds']:.1f} s of training; {result['metric']} {number(winner['score'])} in training"
        )
        self.exported(paths.best, outcome)
        self._say(f"  results    {escape(shown(paths.result))}, {escape(shown(paths.trials_table))}")

    def exported(self, paths: PolicyPaths, outcome: Outcome) -> None:
        """How the policy did in the exam, beside the baseline, and where its files are."""
        winner, beside = outcome.winner, outcome.beside
        self._figures("in the exam", winner, *([beside] if beside else []))
        if outcome.verdict:
            self._say(f"  [bold]{escape(outcome.verdict.sentence)}[/]")
        if outcome.sim_to_sim:
            self._say(f"  {escape(outcome.sim_to_sim.sentence)}")
        self._say(f"  checkpoint {escape(shown(paths.checkpoint))} ({escape(title(winner.trial, winner.checkpoint))})")
        self._say(f"  policy     {escape(shown(paths.onnx))} ({paths.torchscript.name}, {paths.description.name})")
        video = f"none: {outcome.no_video}" if outcome.no_video else shown(paths.video)
        self._say(f"  video      {escape(video)}")

    def playing(self, what: str, on: str, how: str) -> None:
        """A checkpoint is about to play: which one, where, and how long."""
        self._say(f"[bold]{escape(what)}[/] on {escape(on)}")
        self._event(escape(how))

    @contextlib.contextmanager
    def bar(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """While entered, a bar where there is a terminal; takes how many steps are done, and how many there are."""
        with Progress(
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not live.is_terminal(self._console),
        ) as progress:
            task = progress.add_task(what, total=None)

            def move(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps, description=f"{what}, {done} of {steps} steps")

            yield move

    def played(self, evaluation: Evaluation, file: Path) -> None:
        """Each episode of a play, their figures together, and the file that keeps both."""
        episodes = [episode for episodes in evaluation.episodes.values() for episode in episodes]
        self._say(f"  {'env':>3}{'return':>10}{'length':>8}{'off by m/s':>12}{'off by rad/s':>14}  ended by")
        for each in episodes:
            end = "a fall" if each.fell else "the end of the play" if each.cut_off else "time-out"
            self._say(
                f"  {each.env:>3}{each.total_reward:>10.2f}{each.length:>8}{each.lin_vel_rmse:>12.3f}"
                f"{each.ang_vel_rmse:>14.3f}  {end}"
            )
        self._figures("in play", evaluation)
        self._say(f"  evaluation {escape(shown(file))}")

    def filmed(self, video: Path) -> None:
        """The film of a play is complete."""
        self._say(f"  video      {escape(shown(video))}")

    def viewing(self, address: str) -> None:
        """The viewer is open: in a window, or at an address of this machine."""
        if address:
            self._event(opened_at(address))
        self._event("Ctrl-C ends it")

    def _figures(self, where: str, *evaluations: Evaluation) -> None:
        """A table of how policies did: a figure a line, and a column for each policy."""
        names = [title(each.trial) if each.trial else "the policy" for each in evaluations]
        self._say(f"  {where:<20}" + "".join(f"{name:>30}" for name in names))
        rows = zip(*(figures_of(each.summary()) for each in evaluations), strict=True)
        for row in rows:
            self._say(f"  {row[0][0]:<20}" + "".join(f"{cell:>30}" for _, cell in row))

    def _event(self, text: str) -> None:
        self._say(f"[dim]{clock(time.monotonic() - self._began)}[/]  {text}")

    def _say(self, text: str) -> None:
        self._console.print(text)


def _parameters(record: TrialRecord) -> str:
    return escape(", ".join(f"{name}={value(setting)}" for name, setting in record.parameters.items()))


def _cost(trials: int, plan: Plan) -> str:
    budget = plan.spec.budget
    if budget.unit != "train_seconds":
        return f"{trials} x {amount(budget.max)} {budget.unit}"
    hours = trials * budget.max / 3600 * (plan.gpus or 1)
    rounds = -(-trials // plan.slots)
    unit = "GPU hours" if plan.gpus else "hours of training"
    return f"{trials} x {amount(budget.max)} s = {hours:.2g} {unit}, about {clock(rounds * budget.max)} and start-up"
