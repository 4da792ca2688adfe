"""Reads back the runs that W&B wrote to a folder: LevelDB's log format, each record a protobuf message of W&B's."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

messages: Any = wandb_internal_pb2  # made when it is imported
MAGIC, BLOCK, HEADER = b":W&B", 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Run:
    """A run, of all files that have its id, in the order of their time."""

    record: Any
    files: list[Path] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    step_metrics: set[str] = field(default_factory=set)
    exit_codes: list[int] = field(default_factory=list)

    @property
    def tags(self) -> list[str]:
        return list(self.record.tags)

    def media(self, key: str) -> list[Path]:
        """The files of a table, chart or video."""
        path = self.summary[f"{key}.path"]  # nested keys are read as one
        return [found for file in self.files for found in [file.parent / "files" / path] if found.exists()]


def runs(folder: Path, kind: str = "") -> dict[str, Run]:
    """The runs in the ``wandb`` folder of a sweep, by name; ``offline-``: as those of that kind have them."""
    found: dict[str, Run] = {}
    for file in sorted(
        folder.glob(f"{kind or '*'}run-*/*.wandb"), key=lambda file: file.parent.name.partition("run-")[2]
    ):
        run = None
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = found.setdefault(record.run.display_name, Run(record.run))
                assert run.record.run_id == record.run.run_id
                run.record = record.run
                run.files += [file] if file not in run.files else []
                run.config |= _values(record.run.config.update)
            elif run:
                _take(run, kind, record)
    return found


def _take(run: Run, kind: str | None, record: Any) -> None:
    match kind:
        case "config":
            run.config |= _values(record.config.update)
        case "history":
            run.history.append(_values(record.history.item))
        case "summary":
            run.summary |= _values(record.summary.update)
        case "artifact":
            run.artifacts.append(record.artifact)
        case "metric":
            run.step_metrics.add(record.metric.step_metric)
        case "exit":
            run.exit_codes.append(record.exit.exit_code)


def _values(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def records(file: Path) -> Iterator[Any]:
    """All whole records of a file."""
    content = file.read_bytes()
    assert content[: len(MAGIC)] == MAGIC
    at, whole = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # too little for another one: padding
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        at += HEADER
        chunk, at = content[at : at + length], at + length
        whole = chunk if kind in (FULL, FIRST) else whole + chunk
        if kind in (FULL, LAST):
            record = messages.Record()
            record.ParseFromString(whole)
            yield record
