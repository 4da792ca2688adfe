"""The table of a sweep's trials: how they are doing now, below the lines of what became of the others."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from go1_sweep.eta import budgets_done, eta_seconds
from go1_sweep.paths import BASELINE
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord, best, ranked
from go1_sweep.wording import COLORS, amount, clock, number, short, value

REFRESHES_PER_SECOND = 2
BAR_WIDTH = 10
OTHER_LINES = 4
"""Lines that are no trials: the heading, two below the table, and one for what is printed above."""


def is_terminal(console: Console) -> bool:
    """Whether lines on it can be replaced; FORCE_COLOR alone makes no terminal of a pipe."""
    return console.is_interactive and console.file.isatty()


@contextlib.contextmanager
def shown(console: Console, spec: Spec, records: Mapping[str, TrialRecord], slots: int, began: float) -> Iterator[None]:
    """Keep the table at the end of the terminal; nothing where the console is no terminal.

    Args:
        console: what is printed on it meanwhile comes above the table.
        spec: the sweep.
        records: the trials drawn so far by id; read twice a second, in a thread.
        slots: how many trials run side by side.
        began: when the sweep did, by ``time.monotonic``.
    """
    before = budgets_done(records.values(), spec)

    def now() -> RenderableType:
        drawn, elapsed = list(records.values()), time.monotonic() - began
        eta = eta_seconds(drawn, spec, elapsed, slots, before)
        return view(drawn, spec, elapsed, eta, max(1, console.height - OTHER_LINES))

    if not is_terminal(console):
        yield
        return
    try:
        with Live(
            console=console,
            get_renderable=now,
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stderr=sys.stderr.isatty(),
        ):
            yield
    finally:
        console.show_cursor(True)  # Ctrl-C may strike while the table is taken down


def view(
    records: Collection[TrialRecord], spec: Spec, elapsed: float | None, eta: float | None, rows: int | None = None
) -> RenderableType:
    """The trials as a table, and the counts of their states below it; no line is broken.

    Args:
        records: the trials drawn so far.
        spec: the sweep.
        elapsed: seconds since it began, if they are to be shown.
        eta: seconds until it ends, where that is known.
        rows: the most trials that are shown; ``None``: all.
    """
    winner = best(records, spec.early_stopping.mode)
    chosen = _chosen(records, spec.early_stopping.mode, rows)
    hidden = len(records) - len(chosen)
    told_times = [*times(elapsed, eta), *([f"{hidden} trials not shown"] if hidden else [])]
    told_states = [*states(records, spec), *(["* best score of the completed"] if winner else [])]
    below = [", ".join(parts) for parts in (told_states, told_times) if parts]
    return Group(_table(chosen, winner, spec), *(Text(line, "dim", no_wrap=True, overflow="crop") for line in below))


def states(records: Collection[TrialRecord], spec: Spec) -> list[str]:
    """How many trials are in each state, and how many are still to be drawn."""
    counts = Counter(record.state for record in records)
    counts["not drawn"] = spec.search.trials + (spec.baseline is not None) - len(records)
    return [f"{counts[state]} {state}" for state in ("running", *COLORS, "not drawn") if counts[state]]


def times(elapsed: float | None, eta: float | None) -> list[str]:
    """Since a sweep began, and until it ends [s], as far as they are known."""
    since = [f"{clock(elapsed)} elapsed"] if elapsed is not None else []
    return since + ([f"about {clock(eta)} left"] if eta else [])


def _chosen(records: Collection[TrialRecord], mode: str, rows: int | None) -> list[TrialRecord]:
    """Those that run, then those that ended, the best first; where rows lack, few of the latter."""
    running = [record for record in records if record.state == "running"]
    ended = ranked((record for record in records if record.state != "running"), mode)
    if rows is None or len(records) <= rows:
        return running + ended
    running = running[: rows - bool(ended)]
    return running + ended[: max(1, rows // 2 - len(running))]


def _table(records: Collection[TrialRecord], winner: TrialRecord | None, spec: Spec) -> Table:
    budget, has_gpus = spec.budget, any(record.gpu for record in records)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("  trial", no_wrap=True, min_width=10 if spec.baseline is not None else 7)
    table.add_column("state", no_wrap=True, min_width=max(map(len, COLORS)))  # or its width would change
    table.add_column(budget.unit, no_wrap=True, justify="right")
    table.add_column(f"of {amount(budget.max)}", no_wrap=True, min_width=BAR_WIDTH)
    table.add_column("score", no_wrap=True, justify="right", min_width=8)
    if has_gpus:
        table.add_column("GPU", no_wrap=True)
    table.add_column("parameters")
    decimals = 1 if budget.unit == "train_seconds" else 0
    for record in records:
        used = record.progress.used(budget.unit)
        table.add_row(
            Text(f"{'*' if record is winner else ' '} {record.trial}"),
            Text(record.state, COLORS.get(record.state, "")),
            f"{used:.{decimals}f}",
            ProgressBar(budget.max, used, width=BAR_WIDTH),
            number(record.progress.score),
            *([record.gpu] if has_gpus else []),
            _Parameters(record, left_out=() if record.trial == BASELINE else spec.search.fixed),
            style="bold" if record is winner else "",
        )
    return table


class _Parameters:
    """As many of a trial's parameters as fit on the line, each in full; of a path its last two names."""

    def __init__(self, record: TrialRecord, left_out: Collection[str]) -> None:
        own = {name: drawn for name, drawn in record.parameters.items() if name not in left_out}
        self._texts = [f"{short(name)}={value(drawn)}" for name, drawn in own.items()]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        count = len(self._texts)
        while count and len(self._line(count)) > options.max_width:
            count -= 1
        yield Text(self._line(count), no_wrap=True, overflow="crop")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(3, max(3, len(self._line(len(self._texts))))).with_maximum(options.max_width)

    def _line(self, count: int) -> str:
        return ", ".join(self._texts[:count] + ["..."] * (count < len(self._texts)))
