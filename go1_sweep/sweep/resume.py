"""Whether a sweep may go on in a folder that is already there, and with which changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from go1_sweep import lock, spec, status, strict_json
from go1_sweep.errors import BadInput, UserError
from go1_sweep.eta import budgets_done
from go1_sweep.paths import SweepPaths, shown, uri_of
from go1_sweep.spec import Spec
from go1_sweep.store import object_store, sweep_copy
from go1_sweep.wording import resume_command
from go1_sweep.yaml_file import in_yaml

SAFE = ("resources.", "final.", "tracking.", "storage")
"""What may change between one start of a sweep and the next: where it runs, who hears of it, and what the final stage
does with trials that are what they were. Beside it ``search.trials`` may grow."""
IRRELEVANT = ("resources.", "tracking.", "storage")
"""To what a finished sweep has come."""


def spec_of(folder: Path, trials: int | None, overrides: Sequence[str]) -> Spec:
    """The spec of a sweep that is to go on.

    Args:
        folder: of the sweep; it may have been moved, and not renamed.
        trials: in all; ``None``: as many as before.
        overrides: as ``spec.load`` takes them.

    Raises:
        BadInput: it is no sweep's folder, or an override is wrong.
    """
    paths, folder = SweepPaths(folder), folder.absolute()
    status.refuse_what_is_no_sweep(paths)
    more = [f"search.trials={trials}"] if trials is not None else []
    found = spec.load(paths.spec, [*overrides, *more], {"storage": uri_of(folder.parent) or str(folder.parent)})
    if found.name != folder.name:
        raise BadInput(f"{shown(folder)} is the folder of the sweep {found.name}: give it that name again")
    return found


def earlier(wanted: Spec) -> Spec | None:
    """What is in the sweep's folder already; ``None`` where there is no such folder.

    Raises:
        BadInput: something else is there, the sweep runs, or its object store cannot be used.
    """
    paths = SweepPaths(sweep_copy.fetched(wanted.folder))
    try:
        sweep_copy.try_out(wanted.folder)
    except OSError as error:
        raise BadInput(f"storage: {object_store.refusal(error)}") from None
    if not paths.folder.exists():
        return None
    if not paths.spec.is_file():
        what = f"{shown(paths.folder)} exists already, and is no sweep's folder"
        raise BadInput(f"{what}: choose another name (--name) or move it away")
    if lock.is_held(paths.lock):
        raise runs_already(paths)
    if any(paths.trials.glob("*")) and not (paths.study.exists() and paths.study.stat().st_size):
        lost = f"{shown(paths.study)}, which says which parameters its trials have, is lost"
        raise BadInput(f"{shown(paths.folder)} cannot go on: {lost}; choose another name (--name) or bring it back")
    return spec.load(paths.spec, changes={"storage": wanted.storage})


def runs_already(paths: SweepPaths) -> BadInput:
    """The sentence for a sweep that runs."""
    who = lock.driver(paths.lock)
    by = f" (process {who.pid} on {who.host})" if who else ""
    return BadInput(f"{shown(paths.folder)} runs already{by}: python -m go1_sweep status says how it is doing")


def refuse_changes(before: Spec, now: Spec) -> None:
    """Let a sweep go on only as the one it was.

    Raises:
        BadInput: something has changed by which its trials could not be compared any more.
    """
    changes = [
        f"\n  {path}: {in_yaml(old)} before, {in_yaml(new)} now"
        for path, old, new in _changes(before, now)
        if not (path.startswith(SAFE) or (path == "search.trials" and new > old))
    ]
    if changes:
        driver = lock.driver(SweepPaths(now.folder).lock)
        go_on = driver.resume_command(now.folder) if driver else resume_command(now.folder)
        raise BadInput(
            f"{shown(now.folder)} exists already, and is another sweep:{''.join(changes)}\n"
            f"Run it under another name, or go on with the one that is there: {go_on}"
        )


def is_done(before: Spec, now: Spec) -> bool:
    """Whether all that is wanted is there."""
    try:
        is_finished = status.read(now.folder).phase == "finished"
    except UserError:  # a damaged table, which is written anew
        return False
    return is_finished and all(path.startswith(IRRELEVANT) for path, _, _ in _changes(before, now))


def done_before(of: Spec) -> float:
    """The training that the sweep's trials have had, in whole budgets, as far as its files say."""
    try:
        return budgets_done(status.read(of.folder).records, of)
    except UserError:
        return 0.0


def other_versions(paths: SweepPaths, now: dict[str, str]) -> list[str]:
    """The packages that are not what they were when the sweep ran before, a sentence each."""
    try:
        before = strict_json.loads(paths.environment.read_text(encoding="utf-8"))["packages"]
        changed = [name for name in now if name in before and before[name] != now[name]]
        return [f"{name} is {now[name]} now, and was {before[name]} for the trials before" for name in changed]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _changes(before: Spec, now: Spec) -> list[tuple[str, Any, Any]]:
    old, new = (dict(_entries("", each.model_dump())) for each in (before, now))
    return [(path, old.get(path), new.get(path)) for path in {**old, **new} if old.get(path) != new.get(path)]


def _entries(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What is in nested sections, by dotted path."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for name, each in value.items():
        yield from _entries(f"{path}.{name}" if path else name, each)
