"""Which checkpoints sit the exam at the end, and with which seeds."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from go1_sweep import checkpoint, strict_json
from go1_sweep.errors import BadInput
from go1_sweep.paths import BASELINE, PolicyPaths, SweepPaths, TrialPaths, shown
from go1_sweep.protocol import Policy
from go1_sweep.spec import Spec
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.trials_table import TrialRecord


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that is to sit the exam.

    Attributes:
        trial: whose it is; empty where it is of no sweep.
        policy: in its file.
        sha256: of the file.
        origin: where it comes from, for the description of the policy.
        roles: ``last`` of its trial, ``best`` by its training score, or both.
        evaluation: where a sweep keeps its evaluation; ``None`` where it is of no sweep.
    """

    trial: str
    policy: Policy
    sha256: str
    origin: dict[str, str]
    roles: tuple[str, ...] = ()
    evaluation: Path | None = None

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return Path(self.policy.checkpoint)


def candidates_of(
    spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord], warn: Callable[[str], None]
) -> list[Candidate]:
    """The last and the best published checkpoint of each finalist; one candidate where they are the same.

    A file that is not what its trial published is left out, with a warning.

    Raises:
        BadInput: a trial's ``config.yaml`` is missing.
    """
    found = []
    for record in finalists(records, spec.final.finalists, spec.early_stopping.mode):
        folder = _brought(paths, record.trial)
        intact = checkpoint.intact(folder, warn)
        for each, roles in _last_and_best(checkpoint.read_manifest(folder), spec.early_stopping.mode):
            if each in intact:
                found.append(_candidate(spec, paths, record, each, roles))
    return found


@dataclass(frozen=True)
class Retrained:
    """What came of parameters that were trained again.

    Attributes:
        candidates: the last checkpoint of each training.
        diverged: how many trainings left none, by the parameters' fault: their score is 0.
    """

    candidates: list[Candidate]
    diverged: int


def retrained(spec: Spec, paths: SweepPaths, records: Iterable[TrialRecord], warn: Callable[[str], None]) -> Retrained:
    """Of the retrainings of one trial; those that failed otherwise are left out, with a warning.

    Raises:
        BadInput: a ``config.yaml`` is missing.
    """
    found, diverged = [], 0
    for record in records:
        if record.state != "completed":
            diverged += record.diverged
            if not record.diverged:
                warn(f"retraining {record.trial} {record.state}: it is left out")
            continue
        unit, whole = spec.budget.unit, spec.budget.max
        published = checkpoint.intact(_brought(paths, record.trial), warn)
        last = [each for each in published if each.progress.used(unit) >= whole][-1:]
        found += [_candidate(spec, paths, record, each, ("last",)) for each in last]
    return Retrained(found, diverged)


def _brought(paths: SweepPaths, trial: str) -> TrialPaths:
    """The trial with its checkpoints, as soon as a store that is away gives them."""
    object_store.waited_for(lambda: sweep_copy.bring(paths, trial))
    return paths.trial(trial)


def _candidate(
    spec: Spec, paths: SweepPaths, record: TrialRecord, published: checkpoint.Published, roles: tuple[str, ...]
) -> Candidate:
    folder = paths.trial(record.trial)
    file = folder.folder / published.file
    return Candidate(
        trial=record.trial,
        policy=trained(file).policy,
        sha256=published.sha256,
        origin={"sweep": spec.name, "trial": record.trial, "checkpoint": published.file},
        roles=roles,
        evaluation=folder.evaluation(file.stem),
    )


def _last_and_best(
    published: list[checkpoint.Published], mode: str
) -> list[tuple[checkpoint.Published, tuple[str, ...]]]:
    last, best = published[-1:], checkpoint.best(published, mode)
    if best is None or [best] == last:
        return [(each, ("last", "best") if best else ("last",)) for each in last]
    return [(last[0], ("last",)), (best, ("best",))]


