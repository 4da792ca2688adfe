"""The Optuna study: draws parameters, and is told the truth about what became of them."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Container
from typing import Any, TypeVar

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

from go1_sweep import interrupts
from go1_sweep.errors import UserError, one_line
from go1_sweep.parameters import Value
from go1_sweep.paths import BASELINE, SweepPaths, shown
from go1_sweep.patience import patiently
from go1_sweep.protocol import Progress
from go1_sweep.space import draw
from go1_sweep.spec import Spec
from go1_sweep.sweep.insight import insight
from go1_sweep.trials_table import TrialRecord

T = TypeVar("T")

TOLD = {
    "completed": TrialState.COMPLETE,
    "early_stopped": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""Our state -> Optuna's, but for divergence. An ``interrupted`` trial stays RUNNING: nothing is known of it yet."""


class Search:
    """Draws the trials of a sweep; each is asked for once and told once.

    The study is what a sweep is resumed from: it keeps our trial id, state, reason and progress as user attributes, and
    of a running trial the scores at the rungs that let it go on. The baseline has a study of its own in the same file:
    its values need not lie in the space, and a trial without parameters among the others would end the joint sampling
    of TPE, which takes the parameters that all trials have.
    """

    def __init__(self, spec: Spec, paths: SweepPaths, pause: Callable[[], None]) -> None:
        """Open the study, or begin it. A trial that was decided and not told when the sweep died is told.

        Args:
            spec: of the sweep.
            paths: of the sweep.
            pause: see ``patiently``.
        """
        self._pause = pause
        self._told: set[str] = set()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec = spec
        self._budgets = [*spec.rungs(), spec.budget.max]
        try:
            storage = _OurStorage(URL.create("sqlite", database=str(paths.study)).render_as_string())
        except RuntimeError as error:  # another Optuna's
            raise UserError(f"{shown(paths.study)} cannot be used: {one_line(error)}") from None
        direction = "maximize" if spec.early_stopping.mode == "max" else "minimize"
        self._study, self._baseline_study = (
            optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
            for name in (spec.name, f"{spec.name} {BASELINE}")
        )
        self._asked: dict[str, Trial] = {}
        for study in (self._baseline_study, self._study):
            for frozen in study.get_trials(states=[TrialState.RUNNING]):
                self._take_up(study, frozen)

    def draw(self) -> tuple[str, dict[str, Value]]:
        """The id and the parameters of a new trial; the id is its number in the study.

        The samplers are fresh ones each time, so that a draw hangs on the seed and on what the study holds alone, and a
        sweep that is resumed draws what it would have drawn.
        """
        self._study.sampler = _sampler(self._spec, len(self._study.get_trials(deepcopy=False)))
        return self._drawn(self._write(self._study.ask))

    def add_baseline(self) -> str:
        """Begin the study of the baseline."""
        return self._keep(BASELINE, self._write(self._baseline_study.ask))

    def records(self) -> list[TrialRecord]:
        """All trials in the order of their draws, the baseline first; what is not over was interrupted."""
        trials = [*self._baseline_study.get_trials(), *self._study.get_trials()]
        return [self._record(trial) for trial in trials]

    def scores(self) -> dict[int, dict[str, float]]:
        """The scores at each rung, by trial."""
        found: dict[int, dict[str, float]] = {}
        for trial in self._study.get_trials():
            for rung, score in trial.intermediate_values.items():
                found.setdefault(rung, {})[_id(trial)] = score
        return found

    def report(self, trial_id: str, rung: int, score: float) -> None:
        """The trial's score at a rung."""
        trial = self._asked[trial_id]
        self._write(lambda: trial.report(score, step=rung))

    def stop(self, record: TrialRecord, rung: int) -> None:
        """The trial does not go on past the rung; told now, since nobody may be there when it has ended."""
        trial = self._asked[record.trial]
        self._write(lambda: trial.set_user_attr("stopped_at", rung))
        self.tell(record)

    def tell(self, record: TrialRecord) -> None:
        """What became of the trial.

        A stopped trial is told without a value: Optuna takes the one reported at its last rung. One whose
        parameters are at fault violates a constraint, which TPE learns from, as it does not from a failure.
        """
        if record.trial in self._told:  # when it was stopped
            return
        trial = self._asked[record.trial]
        told = {
            "progress": dataclasses.asdict(record.progress),
            "diverged": record.diverged,
            "why": record.why,
            "state": record.state,  # the last: from here on it is decided
        }

        def tell() -> None:
            for name, each in told.items():
                trial.set_user_attr(name, each)
            if record.state in TOLD:
                self._conclude(trial, record)

        self._write(tell)

    def insight(self) -> dict[str, Any]:
        """See ``insight.py``."""
        return insight(self._study, self._budgets)

    def _write(self, call: Callable[[], T]) -> T:
        return patiently(lambda: interrupts.held(call), self._pause)

    def _take_up(self, study: optuna.Study, frozen: FrozenTrial) -> None:
        """Go on with a trial of a sweep that ended before it."""
        study.sampler = _sampler(self._spec, frozen.number)
        trial = Trial(study, frozen._trial_id)  # Optuna has no public name for the way from one to the other
        if study is self._baseline_study:
            self._keep(BASELINE, trial)
        else:
            self._drawn(trial)  # what was drawn stays; the sweep may have died in the middle of it
        if trial.user_attrs.get("state") in TOLD:
            self._conclude(trial, self._record(study.get_trials()[frozen.number]))

    def _drawn(self, trial: Trial) -> tuple[str, dict[str, Value]]:
        trial_id = self._keep(f"{trial.number:04d}", trial)
        _ = trial.relative_params  # what is drawn together is drawn here, whichever of it the study has already
        return trial_id, self._write(lambda: draw(self._spec.space, _EachByItself(trial, self._spec)))

    def _keep(self, trial_id: str, trial: Trial) -> str:
        self._asked[trial_id] = trial
        self._write(lambda: trial.set_user_attr("trial", trial_id))
        return trial_id

    def _conclude(self, trial: Trial, record: TrialRecord) -> None:
        """End the trial in the study; what of it was done before is not done again."""
        state, value = TOLD[record.state], None
        with warnings.catch_warnings(action="ignore"):  # Optuna says what it has heard already
            self._add_evidence(trial, record)
        if record.state == "completed":
            value = record.progress.score
        elif record.diverged:
            state = TrialState.PRUNED
        trial.study.tell(trial, value, state=state)
        self._told.add(record.trial)

    def _add_evidence(self, trial: Trial, record: TrialRecord) -> None:
        """What the sampler learns from, besides a value."""
        if record.state == "infeasible":
            trial.set_constraint("memory", 1.0)
        elif record.diverged:
            trial.set_constraint("divergence", 1.0)
        elif record.state == "early_stopped":
            assert record.progress.score is not None
            trial.report(record.progress.score, trial.user_attrs["stopped_at"])

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        trial_id, search = _id(trial), self._spec.search
        if trial_id == BASELINE:
            parameters = dict(self._spec.baseline or {})
        else:
            drawn = {name: trial.params[name] for name in self._spec.space if name in trial.params}
            parameters = {**search.fixed, **drawn}
        record = TrialRecord(trial_id, parameters, training_seed(search.seed, trial_id), state="interrupted")
        attributes = trial.user_attrs
        if "progress" in attributes:
            record.progress = Progress(**attributes["progress"])
        if attributes.get("state") in TOLD:
            record.state, record.diverged = attributes["state"], attributes["diverged"]
        record.why = attributes.get("why", "the sweep died")
        return record


