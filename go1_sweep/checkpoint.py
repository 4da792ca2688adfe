"""Publishes checkpoints: a file that a manifest names is complete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from go1_sweep import strict_json
from go1_sweep.paths import TrialPaths, replacing, shown, write_atomically
from go1_sweep.protocol import Progress


@dataclass(frozen=True)
class Published:
    """A checkpoint that is complete.

    Attributes:
        file: its name in the trial's folder.
        size: bytes.
        sha256: of its content, in hex.
        progress: where the trial stood when it was taken.
    """

    file: str
    size: int
    sha256: str
    progress: Progress


def publish(
    paths: TrialPaths, progress: Progress, write: Callable[[Path], None], *, keep: int = 0, mode: str = "max"
) -> Published:
    """Write a checkpoint beside its final name, flush it, rename it, then name it in the manifest.

    Args:
        paths: the trial's folder.
        progress: where the trial stands; its iterations give the file its name.
        write: writes the checkpoint to the path that it is given.
        keep: so many of the newest, and the best; older ones are deleted. 0: all.
        mode: ``max`` or ``min``: which score is the best.

    Raises:
        OSError: no room, or no permission; what was published before is untouched.
    """
    final = paths.checkpoint(progress.iterations)
    with replacing(final) as beside:
        write(beside)
        with open(beside, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    published = Published(final.name, final.stat().st_size, digest, progress)
    entries = [entry for entry in read_manifest(paths) if entry.file != published.file] + [published]
    lasting = [*entries[-keep:], best(entries, mode)]
    kept = [entry for entry in entries if entry in lasting]
    _write_manifest(paths, kept)
    for entry in entries:
        if entry not in kept:
            (paths.folder / entry.file).unlink(missing_ok=True)
    return published


def drop_later(paths: TrialPaths, progress: Progress) -> None:
    """Take back what is of later than where training goes on from.

    Raises:
        OSError: the manifest cannot be written.
    """
    entries = read_manifest(paths)
    later = [entry for entry in entries if entry.progress.iterations > progress.iterations]
    if later:
        _write_manifest(paths, [entry for entry in entries if entry not in later])
    for entry in later:
        (paths.folder / entry.file).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The digest of a file's content, in hex; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def read_manifest(paths: TrialPaths) -> list[Published]:
    """The published checkpoints of a trial, oldest first; none where there is no manifest.

    It has a line for each, so that one that is damaged costs its own checkpoint alone.

    Raises:
        OSError: it cannot be read.
    """
    return [entry for line in _lines(paths) if (entry := _published(line))]


def intact(paths: TrialPaths, warn: Callable[[str], None]) -> list[Published]:
    """The published checkpoints whose files are what was published, oldest first.

    Args:
        paths: the trial's folder.
        warn: told of the others.

    Raises:
        OSError: the manifest cannot be read.
    """
    found, entries = [], [_published(line) for line in _lines(paths)]
    if None in entries:
        warn(f"{shown(paths.manifest)} is damaged: what it does not say any more is left out")
    for entry in filter(None, entries):
        file = paths.folder / entry.file
        if sha256(file) == entry.sha256:
            found.append(entry)
        else:
            warn(f"{shown(file)} is missing, or not the file that its trial published: it is left out")
    return found


def _lines(paths: TrialPaths) -> list[str]:
    try:
        return paths.manifest.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _published(line: str) -> Published | None:
    """What a line of a manifest says; ``None`` where it is damaged."""
    try:
        entry = strict_json.loads(line)
        published = Published(**{**entry, "progress": Progress(**entry["progress"])})
    except (ValueError, KeyError, TypeError):
        return None
    is_whole = re.fullmatch(r"model_\d+\.pt", str(published.file)) and type(published.progress.iterations) is int
    return published if is_whole else None


def _write_manifest(paths: TrialPaths, entries: Iterable[Published]) -> None:
    lines = (json.dumps(dataclasses.asdict(entry), allow_nan=False) + "\n" for entry in entries)
    write_atomically(paths.manifest, "".join(lines))


def best(checkpoints: list[Published], mode: str) -> Published | None:
    """The published checkpoint with the best score, the newest among equals; ``None`` where none has one."""
    sign = 1 if mode == "max" else -1
    ranked = [
        (sign * entry.progress.score, entry.progress.iterations, entry)
        for entry in checkpoints
        if entry.progress.score is not None
    ]
    return max(ranked, key=lambda rank: rank[:2])[2] if ranked else None
