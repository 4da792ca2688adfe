"""What the driver can bear, without a simulator: trials, reports, memory, beside a bare Ray Tune.

The trials' actors sleep instead of training, and report what a trial's actor reports; all else of a sweep is there:
Tune with our searcher and scheduler, Optuna's study on the disk, ASHA, `trials.csv`, `timeline.jsonl`, the terminal's
lines. Before it the same actors under Tune alone: random draws, no stopping, no files of ours.

    python benchmarks/driver.py trials --slots 64 --trials 1280 --out FILE    # of a second each: how many a minute
    python benchmarks/driver.py reports --slots 16 --trials 16 --out FILE     # without a pause: how many a second
    python benchmarks/driver.py memory --slots 4 --trials 10000 --sampler random --out FILE   # memory, to the last one
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from go1_sweep import spec as sweep_file
from go1_sweep.paths import SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.spec import Spec
from go1_sweep.sweep import run  # before Ray: it says how Ray is to behave
from go1_sweep.sweep.local_ray import local_ray
from go1_sweep.sweep.slots import Slots
from go1_sweep.terminal import Plan, Terminal

# isort: split
from ray import tune
from ray.tune import CheckpointConfig, RunConfig

REPORTS = {"trials": (2, 0.5), "reports": (200, 0.0), "memory": (1, 0.0)}
"""Of each trial: how many, and the seconds before each."""
SIDES = ("tune", "ours")
SAMPLE_SECONDS = 0.5
CPUS = 0.001
"""Of a slot: as many as memory holds."""


class Sleeper(tune.Trainable):
    """Reports as ``TrialActor`` does, and sleeps between."""

    reports, seconds, warming_up = 0, 0.0, 0.0
    is_ours = True

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first trial, which lasts until all slots have an actor: of two Tune throws away the slower one."""
        self.reset_config(config)
        self._to_wait = self.warming_up

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._config, self._done = new_config, 0
        return True

    def step(self) -> dict[str, Any]:
        """One report; the same scores for all, so that no trial is stopped."""
        time.sleep(self._to_wait + self.seconds)
        self._to_wait = 0.0
        self._done += 1
        is_over = self._done == self.reports
        if not self.is_ours:
            return {"score": float(self._done), "done": is_over}
        return {
            "trial": self._config["train"]["trial"],
            "notes": [],
            "state": "completed" if is_over else "running",
            "why": "used its whole budget" if is_over else "",
            "evidence": [],
            "diverged": False,
            "gpu": "",
            "slot": f"process {os.getpid()}",
            "seconds": {"building": 0.0, "waiting": 0.0},
            "progress": dataclasses.asdict(Progress(self._done, self._done, float(self._done), float(self._done))),
            "done": is_over,
        }


