"""How many train seconds a search needs until what it would return is within 2% of the best.

Searches over the learning curves of `surrogate.py`, on so many virtual GPUs, again and again with other seeds: this
project's (TPE and ASHA as a sweep has them), random draws without stopping, and Ray Tune's own OptunaSearch and
ASHAScheduler over the same space. These compare trials by iterations, as is usual: as many as the task's own env count
makes in one budget (and their best is the best of so many iterations); ``plain_seconds``: by train seconds, as ours.

    python benchmarks/search_efficiency.py --curves FILE --budget 90 --repetitions 50 --out FILE
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
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

WITHIN = 0.02
METHODS = ("ours", "random", "plain", "plain_seconds")


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
        told = {"state": state, "why": why, "evidence": [], "notes": [], "diverged": False, "progress": vars(progress)}
        told |= {"slot": "", "seconds": {}}
        self._trials.ended(trial, told)
        return completed


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


def _no_controller() -> Any:
    """The scheduler takes Tune's controller, and does not look at it."""


def spec_of(name: str, budget: int, seed: int, changes: Sequence[str] = ()) -> Spec:
    """`search_spaces/flat.yaml` with the recorded budget, without an end but by the changes."""
    changes = [f"budget.max={budget}", f"search.seed={seed}", "search.trials=1000000", "baseline=false", *changes]
    if name == "random":
        changes += ["search.sampler=random", "early_stopping.scheduler=none"]
    return spec.load(Path("search_spaces/flat.yaml"), changes)


def best_known(surrogate: Surrogate, space: Space) -> dict[str, dict[str, Any]]:
    """For each method: the best final score among 20,000 draws, by what it takes for a whole budget."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    drawn = [draw(space, study.ask()) for _ in range(20_000)]
    iterations, found = surrogate.budget / surrogate.seconds_per_iteration[ENVS], {}
    for name in METHODS:
        whole = [
            iterations * surrogate.seconds_per_iteration[int(each["num_envs"])] if name == "plain" else surrogate.budget
            for each in drawn
        ]
        finals = [surrogate.final(each, seconds) for each, seconds in zip(drawn, whole, strict=True)]
        best = int(np.argmax(finals))
        within = float(np.mean(np.array(finals) >= (1 - WITHIN) * finals[best]))
        found[name] = {"score": finals[best], "parameters": drawn[best], "share_of_draws_within": within}
    return found


def seconds_until(
    job: tuple[str, int], surrogate: Surrogate, best_scores: dict[str, float], gpus: int, cap: float
) -> float:
    """Train seconds until the completed trial with the best score is truly that good; at most ``cap``."""
    name, seed = job
    target = (1 - WITHIN) * best_scores[name]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    best = -np.inf
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        sweep_spec = spec_of(name, int(surrogate.budget), seed)
        if name.startswith("plain"):
            method: Method = Plain(sweep_spec, surrogate.seconds_per_iteration if name == "plain" else None)
        else:
            method = Ours(sweep_spec, Path(folder))
        for spent, _, score, true in sweep(method, surrogate, gpus, np.random.default_rng(seed)):
            if spent > cap:
                break
            if score > best and true >= target:
                return spent
            best = max(best, score)
    return cap


def main() -> None:
    """Run all, and write what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=Path, required=True, help="of `record_curves.py --design joint`")
    parser.add_argument("--budget", type=int, required=True, help="seconds of training of a whole trial")
    parser.add_argument("--gpus", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--cap", type=float, default=200, help="whole budgets after which a search is given up")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, trainings = spec_of("ours", options.budget, 0).space, read(options.curves)
    surrogate = Surrogate(trainings, space, options.budget)
    best = best_known(surrogate, space)
    best_scores, cap = {name: each["score"] for name, each in best.items()}, options.cap * options.budget
    print(f"best known: {best}; the model tells {surrogate.explained():.0%} of unseen finals", flush=True)
    jobs = [(name, seed) for seed in range(options.repetitions) for name in METHODS]
    with ProcessPoolExecutor(options.processes) as pool:
        call = partial(seconds_until, surrogate=surrogate, best_scores=best_scores, gpus=options.gpus, cap=cap)
        found = dict(zip(jobs, pool.map(call, jobs), strict=True))
    seconds = {name: [found[name, seed] for seed in range(options.repetitions)] for name in METHODS}
    for name, each in seconds.items():
        print(f"{name}: median {np.median(each):.0f} s, {each.count(cap)} given up")
    result = {
        "what": "train seconds until the best completed trial is within 2% of the best known final score",
        "curves": {"file": options.curves.name, "trainings": len(trainings)},
        "surrogate": {"smoothing": surrogate.smoothing, "explained_of_unseen": surrogate.explained()},
        "best_known": best,
        "budget": options.budget,
        "gpus": options.gpus,
        "repetitions": options.repetitions,
        "given_up_after": cap,
        "given_up": {name: each.count(cap) for name, each in seconds.items()},
        "quartiles": {name: np.quantile(each, [0.25, 0.5, 0.75]).tolist() for name, each in seconds.items()},
        "mean": {name: float(np.mean(each)) for name, each in seconds.items()},
        "times_ours": {
            name: {
                "median": float(np.median(seconds[name]) / np.median(seconds["ours"])),
                "mean": float(np.mean(seconds[name]) / np.mean(seconds["ours"])),
            }
            for name in METHODS[1:]
        },
        "versions": {package: version(package) for package in ("ray", "optuna", "scipy")},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["times_ours"]))


if __name__ == "__main__":
    main()