class _OurStorage(RDBStorage):
    """A database that this process alone writes into: of what Optuna has read it reads again what was written since.

    Optuna would read all trials that run for each draw, five times: five seconds where a thousand run.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._written: set[int] = set()
        self._newest: dict[int, int] = {}
        """Of the trials of a study that were read."""

    def check_trial_is_updatable(self, trial_id: int, trial_state: TrialState) -> None:
        """Asked before each write."""
        self._written.add(trial_id)
        super().check_trial_is_updatable(trial_id, trial_state)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Those that the cache above, which keeps what it was given, may not know as they are."""
        known = max(trial_id_greater_than, self._newest.get(study_id, -1))
        found = super()._get_trials(study_id, states, included_trial_ids & self._written, known)
        ids = {trial._trial_id for trial in found}
        self._written -= ids
        self._newest[study_id] = max(known, *ids) if ids else known
        return found


class _EachByItself:
    """Draws each parameter by a sampler of its own: what was drawn before the sweep died moves none of the others."""

    def __init__(self, trial: Trial, spec: Spec) -> None:
        self._trial, self._spec = trial, spec

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        """See ``Suggester``."""
        return self._by(name).suggest_categorical(name, choices)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """See ``Suggester``."""
        return self._by(name).suggest_float(name, low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """See ``Suggester``."""
        return self._by(name).suggest_int(name, low, high, log=log)

    def _by(self, name: str) -> Trial:
        self._trial.study.sampler = _sampler(self._spec, self._trial.number, name)
        return self._trial


def training_seed(sweep_seed: int, trial: str) -> int:
    """The trial's training seed, in [0, 2**31)."""
    return _hashed(f"{sweep_seed}/{trial}")


def _id(trial: FrozenTrial) -> str:
    return trial.user_attrs["trial"]


def _sampler(spec: Spec, number: int, parameter: str = "") -> BaseSampler:
    """The sampler of a trial by its number in the study: of what is drawn together, or of a parameter by itself."""
    seed = _hashed(f"{spec.search.seed}/sampler/{number}/{parameter}")
    return (
        RandomSampler(seed=seed)
        if spec.search.sampler == "random"
        else TPESampler(seed=seed, multivariate=True, constant_liar=True)
    )


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
