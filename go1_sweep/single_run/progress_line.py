"""How a training is doing, in one line: at the end of a terminal, or now and then where there is none."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column

from go1_sweep import live, protocol
from go1_sweep.wording import clock, number

PLAIN_SECONDS = 10.0
"""Between two lines where there is no terminal."""

RECENT = 20
"""Iterations that speed and remaining time are taken from."""

GIB = 2**30

FULL = 0.9
"""The part of the GPU's memory above which there is a warning."""


class ProgressLine:
    """Hears of each iteration."""

    def __init__(self, console: Console, max_iterations: int) -> None:
        self._console = console
        self._max_iterations = max_iterations
        self._begin = protocol.Progress()
        self._recent: deque[tuple[float, protocol.Progress]] = deque(maxlen=RECENT + 1)
        self._last_print = -PLAIN_SECONDS
        self._warned = False
        self._bar: tuple[Progress, TaskID] | None = None

    @contextlib.contextmanager
    def shown(self, begin: protocol.Progress) -> Iterator[None]:
        """Show it from where training begins until it ends."""
        self._begin = begin
        if not live.is_terminal(self._console):
            yield
            return
        text = TextColumn("{task.description}", table_column=Column())  # a narrow terminal gets two lines
        with Progress(text, BarColumn(10), console=self._console) as bar:
            task = bar.add_task("building the simulation", total=self._max_iterations, completed=begin.iterations)
            self._bar = bar, task
            try:
                yield
            finally:
                self._bar = None

    def report(self, report: protocol.Report) -> None:
        """An iteration is complete."""
        now, done = time.monotonic(), report.progress.iterations
        if not self._recent:  # what came before was start-up
            trained = report.progress.train_seconds - self._begin.train_seconds
            self._recent.append((now - trained, self._begin))
        self._recent.append((now, report.progress))
        self._warn_of_memory(report.gpu_memory)
        if self._bar:
            bar, task = self._bar
            bar.update(task, description=self._text(report), completed=done)
        elif now - self._last_print >= PLAIN_SECONDS or done == self._max_iterations:
            self._last_print = now
            self._console.print(self._text(report))

    def _text(self, report: protocol.Report) -> str:
        (before, first), (now, last) = self._recent[0], self._recent[-1]
        iterations, seconds = last.iterations - first.iterations, max(now - before, 1e-9)
        speed = (last.env_steps - first.env_steps) / max(last.train_seconds - first.train_seconds, 1e-9)
        eta = (self._max_iterations - last.iterations) * seconds / iterations
        parts = [
            f"iteration {last.iterations} of {self._max_iterations}",
            f"reward {number(report.row.get('mean_reward'))}",
            f"length {number(report.row.get('mean_episode_length'))}",
            f"{speed:,.0f} steps/s",
            *_memory(report.gpu_memory),
            f"ETA {clock(eta)}",
        ]
        return "  ".join(parts)

    def _warn_of_memory(self, memory: list[int]) -> None:
        if self._warned or not memory or memory[0] < FULL * memory[1]:
            return
        self._warned = True
        used, total = (each / GIB for each in memory)
        self._console.print(
            f"warning: {used:.1f} of {total:.1f} GiB of the GPU's memory are in use; fewer envs are on the safe side"
        )


def _memory(memory: list[int]) -> list[str]:
    return ["GPU {:.1f} of {:.1f} GiB".format(*(each / GIB for each in memory))] if memory else []
