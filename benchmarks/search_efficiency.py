"""How many train seconds a search needs until what it would return is within 10, 5 and 2% of the best.

Searches over the learning curves of `surrogate.py`, on so many virtual GPUs, again and again with other seeds: this
project's (TPE and ASHA as a sweep has them), random draws without stopping, and Ray Tune's own OptunaSearch and
ASHAScheduler over the same space. These count a trial's budget in iterations, as is usual, of which all trials have as
many as the task's own env count makes in one budget; ``plain_early``: and compare them for the first time after a tenth
of it, as many set it; ``plain_seconds``: in train seconds, as ours. What a search would return is one of its finalists:
the completed trials with the best scores, one of which is truly that good, without noise.

    python benchmarks/search_efficiency.py --curves FILE --budget 240 --repetitions 50 --out FILE
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.samplers import RandomSampler
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from surrogate import ENVS, Method, Surrogate, read, sweep

from go1_sweep import spec
from go1_sweep.paths import SweepPaths, TrialPaths
from go1_sweep.protocol import Progress
from go1_sweep.space import Space, draw
from go1_sweep.spec import Spec
from go1_sweep.sweep.trials import Trials
from go1_sweep.trials_table import TrialRecord

WITHIN = (0.1, 0.05, 0.02)
METHODS = ("ours", "random", "plain", "plain_seconds", "plain_early")
BY_ITERATIONS = ("plain", "plain_early")


class Deaf:
    """Hears of trials, and does nothing."""

    def started(self, record: TrialRecord) -> None:
        """Nothing."""

    def ended(self, record: TrialRecord, folder: TrialPaths) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def noted(self, record: TrialRecord, text: str) -> None:
        """Nothing."""


class Ours:
    """The driver's own book-keeping of a sweep, as it is."""

    def __init__(self, sweep_spec: Spec, folder: Path) -> None:
        self._trials = Trials(sweep_spec, SweepPaths(folder), Deaf())
        self._budget = sweep_spec.budget.max

    @property
    def records(self) -> dict[str, TrialRecord]:
        """What became of all trials."""
        return self._trials.records

    def next(self) -> tuple[str, dict[str, Any]] | None:
        """Drawn, while there are more."""
        if self._trials.is_exhausted:
            return None
        record = self._trials.draw()
        return record.trial, record.parameters

    def report(self, trial: str, seconds: float, score: float) -> bool:
        """By the rungs."""
        return self._trials.report(trial, Progress(train_seconds=seconds, score=score)) and seconds < self._budget

    def ended(self, trial: str) -> bool:
        """Told as a trial's actor tells it."""
        progress = self._trials.records[trial].progress
        completed = progress.train_seconds >= self._budget
        state, why = ("completed", "used its whole budget") if completed else ("running", "")
        self._tell(trial, state, why, diverged=False)
        return completed

    def diverged(self, trial: str) -> None:
        """Told as a trial's actor tells it."""
        self._trials.records[trial].progress = replace(self._trials.records[trial].progress, score=None)
        self._tell(trial, "failed", "diverged", diverged=True)

    def _tell(self, trial: str, state: str, why: str, *, diverged: bool) -> None:
        told = {"state": state, "why": why, "evidence": [], "notes": [], "diverged": diverged}
        told |= {"progress": vars(self._trials.records[trial].progress), "slot": "", "seconds": {}}
        self._trials.ended(trial, told)


class Plain:
    """Ray Tune's searcher and scheduler, called as Tune's controller calls them."""

    def __init__(self, sweep_spec: Spec, seconds_per_iteration: dict[int, float] | None) -> None:
        """Wire them up; without seconds per iteration, trials are compared by train seconds."""
        stopping, self._per_iteration = sweep_spec.early_stopping, seconds_per_iteration
        self._budget = int(sweep_spec.budget.max / (seconds_per_iteration[ENVS] if seconds_per_iteration else 1.0))

        def define(trial: Any) -> None:
            draw(sweep_spec.space, trial)

        self._searcher = OptunaSearch(space=define, metric="score", mode=stopping.mode, seed=sweep_spec.search.seed)
        self._scheduler = ASHAScheduler(
            time_attr="used",
            metric="score",
            mode=stopping.mode,
            max_t=self._budget,
            grace_period=round(stopping.grace * self._budget),
            reduction_factor=stopping.reduction_factor,
        )
        self._trials: dict[str, Any] = {}

    def next(self) -> tuple[str, dict[str, Any]]:
        """Suggested."""
        trial_id = f"{len(self._trials):04d}"
        parameters = self._searcher.suggest(trial_id)
        assert parameters is not None
        self._trials[trial_id] = SimpleNamespace(trial_id=trial_id, parameters=parameters, reports=0, result={})
        self._scheduler.on_trial_add(_no_controller(), self._trials[trial_id])
        return trial_id, parameters

    def report(self, trial: str, seconds: float, score: float) -> bool:
        """By its rungs; the searcher does not hear of a result that stops."""
        it = self._trials[trial]
        it.reports += 1
        used = seconds / (self._per_iteration[it.parameters["num_envs"]] if self._per_iteration else 1.0)
        it.result = {"training_iteration": it.reports, "used": used, "score": score}
        decision = self._scheduler.on_trial_result(_no_controller(), it, it.result)
        if decision == TrialScheduler.CONTINUE:
            self._searcher.on_trial_result(trial, it.result)
        return decision == TrialScheduler.CONTINUE

    def ended(self, trial: str) -> bool:
        """Told as Tune tells it, stopped or not."""
        it = self._trials[trial]
        self._scheduler.on_trial_complete(_no_controller(), it, it.result)
        self._searcher.on_trial_complete(trial, it.result)
        return it.result["used"] >= self._budget

    def diverged(self, trial: str) -> None:
        """Told as Tune tells it of a trial that has raised."""
        self._scheduler.on_trial_error(_no_controller(), self._trials[trial])
        self._searcher.on_trial_complete(trial, error=True)


