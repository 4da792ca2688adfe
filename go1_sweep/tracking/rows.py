"""What a trial logs, as it comes."""

from __future__ import annotations

import contextlib
import csv
import math
import os
from pathlib import Path
from typing import BinaryIO

from go1_sweep import strict_json
from go1_sweep.paths import TrialPaths


class Rows:
    """The rows of a trial's ``logs.csv``, each with the trial's score then; what is damaged is passed over."""

    def __init__(self, paths: TrialPaths) -> None:
        self._table, self._progress = _Growing(paths.logs), _Growing(paths.progress)
        self._columns: list[str] = []
        self._rows: dict[int, dict[str, float]] = {}
        self._scores: dict[int, float | None] = {}

    def after(self, iteration: int, *, is_over: bool) -> list[dict[str, float]]:
        """Those of later iterations that were not given yet, in their order.

        Args:
            iteration: the last that is known; a trial that went back to its checkpoint logs some again.
            is_over: the trial is: a row that has no score yet gets none.
        """
        self._take_rows()
        self._take_scores()
        newest = math.inf if is_over else max(self._scores, default=0)
        found = []
        for each in sorted(each for each in self._rows if each <= newest):
            row, score = self._rows.pop(each), self._scores.pop(each, None)
            if each > iteration:
                found.append(row if score is None else {**row, "score": score})
        return found

    def close(self) -> None:
        """Close the files."""
        self._table.close()
        self._progress.close()

    def _take_rows(self) -> None:
        is_new, lines = self._table.lines()
        if is_new:
            self._columns = []
        for cells in csv.reader(line.decode(errors="replace") for line in lines):
            if not self._columns:
                self._columns = cells
                continue
            row = {}
            for name, cell in zip(self._columns, cells, strict=False):
                with contextlib.suppress(ValueError):
                    if math.isfinite(number := float(cell)):
                        row[name] = number
            if "iteration" in row:
                self._rows[int(row["iteration"])] = row

    def _take_scores(self) -> None:
        for line in self._progress.lines()[1]:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                told = strict_json.loads(line)
                self._scores[int(told["iterations"])] = None if told["score"] is None else float(told["score"])


class _Growing:
    """A file to which lines are added, and which is replaced now and then by another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None  # as long as it is open, no other file has its inode
        self._torn = b""

    def lines(self) -> tuple[bool, list[bytes]]:
        """Whether it is another file, and its whole lines since the last call; of another one, all."""
        is_new = False
        try:
            if self._file is None or os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
                self.close()
                self._file = open(self._path, "rb")  # noqa: SIM115
                self._torn, is_new = b"", True
            *whole, self._torn = (self._torn + self._file.read()).split(b"\n")
        except OSError:
            return is_new, []
        return is_new, whole

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
