"""The driver's truth about the trials: who is drawn next, who goes on, what became of each.

Free of Ray. Whatever Tune tells (a result, an end, a lost actor) comes here, and from here it goes to
ASHA, to Optuna, to ``trials.csv`` and to the terminal.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from go1_sweep import checkpoint, timeline, trials_table
from go1_sweep.errors import UserError, one_line
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths, shown
from go1_sweep.patience import POLL_SECONDS, patiently
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.sweep import tensorboard
from go1_sweep.sweep.early_stopping import Asha
from go1_sweep.sweep.search import Search, training_seed
from go1_sweep.trials_table import INTERRUPTED, TrialRecord

SMALL_TABLE = 100
ROW_SECONDS = 1e-3
"""A larger table is not written at each change, but so long a row after the last time: 4% of the driver's time."""

NOTE_SECONDS = 10.0
"""So often it is noted how long the trials that go on have had their slots [s]."""

LOST = "its actor died (killed, or its host went down)"


class Listener(Protocol):
    """Hears of trials as they change."""

    def started(self, record: TrialRecord) -> None:
        """A trial has a slot."""
        ...

    def ended(self, record: TrialRecord, folder: TrialPaths) -> None:
        """A trial is over; its files are in that folder."""
        ...

    def note(self, text: str) -> None:
        """A sentence for the user."""
        ...

    def noted(self, record: TrialRecord, text: str) -> None:
        """Something befell a trial that goes on."""
        ...


