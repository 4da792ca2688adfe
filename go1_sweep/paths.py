"""The only place that spells the name of a file that a sweep, or a play, leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINE = "baseline"
"""The id of the trial that runs the task's own defaults."""


@dataclass(frozen=True)
class TrialPaths:
    """The folder of one trial, written by its simulator worker."""

    folder: Path

    @property
    def config(self) -> Path:
        """Everything that was resolved for the trial, before training began."""
        return self.folder / "config.yaml"

    @property
    def logs(self) -> Path:
        """One row per PPO iteration."""
        return self.folder / "logs.csv"

    @property
    def exported(self) -> PolicyPaths:
        """A finalist's policy, but for the winner's: where Isaac Lab's users look for it."""
        return PolicyPaths(self.folder / "exported")

    @property
    def hparams(self) -> Path:
        """Parameters, score and state for TensorBoard, written by the driver; sorts behind the worker's events."""
        return self.folder / "events.out.tfevents.hparams"

    @property
    def progress(self) -> Path:
        """What was reported to the sweep, one JSON object per PPO iteration."""
        return self.folder / "progress.jsonl"

    @property
    def lock(self) -> Path:
        """Of a single training: locked by its driver as long as it lives."""
        return self.folder / ".lock"

    @property
    def turn(self) -> Path:
        """The number of the actor that has the trial of a sweep; see ``turn``."""
        return self.folder / ".turn"

    @property
    def worker_log(self) -> Path:
        """All output of the simulator worker, rsl_rl's and the simulator's own included."""
        return self.folder / "worker.log"

    @property
    def manifest(self) -> Path:
        """The published checkpoints with size and SHA-256, one a line; written after the files that it names."""
        return self.folder / "checkpoints.jsonl"

    def checkpoint(self, iterations: int) -> Path:
        """The checkpoint after that many completed PPO updates."""
        return self.folder / f"model_{iterations}.pt"

    def checkpoints(self) -> list[Path]:
        """All files that are named as checkpoints, by their number."""
        numbers = ((re.fullmatch(r"model_(\d+)\.pt", path.name), path) for path in self.folder.iterdir())
        found = {int(match[1]): path for match, path in numbers if match}
        return [found[number] for number in sorted(found)]

    def evaluation(self, checkpoint: str) -> Path:
        """How a checkpoint did in the exam, written by the driver; ``checkpoint`` is the stem of its name."""
        return self.folder / f"evaluation_{checkpoint}.json"

    def trajectories(self, checkpoint: str, seed: int) -> Path:
        """Every step of a checkpoint's exam with a seed; ``checkpoint`` is the stem of its name."""
        return self.folder / f"trajectories_{checkpoint}_{seed}.npz"


@dataclass(frozen=True)
class PolicyPaths:
    """The folder of an exported policy."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The rsl_rl checkpoint that everything was made of."""
        return self.folder / "checkpoint.pt"

    @property
    def onnx(self) -> Path:
        """The policy for onnxruntime, in one file."""
        return self.folder / "policy.onnx"

    @property
    def torchscript(self) -> Path:
        """The policy for libtorch."""
        return self.folder / "policy.pt"

    @property
    def runtime(self) -> Path:
        """What runs the policy on a robot; it needs numpy and onnxruntime."""
        return self.folder / "policy.py"

    @property
    def description(self) -> Path:
        """What the policy's input and output are, and where it comes from; written after the files that it names."""
        return self.folder / "policy.json"

    @property
    def evaluation(self) -> Path:
        """How the policy and its rivals did in the exam."""
        return self.folder / "evaluation.json"

    @property
    def sim_to_sim(self) -> Path:
        """How the exported policy did in plain MuJoCo."""
        return self.folder / "sim_to_sim.json"

    @property
    def sums(self) -> Path:
        """The SHA-256 of every file, for ``sha256sum --check``."""
        return self.folder / "SHA256SUMS"

    @property
    def video(self) -> Path:
        """The policy, walking."""
        return self.folder / "video.mp4"

    @property
    def baseline_video(self) -> Path:
        """The baseline's policy, told the same."""
        return self.folder / "baseline.mp4"

    @property
    def readme(self) -> Path:
        """What the folder holds, and how it is used."""
        return self.folder / "README.md"

    def files(self) -> list[Path]:
        """All of these that are there, but for ``sums``."""
        runs = (self.onnx, self.torchscript, self.description, self.runtime, self.checkpoint)
        tells = (self.readme, self.evaluation, self.sim_to_sim, self.video, self.baseline_video)
        return [each for each in (*runs, *tells) if each.exists()]


