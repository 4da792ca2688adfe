"""The driver's truth about the trials: who is drawn next, who goes on, what became of each.

Free of Ray. Whatever Tune tells (a result, an end, a lost actor) comes here, and from here it goes to
ASHA, to Optuna, to ``trials.csv`` and to the terminal.
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from go1_sweep import trials_table
from go1_sweep.paths import BASELINE, SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.sweep.early_stopping import Asha
from go1_sweep.sweep.search import Search
from go1_sweep.trials_table import INTERRUPTED, TrialRecord


class Listener(Protocol):
    """Hears of trials as they change."""

    def started(self, record: TrialRecord) -> None:
        """A trial has a slot."""
        ...

    def ended(self, record: TrialRecord) -> None:
        """A trial is over."""
        ...


class Trials:
    """All trials of one sweep."""

    def __init__(self, spec: Spec, paths: SweepPaths, listener: Listener) -> None:
        stopping = spec.early_stopping
        self._spec = spec
        self._paths = paths
        self._listener = listener
        self._search = Search(spec, paths)
        self._asha = Asha(spec.rungs(), stopping.reduction_factor, stopping.mode)
        self.is_interrupted = False
        self.records: dict[str, TrialRecord] = {}

    @property
    def unfinished(self) -> list[TrialRecord]:
        """The trials that were drawn and are not over."""
        return [record for record in self.records.values() if record.state == "running"]

    @property
    def is_exhausted(self) -> bool:
        """Whether no trial will be drawn any more."""
        drawn = len(self.records) - (BASELINE in self.records)
        return self.is_interrupted or drawn >= self._spec.search.trials

    def draw(self) -> TrialRecord:
        """The next trial: the baseline, then what the sampler says."""
        baseline = self._spec.baseline
        if baseline is not None and BASELINE not in self.records:
            trial, parameters = self._search.add_baseline(), dict(baseline)
        else:
            trial, drawn = self._search.draw()
            parameters = {**self._spec.search.fixed, **drawn}
        record = TrialRecord(trial, parameters, training_seed(self._spec.search.seed, trial))
        self.records[trial] = record
        self._write()
        return record

    def started(self, trial: str) -> None:
        """The trial has a slot."""
        self._listener.started(self.records[trial])

    def report(self, trial: str, progress: Progress, gpu: str = "") -> bool:
        """Take an iteration's report; whether the trial goes on.

        A trial that has used its whole budget may say so itself, whatever the rungs say that its last
        iteration jumped over.
        """
        record = self.records[trial]
        record.progress, record.gpu = progress, gpu
        budget = self._spec.budget
        is_over = progress.used(budget.unit) >= budget.max
        if trial != BASELINE:
            for verdict in self._asha.report(trial, progress.used(budget.unit), progress.score):
                rung = verdict.rung
                self._search.report(trial, rung.budget, rung.scores[trial])
                if not (verdict.goes_on or is_over):
                    record.state = "early_stopped"
                    record.why = f"among the weaker of {len(rung.scores)} trials at {rung.budget} {budget.unit}"
                    return False
        return is_over or not self.is_interrupted

    def ended(self, trial: str, result: dict[str, Any] | None) -> None:
        """The trial is over: by a stop, by its own end (``result`` says how), or with its actor (``None``)."""
        record = self.records[trial]
        if result is None:
            record.state, record.why = "failed", "its actor died (killed, or its host went down)"
        elif result["state"] != "running":
            record.state, record.why = result["state"], result["why"]
            record.evidence, record.diverged = result["evidence"], result["diverged"]
            record.progress = Progress(**result["progress"])
        elif record.state == "running":
            record.state, record.why = "interrupted", INTERRUPTED
        self._search.tell(record)
        self._listener.ended(record)
        self._write()

    def insight(self) -> dict[str, Any]:
        """What the search says of itself, for ``result.json``."""
        return self._search.insight()

    def interrupt(self) -> None:
        """End each running trial at its next report, and draw no more."""
        self.is_interrupted = True

    def abandon(self, why: str) -> None:
        """The sweep ends now: what is not over was interrupted."""
        for record in self.unfinished:
            record.state, record.why = "interrupted", why
            self._search.tell(record)
        self._write()

    def _write(self) -> None:
        search = self._spec.search
        trials_table.write(self._paths, self.records.values(), [*search.parameters, *search.fixed])


def training_seed(sweep_seed: int, trial: str) -> int:
    """The trial's training seed, in [0, 2**31)."""
    digest = hashlib.sha256(f"{sweep_seed}/{trial}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
