"""Publishes checkpoints: a file that a manifest names is complete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from go1_sweep.paths import TrialPaths, replacing, write_json
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


def publish(paths: TrialPaths, progress: Progress, write: Callable[[Path], None]) -> Published:
    """Write a checkpoint beside its final name, flush it, rename it, then name it in the manifest.

    Args:
        paths: the trial's folder.
        progress: where the trial stands; its iterations give the file its name.
        write: writes the checkpoint to the path that it is given.

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
    others = [entry for entry in read_manifest(paths) if entry.file != published.file]
    entries = [dataclasses.asdict(entry) for entry in (*others, published)]
    write_json(paths.manifest, {"checkpoints": entries})
    return published


def sha256(path: Path) -> str:
    """The digest of a file's content, in hex.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(paths: TrialPaths) -> list[Published]:
    """The published checkpoints of a trial, oldest first; none where there is no manifest.

    Raises:
        ValueError: the manifest is damaged.
    """
    try:
        text = paths.manifest.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        entries = json.loads(text)["checkpoints"]
        return [Published(**{**entry, "progress": Progress(**entry["progress"])}) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{paths.manifest} is damaged: {error}") from None


def best(checkpoints: list[Published], mode: str) -> Published | None:
    """The published checkpoint with the best score, the newest among equals; ``None`` where none has one."""
    sign = 1 if mode == "max" else -1
    ranked = [
        (sign * entry.progress.score, entry.progress.iterations, entry)
        for entry in checkpoints
        if entry.progress.score is not None
    ]
    return max(ranked, key=lambda rank: rank[:2])[2] if ranked else None