@dataclass(frozen=True)
class PlayPaths:
    """What ``play`` leaves in a folder beside a checkpoint; each play by the time at which it began."""

    folder: Path
    stamp: str

    @property
    def video(self) -> Path:
        """The policy, walking."""
        return self.folder / f"go1_policy_{self.stamp}.mp4"

    @property
    def log(self) -> Path:
        """All output of the simulator."""
        return self.folder / f"worker_{self.stamp}.log"

    def evaluation(self, checkpoint: str) -> Path:
        """How a checkpoint did; ``checkpoint`` is the stem of its name."""
        return self.folder / f"evaluation_{checkpoint}_{self.stamp}.json"


def alive(lock: Path) -> Path:
    """The sign of life of who holds a lock, for a store, which has none: written again and again."""
    return lock.with_name(".alive")


def play_folder(checkpoint: Path) -> Path:
    """Where plays of the checkpoint leave their files."""
    return checkpoint.parent / "play"


@dataclass(frozen=True)
class SweepPaths:
    """The folder of one sweep, written by the driver."""

    folder: Path

    @property
    def spec(self) -> Path:
        """The sweep file with every default resolved; running it again repeats the sweep."""
        return self.folder / "spec.yaml"

    @property
    def environment(self) -> Path:
        """Versions, names of each host's GPUs, git commit."""
        return self.folder / "environment.json"

    @property
    def lock(self) -> Path:
        """Locked by the driver as long as it lives."""
        return self.folder / ".lock"

    @property
    def alive(self) -> Path:
        """In an object store alone: see there."""
        return alive(self.lock)

    @property
    def study(self) -> Path:
        """The Optuna study (sqlite)."""
        return self.folder / "optuna.db"

    @property
    def trials(self) -> Path:
        """The folder of the trial folders."""
        return self.folder / "trials"

    @property
    def timeline(self) -> Path:
        """Which trial had which slot, when, and what for, one a line."""
        return self.folder / "timeline.jsonl"

    @property
    def running(self) -> Path:
        """Those of them that go on, as far as the driver noted; it is gone when there are none."""
        return self.folder / "running.jsonl"

    @property
    def trials_table(self) -> Path:
        """One row per trial."""
        return self.folder / "trials.csv"

    @property
    def retrained(self) -> SweepPaths:
        """Trials that were trained again with fresh seeds: a table and folders as those of the trials."""
        return SweepPaths(self.folder / "retrained")

    @property
    def best(self) -> PolicyPaths:
        """The winner's policy."""
        return PolicyPaths(self.folder / "best")

    @property
    def final_log(self) -> Path:
        """All output of the simulator in the final stage."""
        return self.folder / "final.log"

    @property
    def result(self) -> Path:
        """The winner and the sums of the sweep."""
        return self.folder / "result.json"

    @property
    def winner_events(self) -> Path:
        """The film of the winner for TensorBoard."""
        return self.folder / "events.out.tfevents.winner"

    @property
    def report(self) -> Path:
        """All of it on one page."""
        return self.folder / "report.html"

    @property
    def wandb(self) -> Path:
        """The folder of W&B's files; ``wandb sync`` takes it."""
        return self.folder / "wandb"

    @property
    def wandb_state(self) -> Path:
        """The ids of the sweep's runs in W&B, and how far each was told."""
        return self.wandb / "go1_sweep.json"

    @property
    def wandb_lock(self) -> Path:
        """Locked by the process that tells W&B as long as it lives."""
        return self.wandb / ".lock"

    @property
    def wandb_log(self) -> Path:
        """All output of the process that tells W&B."""
        return self.wandb / "follower.log"

    def trial(self, trial: str) -> TrialPaths:
        """The folder of the trial with that id."""
        return TrialPaths(self.trials / trial)