class Watch(threading.Thread):
    """Looks at this process while trials come and go.

    Attributes:
        samples: (seconds, trials that are over, CPU seconds of this process, bytes that it holds).
    """

    def __init__(self, over: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._over, self._end = over, threading.Event()
        self.samples: list[tuple[float, int, float, int]] = []

    def run(self) -> None:
        """Until it is told."""
        while not self._end.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Look once."""
        held = psutil.Process().memory_info().rss
        self.samples.append((time.monotonic(), self._over(), time.process_time(), held))

    def end(self) -> None:
        """The last trial is over."""
        self._end.set()
        self.join()
        self.sample()


class Counting(tune.Callback):
    """How many trials of the bare Tune are over."""

    def __init__(self) -> None:
        self.over = 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """One more."""
        self.over += 1


def main() -> None:
    """Run both, and write what they bore."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=REPORTS)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--trials", type=int, default=320)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sampler", default="tpe", help="tpe or random")
    parser.add_argument("--warming_up", type=float, default=60, help="seconds in which all actors have started")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    (Sleeper.reports, Sleeper.seconds), Sleeper.warming_up = REPORTS[options.part], options.warming_up
    if options.side:
        with tempfile.TemporaryDirectory() as folder:
            watch = (ours if options.side == "ours" else bare)(Path(folder), options)
        print(json.dumps(figures(watch, options)))
        return
    found = {}
    for side in SIDES:  # in a process of its own: Ray keeps its first token
        command = [sys.executable, *sys.argv, "--side", side]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        found[side] = json.loads(said.splitlines()[-1])  # Ray warns of many actors before
        print(side, json.dumps(found[side]), flush=True)
    result = {
        "part": options.part,
        "slots": options.slots,
        "trials": options.trials,
        "sampler": options.sampler,
        "reports_a_trial": Sleeper.reports,
        "seconds_a_report": Sleeper.seconds,
        **found,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {package: version(package) for package in ("ray", "optuna")},
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def ours(folder: Path, options: argparse.Namespace) -> Watch:
    """A sweep as it is, but for the actors."""
    Sleeper.is_ours = True
    spec, paths, slots = spec_of(folder, options), SweepPaths(folder / "sweep"), Slots(options.slots, 0, CPUS)  # pyright: ignore[reportArgumentType]
    paths.trials.mkdir(parents=True)
    run.TrialActor = Sleeper  # pyright: ignore[reportAttributeAccessIssue]
    run.counting = lambda wanted, say: lambda: options.slots
    terminal = Terminal(Console(file=io.StringIO()))
    terminal.plan(Plan(spec, "flat", {}, options.slots, 0))
    with local_ray(str(folder), ""):
        trials = run.Trials(spec, paths, terminal)
        watch = Watch(lambda: len(trials.records) - len(trials.unfinished))
        watch.start()
        run._run_trainings(spec, trials, slots, terminal, str(folder))
        watch.end()
    assert {record.state for record in trials.records.values()} == {"completed"}
    return watch


def bare(folder: Path, options: argparse.Namespace) -> Watch:
    """Tune alone."""
    Sleeper.is_ours = False
    counting = Counting()
    watch = Watch(lambda: counting.over)
    with local_ray(str(folder), ""):
        watch.start()
        tune.Tuner(
            tune.with_resources(Sleeper, {"cpu": CPUS}),
            param_space={"learning_rate": tune.loguniform(3e-4, 5e-3), "num_envs": tune.choice([1024, 2048, 4096])},
            tune_config=tune.TuneConfig(
                num_samples=options.trials, max_concurrent_trials=options.slots, reuse_actors=True
            ),
            run_config=RunConfig(
                storage_path=str(folder),
                verbose=0,
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                callbacks=[counting],
            ),
        ).fit()
        watch.end()
    assert counting.over == options.trials
    return watch


def spec_of(folder: Path, options: argparse.Namespace) -> Spec:
    """`flat.yaml` with a budget of so many reports."""
    changes = [
        "baseline=false",
        f"search.trials={options.trials}",
        f"search.sampler={options.sampler}",
        f"budget={{unit: iterations, max: {Sleeper.reports}}}",
        f"storage={folder}",
    ]
    return sweep_file.load(Path("search_spaces/flat.yaml"), changes)


def figures(watch: Watch, options: argparse.Namespace) -> dict[str, Any]:
    """Rates over the second half of the trials, until the last ones were begun; `cpu`: cores that the driver took."""
    half, last_begun = options.trials // 2, options.trials - options.slots
    steady = [sample for sample in watch.samples if half <= sample[1] <= last_begun]
    (began, first, cpu_before, _), (ended, last, cpu, _) = steady[0], steady[-1]
    held = {at: next(each[3] for each in watch.samples if each[1] >= at) for at in milestones(options.trials)}
    seconds, over = ended - began, last - first
    return {
        "seconds": round(watch.samples[-1][0] - watch.samples[0][0], 1),
        "steady_seconds": round(seconds, 1),
        "trials_a_minute": round(60 * over / seconds, 1),
        "reports_a_second": round(over * Sleeper.reports / seconds, 1),
        "busy": round(over * Sleeper.reports * Sleeper.seconds / (seconds * options.slots), 3),
        "cpu": round((cpu - cpu_before) / seconds, 2),
        "memory_mb": {str(at): round(bytes_held / 1e6) for at, bytes_held in held.items()},
    }


def milestones(trials: int) -> list[int]:
    """After how many trials the memory is told."""
    return [at for at in (0, 100, 300, 1000, 3000, 10_000) if at < trials] + [trials]


if __name__ == "__main__":
    main()