def _no_controller() -> Any:
    """The scheduler takes Tune's controller, and does not look at it."""


def spec_of(name: str, budget: int, seed: int, changes: Sequence[str] = ()) -> Spec:
    """`search_spaces/flat.yaml` with the recorded budget, without an end but by the changes."""
    changes = [f"budget.max={budget}", f"search.seed={seed}", "search.trials=1000000", "baseline=false", *changes]
    if name == "random":
        changes += ["search.sampler=random", "early_stopping.scheduler=none"]
    if name == "plain_early":
        changes += ["early_stopping.grace=0.1", "early_stopping.reduction_factor=3"]
    return spec.load(Path("search_spaces/flat.yaml"), changes)


def best_known(surrogate: Surrogate, space: Space) -> dict[str, Any]:
    """The best final score among 20,000 draws."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    drawn = [draw(space, study.ask()) for _ in range(20_000)]
    finals = np.array([surrogate.final(each) for each in drawn])
    best = int(np.argmax(finals))
    shares = {f"{within:.0%}": float(np.mean(finals >= (1 - within) * finals[best])) for within in WITHIN}
    return {"score": float(finals[best]), "parameters": drawn[best], "share_of_draws_within": shares}


def seconds_until(job: tuple[str, int], surrogate: Surrogate, best_score: float, gpus: int, cap: float) -> list[float]:
    """For each of ``WITHIN``: train seconds until one of the finalists is truly that good; infinity: after ``cap``."""
    name, seed = job
    targets = [(1 - within) * best_score for within in WITHIN]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    finalists: list[tuple[float, float]] = []
    found: list[float] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        sweep_spec = spec_of(name, int(surrogate.budget), seed)
        if name.startswith("plain"):
            method: Method = Plain(sweep_spec, surrogate.seconds_per_iteration if name in BY_ITERATIONS else None)
        else:
            method = Ours(sweep_spec, Path(folder))
        for spent, _, score, true in sweep(method, surrogate, gpus, np.random.default_rng(seed)):
            if spent > cap or len(found) == len(WITHIN):
                break
            finalists = sorted([*finalists, (score, true)], reverse=True)[: sweep_spec.final.finalists]
            best = max(true for _, true in finalists)
            found += [spent for target in targets[len(found) :] if best >= target]
    return found + [math.inf] * (len(WITHIN) - len(found))


def main() -> None:
    """Run all, and write what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`")
    parser.add_argument("--budget", type=int, required=True, help="seconds of training of a whole trial")
    parser.add_argument("--metric", help="that searches go by; that of flat.yaml")
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--cap", type=float, default=100, help="whole budgets after which a search is given up")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ours, trainings = spec_of("ours", options.budget, 0), read(options.curves)
    metric = options.metric or ours.early_stopping.metric
    surrogate = Surrogate(trainings, ours.space, metric, options.budget)
    best = best_known(surrogate, ours.space)
    cap = options.cap * options.budget
    told = surrogate.explained()
    moments = (*ours.rungs(), options.budget)
    unseen = {f"{seconds:g}": round(float(np.interp(seconds, surrogate.times, told)), 2) for seconds in moments}
    print(f"best known: {best}; of what it has not seen the model tells, after so many seconds, {unseen}", flush=True)
    jobs = [(name, seed) for seed in range(options.repetitions) for name in METHODS]
    with ProcessPoolExecutor(options.processes) as pool:
        call = partial(seconds_until, surrogate=surrogate, best_score=best["score"], gpus=options.gpus, cap=cap)
        found = dict(zip(jobs, pool.map(call, jobs), strict=True))
    result = {
        "what": "train seconds until one of the finalists is within so much of the best known final score",
        "metric": metric,
        "early_stopping": ours.early_stopping.model_dump() | {"metric": metric},
        "curves": {"file": options.curves.name, "trainings": len(trainings)},
        "surrogate": {"scales_and_nugget": surrogate.fit, "explained_of_unseen_after": unseen},
        "best_known": best,
        "budget": options.budget,
        "gpus": options.gpus,
        "repetitions": options.repetitions,
        "given_up_after": cap,
        "within": {},
        "versions": {package: version(package) for package in ("ray", "optuna", "scipy")},
    }
    for at, within in enumerate(WITHIN):
        seconds = {name: [found[name, seed][at] for seed in range(options.repetitions)] for name in METHODS}
        result["within"][f"{within:.0%}"] = {
            name: {
                "quartiles": np.quantile(np.minimum(each, cap), [0.25, 0.5, 0.75]).round().tolist(),
                "given_up": each.count(math.inf),
            }
            for name, each in seconds.items()
        }
        print(f"within {within:.0%}: {result['within'][f'{within:.0%}']}")
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