def finalists(records: Iterable[TrialRecord], count: int, mode: str) -> list[TrialRecord]:
    """The baseline, and the ``count`` best others by training score.

    Where no other has used its whole budget (the sweep was interrupted), all that have a score stand in; a baseline
    that has not, only beside others that have not: less training would speak against it.
    """
    sign = 1 if mode == "max" else -1
    scored = [record for record in records if record.progress.score is not None]
    others = [record for record in scored if record.trial != BASELINE]
    completed = [record for record in others if record.state == "completed"]
    ranked = sorted(completed or others, key=lambda record: -sign * (record.progress.score or 0.0))
    baseline = [record for record in scored if record.trial == BASELINE]
    return [record for record in baseline if record.state == "completed" or not completed] + ranked[:count]


@dataclass(frozen=True)
class Seeds:
    """Seeds of the envs that policies are judged in; training used none of them.

    Attributes:
        selecting: the winner is picked by.
        judging: it is judged by, and the baseline: what it was picked by says too much good of it.
    """

    selecting: list[int]
    judging: list[int]


def exam_seeds(sweep_seed: int, count: int, taken: Iterable[int | None]) -> Seeds:
    """So many of each kind."""
    drawn = evaluation_seeds(sweep_seed, 2 * count, taken)
    return Seeds(selecting=drawn[:count], judging=drawn[count:])


def evaluation_seeds(sweep_seed: int, count: int, taken: Iterable[int | None]) -> list[int]:
    """Seeds in [0, 2**31) that training did not use."""
    used = set(taken)
    digests = (hashlib.sha256(f"{sweep_seed}/evaluation/{i}".encode()).digest() for i in itertools.count())
    drawn = (int.from_bytes(digest[:4], "big") >> 1 for digest in digests)
    return list(itertools.islice((seed for seed in drawn if seed not in used), count))


@dataclass(frozen=True)
class Trained:
    """A policy, and how it was trained.

    Attributes:
        policy: in its file.
        simulator: that it was trained in, or ``auto``.
        seed: of its training, if that is known.
        task_id: that it was trained on, if that is known.
        max_iterations: that its training was to have in all, if that is known.
        deterministic: see ``protocol.Train``; ``None``: not known.
        origin: of an exported checkpoint, what its ``policy.json`` says of it.
    """

    policy: Policy
    simulator: str
    seed: int | None = None
    task_id: str = ""
    max_iterations: int | None = None
    deterministic: bool | None = None
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return Path(self.policy.checkpoint)


def trained(file: Path, task: str | None = None) -> Trained:
    """What the ``config.yaml`` or ``policy.json`` beside a checkpoint says of it.

    Args:
        file: the checkpoint.
        task: to play, whatever stands beside the file; ``None``: what it was trained on.

    Raises:
        BadInput: nothing says the task.
    """
    beside = _beside(file)
    if beside is None and task is None:
        names = f"{TrialPaths(file.parent).config.name} or {PolicyPaths(file.parent).description.name}"
        raise BadInput(f"{shown(file)}: no {names} beside it says which task it was trained on; name it: --task")
    content = beside or {"parameters": {}, "simulator": "auto"}
    policy = Policy(str(file), task or content["task"], content["parameters"])
    origin = {key: content[key] for key in ("sweep", "trial", "checkpoint") if "sha256" in content and key in content}
    max_iterations = content["budget_max"] if content.get("budget_unit") == "iterations" else None
    return Trained(
        policy=policy,
        simulator=content["simulator"],
        seed=content.get("seed"),
        task_id=content.get("task_id", ""),
        max_iterations=max_iterations,
        deterministic=content.get("deterministic"),
        origin=origin,
    )


def _beside(file: Path) -> dict[str, Any] | None:
    """The description beside the checkpoint, if there is one that can be used."""
    paths = PolicyPaths(file.parent)
    for path, read in ((TrialPaths(file.parent).config, _read_yaml), (paths.description, strict_json.loads)):
        try:
            content = read(path.read_text(encoding="utf-8"))
            is_ours = isinstance(content["parameters"], dict) and all(
                isinstance(name, str) and isinstance(value, bool | int | float | str)
                for name, value in content["parameters"].items()
            )
            if is_ours and isinstance(content["task"], str) and isinstance(content["simulator"], str):
                return content
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, RecursionError):
            continue
    return None


def _read_yaml(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