def is_of_driver(name: str) -> bool:
    """Whether the driver writes the file, by its name relative to the sweep's folder; else workers do."""
    parts = Path(name).parts
    if SweepPaths(Path()).trials.name in parts[:-1]:
        return parts[-1].startswith("evaluation_") or parts[-1] == TrialPaths(Path()).hparams.name
    best = SweepPaths(Path()).best
    ours = (best.evaluation, best.readme, best.sim_to_sim, best.sums)
    return parts[0] != best.folder.name or parts[-1] in [each.name for each in ours]


def is_checkpoint(name: str) -> bool:
    """Whether a file is named as a trial's checkpoint."""
    return re.fullmatch(r"model_\d+\.pt", Path(name).name) is not None


def copies(base: Path | None = None) -> Path:
    """Where a machine keeps its copies of folders in object stores, below its user's cache or another folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return (base or Path(cache)).absolute() / "go1_sweep" / "stores"


def copy_of(uri: str, base: Path | None = None) -> Path:
    """The copy of a folder in an object store; the way back is ``uri_of``.

    Args:
        uri: ``SCHEME://BUCKET/PREFIX``, perhaps with a query.
        base: see ``copies``.
    """
    where, _, query = uri.partition("?")
    scheme, _, prefix = where.partition("://")
    return copies(base) / (f"{scheme}-{query.encode().hex()}" if query else scheme) / prefix.strip("/")


def uri_of(path: Path, base: Path | None = None) -> str | None:
    """What a path in a copy is in the store; ``None`` where it lies in no copy."""
    try:
        scheme, *parts = path.absolute().relative_to(copies(base)).parts
    except ValueError:
        return None
    scheme, _, query = scheme.partition("-")
    return f"{scheme}://{'/'.join(parts)}" + (f"?{bytes.fromhex(query).decode()}" if query else "")


def shown(path: Path) -> str:
    """The path as a message prints it: as ``shown_here``, and in a copy of a store's folder its URI."""
    return uri_of(path) or shown_here(path)


def shown_here(path: Path) -> str:
    """The path as a command on this machine takes it: relative to the working folder where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def shown_anywhere(path: Path) -> str:
    """The path as a command takes it on any machine that has the storage."""
    return uri_of(path) or str(path.absolute())


def is_plain_name(name: str) -> bool:
    """Whether the name can be one folder: letters, digits, ``. _ -``, not hidden, at most 100 long."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name) is not None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside the file to write to; it takes the file's place, or is removed again after an error.

    Raises:
        OSError: the folder cannot be written; the old file is untouched.
    """
    new = beside(path, os.getpid())
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def beside(path: Path, process: int | str) -> Path:
    """Where a process writes what will take the file's place."""
    return path.with_name(f".{path.name}.{process}.tmp")


def drop_leftovers(folder: Path) -> None:
    """Remove what a process that was killed was about to put in place.

    Nobody else may write into the folder, but for a report, which can be made at any time.
    """
    for new in folder.glob(".*.tmp"):
        if not new.match(beside(SweepPaths(folder).report, "*").name):
            new.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file as a whole: a reader sees the old text or the new one, also after a power cut.

    Raises:
        OSError: the folder is full or cannot be written; the old file is untouched.
    """
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file as a whole by the content, as ``write_atomically`` does.

    Raises:
        OSError: see there.
        ValueError: a number is NaN or infinite.
    """
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
