"""Lets a sweep run while its processes are killed and its files are damaged, and says whether it held."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
from conftest import Command, Sweep, start, write_sweep

from go1_sweep import checkpoint
from go1_sweep.paths import TrialPaths

OVER = ("completed", "early_stopped", "infeasible", "failed")
STALL_SECONDS = 8
FLAKY = Path(__file__).parent / "flaky"


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size; where none may be mounted, a folder."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False)
    try:
        yield folder
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def chaotic_sweep(folder: Path, seed: int, simulator: str, trials: int) -> Sweep:
    """A sweep whose draws hang on their numbers alone, so that faults cannot change them."""
    fixed: dict[str, Any] = {"num_envs": 128, "env.step_seconds": 0.05, "agent.save_interval": 2}
    parameters: dict[str, Any] = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    if simulator == "fake":
        parameters |= {"env.fault": {"choice": ["", "child", "nan"]}, "env.fault_iteration": {"choice": [3, 9]}}
    else:
        fixed = {"num_envs": 8, "agent.save_interval": 1}
    return write_sweep(
        folder,
        simulator=simulator,
        search={"trials": trials, "sampler": "random", "seed": seed, "parameters": parameters, "fixed": fixed},
        baseline=simulator == "fake",
        budget={"unit": "iterations", "max": 24 if simulator == "fake" else 4},
        early_stopping={"window": 1, "scheduler": "none"},
        resources={
            "gpus": 0,
            "concurrent": 2,
            "retries": 1000,
            "stall_timeout": STALL_SECONDS if simulator == "fake" else 60,
        },
        final={"finalists": 1, "envs": 12, "exam_seconds": 2, "seeds": 1, "video": False},
    )


@dataclass
class Chaos:
    """One sweep under faults.

    Attributes:
        over: what was said of each trial when it was over.
        said: what the last command ended with.
        faults: how often each was inflicted.
    """

    sweep: Sweep
    trials: int
    disk: Path
    random: random.Random
    flaky: int = 0
    over: dict[str, dict[str, str]] = field(default_factory=dict)
    said: tuple[int, str, str] = (0, "", "")
    faults: Counter[str] = field(default_factory=Counter)

    def run(self, faults: int) -> None:
        """Inflict so many, at random moments, and let the sweep come to its end."""
        command = self._start()
        while sum(self.faults.values()) < faults and command.process.poll() is None:
            if self.random.random() < 0.9:
                self._await_training(command)
            time.sleep(self.random.uniform(0.0, 2.0))
            self._look()
            inflict = self.random.choice(
                [
                    self._kill_worker,
                    self._kill_worker,
                    self._kill_actor,
                    self._kill_driver,
                    self._kill_raylet,
                    self._hang_worker,
                    self._damage_checkpoint,
                    self._damage_manifest,
                    self._fill_disk,
                ]
            )
            if inflict(command):
                self.faults[inflict.__name__.strip("_")] += 1
            if command.process.poll() is not None and command.process.returncode != 0:
                self._check_end(command)
                command = self._start()
        self._check_end(command)
        for _ in range(20):
            if command.process.returncode == 0:
                return
            command = self._start()
            self._check_end(command)
        raise AssertionError(f"the sweep does not end: {self.said}")

    def check(self) -> None:
        """Nothing is lost, doubled or miscounted."""
        self._look()
        rows = self.sweep.trials()
        assert len(rows) == self.trials + ("baseline" in rows)
        maximum = max(int(row["iterations"]) for row in rows.values())
        for trial, row in rows.items():
            faulty = row.get("env.fault", "").strip("'") == "nan"
            assert row["state"] == ("failed" if faulty else "completed"), row
            iterations = self.sweep.iterations(trial)
            assert iterations == list(range(1, len(iterations) + 1)), (trial, iterations)
            if not faulty:
                assert len(iterations) == int(row["iterations"]) == maximum, row
                last = self.sweep.logs(trial)[-1]
                assert last["env_steps"] == row["env_steps"]
                assert abs(float(last["train_seconds"]) - float(row["train_seconds"])) < 0.01
        study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{self.sweep.folder / 'optuna.db'}")
        told = {trial.user_attrs["trial"]: trial.user_attrs["state"] for trial in study.trials}
        assert told == {trial: row["state"] for trial, row in rows.items() if trial != "baseline"}
        assert not list(self.sweep.folder.rglob("*.tmp"))

    def _start(self) -> Command:
        path = os.pathsep.join(filter(None, (str(FLAKY), os.environ.get("PYTHONPATH"))))
        environment = {"GO1_SWEEP_FLAKY": str(self.flaky), "PYTHONPATH": path} if self.flaky else None
        if self.sweep.folder.exists():
            return start("resume", str(self.sweep.folder), env=environment)
        return start("run", str(self.sweep.file), env=environment)

    def _check_end(self, command: Command) -> None:
        """Wait for it; no process may be left, and nobody may see a traceback."""
        self.said = command.finish(300)
        assert "Traceback" not in self.said[2], self.said
        self._look()

    def _await_training(self, command: Command) -> None:
        """Until a worker is there, or the sweep is over: of most of a start there is little to break."""
        deadline = time.monotonic() + 60
        while command.process.poll() is None and time.monotonic() < deadline:
            if any("go1_sweep.trial" in " ".join(self._cmdline(process)) for process in command.descendants()):
                return
            time.sleep(0.2)

    def _cmdline(self, process: psutil.Process) -> list[str]:
        with contextlib.suppress(psutil.Error):
            return process.cmdline()
        return []

    def _look(self) -> None:
        """What was over is as it was."""
        with contextlib.suppress(FileNotFoundError):
            now = {trial: row for trial, row in self.sweep.trials().items() if row["state"] in OVER}
            for trial, before in self.over.items():
                assert now.get(trial) == before, f"{trial} was {before}, and is {now.get(trial)}"
            self.over = now

    def _kill_worker(self, command: Command) -> bool:
        return self._kill(command, _is_worker)

    def _kill_actor(self, command: Command) -> bool:
        names = ("ray::TrialActor", "ray::ResourceTrainable")  # at rest, and in a call
        return self._kill(command, lambda process: process.name().startswith(names))

    def _kill_raylet(self, command: Command) -> bool:
        return self._kill(command, lambda process: process.name() == "raylet")

    def _kill_driver(self, command: Command) -> bool:
        command.process.kill()
        command.process.wait()
        return True

    def _hang_worker(self, command: Command) -> bool:
        return self._kill(command, _is_worker, signal.SIGSTOP)

    def _kill(self, command: Command, is_one: Callable[[psutil.Process], bool], number: int = signal.SIGKILL) -> bool:
        found = []
        for process in command.descendants():
            with contextlib.suppress(psutil.Error):
                if is_one(process):
                    found.append(process)
        if not found:
            return False
        with contextlib.suppress(psutil.Error):
            self.random.choice(sorted(found, key=lambda process: process.pid)).send_signal(number)
        return True

    def _damage_checkpoint(self, command: Command) -> bool:
        published = self._published_of_one_that_runs(command)
        if published is None:
            return False
        paths, newest = published
        return self._damage(paths.folder / newest.file) and self._kill_worker(command)

    def _damage_manifest(self, command: Command) -> bool:
        published = self._published_of_one_that_runs(command)
        return published is not None and self._damage(published[0].manifest) and self._kill_worker(command)

    def _published_of_one_that_runs(self, command: Command) -> tuple[TrialPaths, checkpoint.Published] | None:
        """A running trial, and its newest checkpoint; most are too young to have one, and are waited for."""
        deadline = time.monotonic() + 15
        while command.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                running = [trial for trial, row in self.sweep.trials().items() if row["state"] == "running"]
                self.random.shuffle(running)
                for trial in running:
                    paths = TrialPaths(self.sweep.folder / "trials" / trial)
                    if published := checkpoint.read_manifest(paths):
                        return paths, published[-1]
            time.sleep(0.2)
        return None

    def _damage(self, file: Path) -> bool:
        """Cut it off, or flip a bit."""
        with contextlib.suppress(FileNotFoundError):
            content = bytearray(file.read_bytes())
            at = self.random.randrange(len(content))
            if self.random.random() < 0.5:
                del content[at:]
            else:
                content[at] ^= 1 << self.random.randrange(8)
            beside = file.with_name(f"{file.name}.damaged")  # at once, as a disk does it
            beside.write_bytes(content)
            beside.replace(file)
            return True
        return False

    def _fill_disk(self, command: Command) -> bool:
        if not os.path.ismount(self.disk):
            return False
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        time.sleep(3)
        filler.unlink()
        return True


def _is_worker(process: psutil.Process) -> bool:
    """Not its guardian, a fork of it: with that gone as well there is nobody who could act."""
    parent = process.parent()
    is_guardian = parent is not None and "go1_sweep.trial" in parent.cmdline()
    return "go1_sweep.trial" in process.cmdline() and not is_guardian


def chaos(folder: Path, seed: int, faults: int, simulator: str = "fake", trials: int = 8) -> Counter[str]:
    """One sweep under so many faults, beside the undisturbed one where that can be compared.

    Returns:
        How often each fault was inflicted.
    """
    with disk(folder / "disk", 40 if simulator == "fake" else 400) as small:  # mjlab's checkpoints take 5 MB each
        sweep, flaky = chaotic_sweep(small, seed, simulator, trials), 7 if seed % 2 else 0
        chaotic = Chaos(sweep, trials, small, random.Random(seed), flaky)
        chaotic.run(faults)
        chaotic.check()
        if simulator == "fake":
            (folder / "calm").mkdir()
            calm = chaotic_sweep(folder / "calm", seed, simulator, trials)
            code, _, err = calm.run("--set", "resources.stall_timeout=900")  # however busy the machine is
            assert code == 0, err
            same = ("trial", "state", "seed", "learning_rate", "env.fault")
            assert what(chaotic.sweep, same) == what(calm, same)
            ours, theirs = (json.loads((each.folder / "result.json").read_text()) for each in (chaotic.sweep, calm))
            assert ours["winner"]["trial"] == theirs["winner"]["trial"]
        return chaotic.faults


def what(sweep: Sweep, columns: tuple[str, ...]) -> list[list[str]]:
    """Some columns of all trials."""
    return [[row[column] for column in columns] for row in sweep.trials().values()]