class Trainings(ABC):
    """Trainings as Tune runs them: which is the next, and what became of each. None is stopped early."""

    def __init__(self, spec: Spec, paths: SweepPaths, listener: Listener) -> None:
        """Begin; ``paths``: where their table and their folders are."""
        self._spec = spec
        self.paths = paths
        self._listener = listener
        self._driver = f"{os.getpid()} {time.time():.0f}"
        self._epoch = time.time() - time.monotonic()
        """The clock may be set while the sweep runs."""
        self._began: dict[str, tuple[float, float]] = {}
        """When each running trial got its slot, and the train seconds that it had then."""
        self._waiting: list[TrialRecord] = []
        """Trials that go on before others are drawn."""
        self._losses: Counter[str] = Counter()
        """How many actors of each trial died."""
        self._table_is_due = False
        self._table_was_written = -math.inf
        self._running_were_noted = -math.inf
        self._waits = False
        self.is_interrupted = False
        self.records: dict[str, TrialRecord] = {}
        for stint in timeline.running(paths):  # when the driver before was killed
            patiently(lambda stint=stint: timeline.append(paths.timeline, stint), self._pause)
        paths.running.unlink(missing_ok=True)

    @property
    def unfinished(self) -> list[TrialRecord]:
        """The trials that were drawn and are not over."""
        return [record for record in self.records.values() if record.state == "running"]

    @property
    @abstractmethod
    def is_exhausted(self) -> bool:
        """Whether no trial will be drawn any more."""

    def draw(self) -> TrialRecord:
        """The next trial."""
        record = self._next()
        self.records[record.trial] = record
        self._write()
        return record

    def started(self, trial: str) -> None:
        """The trial has a slot."""
        record = self.records[trial]
        self._began[trial] = self._now(), record.progress.train_seconds
        record.slot, record.seconds = "", {}
        self._listener.started(record)

    def lost(self, trial: str) -> None:
        """The trial's actor died; it goes on in another one from its newest checkpoint."""
        self._losses[trial] += 1
        self._end_stint(self.records[trial])
        self._listener.noted(self.records[trial], f"{LOST}: it goes on in another one")

    def losses(self, trial: str) -> int:
        """How many actors of the trial died."""
        return self._losses[trial]

    def note(self, text: str) -> None:
        """Tell the user."""
        self._listener.note(text)

    def report(
        self,
        trial: str,
        progress: Progress,
        *,
        gpu: str = "",
        slot: str = "",
        seconds: dict[str, float] | None = None,
        notes: Sequence[str] = (),
    ) -> bool:
        """Take an iteration's report; whether the trial goes on.

        A trial that has used its whole budget may say so itself.

        Args:
            trial: its id.
            progress: where it stands.
            gpu: the index of its GPU.
            slot: see ``TrialRecord``.
            seconds: likewise.
            notes: what befell it.
        """
        record = self.records[trial]
        record.progress, record.gpu, record.slot, record.seconds = progress, gpu, slot, seconds or {}
        for note in notes:
            self._listener.noted(record, note)
        self._write_if_due()
        if time.monotonic() >= self._running_were_noted + NOTE_SECONDS:
            self._note_running()
        return self._is_over(progress) or not self.is_interrupted

    def ended(self, trial: str, result: dict[str, Any] | None) -> None:
        """The trial is over: by a stop, by its own end (``result`` says how), or with its actor (``None``).

        Tune gives a trial up when its next actor dies before it has begun, as on a host that has just gone down. It
        is drawn again, as long as it has retries left.
        """
        record = self.records[trial]
        has_retries = self.losses(trial) < self._spec.resources.retries
        if result is None and record.state == "running" and has_retries and not self.is_interrupted:
            self.lost(trial)
            self._waiting.append(record)
            return
        if result:
            record.slot, record.seconds = result["slot"], result["seconds"]
        if record.state == "early_stopped":
            pass  # by us: however it took that
        elif (result is None and self.is_interrupted) or (result and result["state"] == "running"):
            record.state, record.why = "interrupted", INTERRUPTED
        elif result is None:
            record.state, record.why = "failed", f"{LOST} too often"
        else:
            record.state, record.why = result["state"], result["why"]
            record.evidence, record.diverged = result["evidence"], result["diverged"]
            for note in result["notes"]:
                self._listener.noted(record, note)
            record.progress = Progress(**result["progress"])
        self._end_stint(record)
        self._tell(record)
        self._listener.ended(record, self.paths.trial(trial))
        self._write()

    def interrupt(self) -> None:
        """End each running trial at its next report, and draw no more."""
        self.is_interrupted = True

    def abandon(self, why: str) -> None:
        """The sweep ends now: what is not over was interrupted."""
        for record in self.unfinished:
            record.state, record.why = "interrupted", why
            record.progress = max(record.progress, self._saved(record), key=lambda progress: progress.iterations)
            self._end_stint(record)
            self._tell(record)
        self._table_was_written = -math.inf
        self._write()

    @abstractmethod
    def _next(self) -> TrialRecord: ...

    @abstractmethod
    def _tell(self, record: TrialRecord) -> None:
        """Who else needs to know that a trial is over."""

    def _find_progress(self) -> None:
        """Where the trials that wait go on: what they have trained before is no other slot's."""
        for record in self._waiting:
            record.progress = self._saved(record)

    def _saved(self, record: TrialRecord) -> Progress:
        newest = checkpoint.read_manifest(self.paths.trial(record.trial))[-1:]
        return newest[0].progress if newest else Progress()

    def _end_stint(self, record: TrialRecord) -> None:
        """The trial's time in its slot is over; one that never had a word from there is not counted."""
        stint = self._stint(record)
        self._began.pop(record.trial, None)
        if stint:
            patiently(lambda: timeline.append(self.paths.timeline, stint), self._pause)
        if not self._began:
            self._note_running()

    def _note_running(self) -> None:
        """Should the driver be killed, what they have had is known all the same."""
        with contextlib.suppress(OSError):
            stints = [self._stint(self.records[trial]) for trial in self._began]
            timeline.note_running(self.paths, filter(None, stints))
        self._running_were_noted = time.monotonic()

    def _stint(self, record: TrialRecord) -> timeline.Stint | None:
        """What the trial has had of its slot until now, if it had a word from there."""
        began, before = self._began.get(record.trial, (0.0, 0.0))
        if not (began and record.slot):
            return None
        seconds = timeline.added(record.seconds, {"training": max(0.0, record.progress.train_seconds - before)})
        return timeline.Stint(record.trial, self._driver, record.slot, began, self._now(), seconds)

    def _now(self) -> float:
        """Unix time [s]."""
        return self._epoch + time.monotonic()

    def _is_over(self, progress: Progress) -> bool:
        return progress.used(self._spec.budget.unit) >= self._spec.budget.max

    def _write(self) -> None:
        """Write the table, a large one perhaps with a later report."""
        self._table_is_due = True
        self._write_if_due()

    def _write_if_due(self) -> None:
        rows = len(self.records)
        pause = rows * ROW_SECONDS if rows > SMALL_TABLE else 0.0
        if not self._table_is_due or time.monotonic() < self._table_was_written + pause:
            return
        search = self._spec.search
        names = [*search.parameters, *search.fixed]
        patiently(lambda: trials_table.write(self.paths, self.records.values(), names), self._pause)
        self._table_is_due, self._table_was_written = False, time.monotonic()
        self._waits = False

    def _pause(self) -> None:
        """The disk is full: nothing goes on until there is room, or the user has enough of it.

        Raises:
            OSError: the sweep was interrupted.
        """
        if self.is_interrupted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.paths.folder))
        if not self._waits:
            self._listener.note(f"The disk of {shown(self.paths.folder)} is full: the sweep waits for room")
        self._waits = True
        time.sleep(POLL_SECONDS)


