"""The Optuna study: draws parameters, and is told the truth about what became of them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState
from sqlalchemy import URL

from go1_sweep.parameters import Value
from go1_sweep.paths import BASELINE, SweepPaths
from go1_sweep.space import draw
from go1_sweep.spec import Spec
from go1_sweep.sweep.insight import insight
from go1_sweep.trials_table import TrialRecord

TOLD = {
    "completed": TrialState.COMPLETE,
    "early_stopped": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
"""Our state -> Optuna's, but for divergence. An ``interrupted`` trial stays RUNNING: nothing is known of it yet."""


class Search:
    """Draws the trials of a sweep; each is asked for once and told once.

    The study keeps our trial id, state and reason as user attributes. The baseline has a study of its own
    in the same file: its values need not lie in the space, and a trial without parameters among the others
    would end the joint sampling of TPE, which takes the parameters that all trials have.
    """

    def __init__(self, spec: Spec, paths: SweepPaths) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = spec.space
        self._budgets = [*spec.rungs(), spec.budget.max]
        storage = RDBStorage(URL.create("sqlite", database=str(paths.study)).render_as_string())
        direction = "maximize" if spec.early_stopping.mode == "max" else "minimize"
        self._study = optuna.create_study(
            study_name=spec.name, storage=storage, direction=direction, sampler=_sampler(spec)
        )
        self._baseline_study = optuna.create_study(
            study_name=f"{spec.name} {BASELINE}", storage=storage, direction=direction
        )
        self._asked: dict[str, Trial] = {}

    def draw(self) -> tuple[str, dict[str, Value]]:
        """The id and the parameters of a new trial; the id is its number in the study."""
        trial = self._study.ask()
        trial_id = f"{trial.number:04d}"
        return self._keep(trial_id, trial), draw(self._space, trial)

    def add_baseline(self) -> str:
        """Begin the study of the baseline."""
        return self._keep(BASELINE, self._baseline_study.ask())

    def report(self, trial_id: str, rung: int, score: float) -> None:
        """The trial's score at a rung."""
        self._asked[trial_id].report(score, step=rung)

    def tell(self, record: TrialRecord) -> None:
        """What became of the trial.

        A stopped trial is told without a value: Optuna takes the one reported at its last rung. One whose
        parameters are at fault violates a constraint, which TPE learns from, as it does not from a failure.
        """
        trial = self._asked[record.trial]
        trial.set_user_attr("state", record.state)
        trial.set_user_attr("why", record.why)
        if record.state not in TOLD:
            return
        state, value = TOLD[record.state], None
        if record.state == "infeasible":
            trial.set_constraint("memory", 1.0)
        elif record.diverged:
            trial.set_constraint("divergence", 1.0)
            state = TrialState.PRUNED
        elif record.state == "completed":
            value = record.progress.score
        trial.study.tell(trial, value, state=state)

    def insight(self) -> dict[str, Any]:
        """See ``insight.py``."""
        return insight(self._study, self._budgets)

    def _keep(self, trial_id: str, trial: Trial) -> str:
        self._asked[trial_id] = trial
        trial.set_user_attr("trial", trial_id)
        return trial_id


def _sampler(spec: Spec) -> BaseSampler:
    if spec.search.sampler == "random":
        return RandomSampler(seed=spec.search.seed)
    return TPESampler(seed=spec.search.seed, multivariate=True, constant_liar=True)
