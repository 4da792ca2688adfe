"""What Ray Tune asks and tells, passed on to the sweep's trials. No decision is made here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from go1_sweep import protocol
from go1_sweep.paths import uri_of
from go1_sweep.store.sweep_copy import Draws
from go1_sweep.sweep.trials import Trainings
from go1_sweep.trials_table import TrialRecord
from go1_sweep.worker.process import WorkerSpec

T = TypeVar("T")


class Trouble:
    """Keeps the first exception that our side raises inside a call of Tune's (a full disk, say).

    Tune would take it for a fault of the trial, tell the searcher of that trial once more, or end in a
    traceback. Instead every trial is stopped, and the exception is raised when Tune is done.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None

    def caught(self, call: Callable[[], T], otherwise: T) -> T:
        """What the call returns, or ``otherwise`` where it raises, or another one has raised before."""
        if self._error is not None:
            return otherwise
        try:
            return call()
        except Exception as error:
            self._error = error
            return otherwise

    def raise_again(self) -> None:
        """Raise what was caught."""
        if self._error is not None:
            raise self._error


class _Live:
    """Tune copies and pickles what it is given, for a restore that we never do; these stay the one they are."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TuneSearcher(_Live, Searcher):
    """Hands out the trials; Tune's own ids are mapped to ours.

    No metric is named to Tune: it would end the whole sweep at the first result without it.
    """

    def __init__(
        self,
        trials: Trainings,
        trouble: Trouble,
        request: Callable[[TrialRecord], protocol.Train],
        worker: WorkerSpec,
        slots: Callable[[], int],
        draws: Draws,
    ) -> None:
        super().__init__()
        self._trials = trials
        self._trouble = trouble
        self._draws = draws
        self._drawn: TrialRecord | None = None
        """The trial that is next, once its draw is kept."""
        self._request = request
        self._worker = dataclasses.asdict(worker)
        self._store = uri_of(trials.paths.folder) or ""
        self._slots = slots
        self._ids: dict[str, str] = {}
        self._with_a_slot: set[str] = set()

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration; none while no slot is free, so that no draw is premature."""
        return self._trouble.caught(lambda: self._suggest(trial_id), otherwise=Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The trial is over; an actor that died has no result to show for it."""
        ours = None if error or result is None else _unflattened(result)
        self._with_a_slot.discard(trial_id)
        self._trouble.caught(lambda: self._trials.ended(self._ids[trial_id], ours), otherwise=None)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: the scheduler has heard of it already, and this is skipped for the last result."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the truth is in our own files."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a sweep is resumed from our own files."""

    def _suggest(self, trial_id: str) -> Any:
        if self._trials.is_interrupted:
            return Searcher.FINISHED
        if self._trials.is_exhausted and not self._drawn:  # one that runs may be drawn again
            return None if self._trials.unfinished else Searcher.FINISHED
        if len(self._with_a_slot) >= self._slots():
            return None
        if self._drawn is None:
            self._drawn = self._trials.draw()
            self._draws.add()
        if not self._draws.are_kept():
            return None
        record, self._drawn = self._drawn, None
        self._ids[trial_id] = record.trial
        self._with_a_slot.add(trial_id)
        return {"train": dataclasses.asdict(self._request(record)), "worker": self._worker, "store": self._store}


class TuneScheduler(_Live, FIFOScheduler):
    """Stops the trials that may not go on."""

    def __init__(self, trials: Trainings, trouble: Trouble) -> None:
        super().__init__()
        self._trials = trials
        self._trouble = trouble

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Stop the trial or let it go on."""
        ours = _unflattened(result)
        progress = protocol.Progress(**ours["progress"])
        more = {name: ours[name] for name in ("gpu", "slot", "seconds", "notes")}
        goes_on = self._trouble.caught(lambda: self._trials.report(_trial_id(trial), progress, **more), otherwise=False)
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP


class TuneEvents(_Live, Callback):
    """Tells when a trial has got its slot, and looks again and again whether there are any."""

    def __init__(self, trials: Trainings, trouble: Trouble, slots: Callable[[], int]) -> None:
        self._trials = trials
        self._trouble = trouble
        self._slots = slots

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Tune looks what there is to do; it does not ask the searcher each time."""
        self._trouble.caught(self._slots, otherwise=0)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's actor is up."""
        self._trouble.caught(lambda: self._trials.started(_trial_id(trial)), otherwise=None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's actor died, or cannot be reached, and another one is to take the trial."""
        trial.config["train"]["turn"] += 1
        self._trouble.caught(lambda: self._trials.lost(_trial_id(trial)), otherwise=None)


def _trial_id(trial: Trial) -> str:
    return trial.config["train"]["trial"]


def _unflattened(result: dict[str, Any]) -> dict[str, Any]:
    """Our part of a result, from the flat keys (``progress/score``) that Tune makes of it."""
    nested: dict[str, dict[str, Any]] = {"progress": {}, "seconds": {}}
    for key, value in result.items():
        part, _, name = key.partition("/")
        if part in nested and name:
            nested[part][name] = value
    return {
        **{key: result[key] for key in ("state", "why", "evidence", "notes", "diverged", "gpu", "slot")},
        **nested,
    }