class Trials(Trainings):
    """All trials of one sweep."""

    def __init__(self, spec: Spec, paths: SweepPaths, listener: Listener) -> None:
        """Begin, or go on with what the study holds.

        Raises:
            UserError: the study cannot be read, or is not that of the trials that are there.
        """
        super().__init__(spec, paths, listener)
        stopping = spec.early_stopping
        self._asha = Asha(spec.rungs(), stopping.reduction_factor, stopping.mode)
        try:
            self._search = Search(spec, paths, self._pause)
            scores = self._search.scores()
            self.records = {record.trial: record for record in self._search.records()}
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{shown(paths.study)} is damaged ({one_line(error)}): bring it back") from error
        if not self.records and any(paths.trials.glob("*")):
            raise UserError(f"{shown(paths.study)} knows nothing of the trials that are there: bring it back")
        for rung in self._asha.rungs:
            rung.scores |= scores.get(rung.budget, {})
        self._waiting = [record for record in self.records.values() if record.state == "interrupted"]
        self._find_progress()
        if self.records:
            self._write()  # the sweep may have died before

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial will be drawn any more."""
        drawn = len(self.records) - (BASELINE in self.records)
        return self.is_interrupted or not (self._waiting or drawn < self._spec.search.trials)

    def report(self, trial: str, progress: Progress, **more: Any) -> bool:
        """Take an iteration's report; whether the trial goes on, by the rungs as well.

        They do not stop one that has used its whole budget, when its last iteration jumped over one, and wait for one
        whose score is of before a resume: others have learnt since.
        """
        goes_on = super().report(trial, progress, **more)
        if trial == BASELINE:
            return goes_on
        record, unit = self.records[trial], self._spec.budget.unit
        score = None if progress.is_stale else progress.score
        for verdict in self._asha.report(trial, progress.used(unit), score):
            rung = verdict.rung
            if not (verdict.goes_on or self._is_over(progress)):
                record.state = "early_stopped"
                record.why = f"among the weaker of {len(rung.scores)} trials at {rung.budget} {unit}"
                self._search.stop(record, rung.budget)
                return False
            self._search.report(trial, rung.budget, rung.scores[trial])
        return goes_on

    def insight(self) -> dict[str, Any]:
        """What the search says of itself, for ``result.json``."""
        return self._search.insight()

    def _next(self) -> TrialRecord:
        """What a resumed sweep has not ended; the baseline; then what the sampler says."""
        if self._waiting:
            record = self._waiting.pop(0)
            record.state, record.why = "running", ""
            self.paths.trial(record.trial).hparams.unlink(missing_ok=True)
            return record
        baseline = self._spec.baseline
        if baseline is not None and BASELINE not in self.records:
            trial, parameters = self._search.add_baseline(), dict(baseline)
        else:
            trial, drawn = self._search.draw()
            parameters = {**self._spec.search.fixed, **drawn}
        return TrialRecord(trial, parameters, training_seed(self._spec.search.seed, trial))

    def _tell(self, record: TrialRecord) -> None:
        self._search.tell(record)
        with contextlib.suppress(Exception):  # no trial waits for it; at the sweep's end what is missing is written
            tensorboard.write_trial(self._spec, self.paths, record)


class Retrainings(Trainings):
    """Trials of the sweep, trained again with fresh seeds, side by side; each by its id and its seed's number."""

    def __init__(self, spec: Spec, paths: SweepPaths, listener: Listener, trials: Sequence[TrialRecord]) -> None:
        """Begin; ``trials``: whose parameters are trained again."""
        super().__init__(spec, paths.retrained, listener)
        seeds = range(1, spec.final.retrain_seeds + 1)
        named = [(f"{trial.trial}-{seed}", trial.parameters) for seed in seeds for trial in trials]
        try:
            known = trials_table.read(self.paths)
        except UserError:  # it is damaged: each training takes up what it has published
            known = []
        done = {record.trial: record for record in known if record.state in ("completed", "failed", "infeasible")}
        self.records |= {name: done[name] for name, _ in named if name in done}
        self._waiting = [
            TrialRecord(name, dict(parameters), training_seed(spec.search.seed, f"retrain/{name}"))
            for name, parameters in named
            if name not in done
        ]
        self._find_progress()

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial will be drawn any more."""
        return self.is_interrupted or not self._waiting

    def of(self, trial: str) -> list[TrialRecord]:
        """The retrainings of a trial, by the number of their seed."""
        numbers = {name: int(name.rpartition("-")[2]) for name in self.records if name.rpartition("-")[0] == trial}
        return [self.records[name] for name in sorted(numbers, key=lambda name: numbers[name])]

    def _next(self) -> TrialRecord:
        return self._waiting.pop(0)

    def _tell(self, record: TrialRecord) -> None:
        """Nobody: the sampler learns from what it drew."""
