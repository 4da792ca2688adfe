"""What came of a sweep, in W&B: tables, charts, videos, and the winner's policy."""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import wandb

from go1_sweep.paths import SweepPaths
from go1_sweep.report.charts import charts
from go1_sweep.status import Status
from go1_sweep.trials_table import COLUMNS
from go1_sweep.wording import FIGURES


def log(run: wandb.Run, sweep: Status, winner: wandb.Run | None, until: float) -> None:
    """Tell what came of the sweep so far.

    Args:
        run: the sweep's own.
        sweep: as its folder has it.
        winner: the run of the trial that won, if one did: the policy is an artifact of it.
        until: when a server must have the policy, by ``time.monotonic``.

    Raises:
        Exception: of W&B's, where its server fails or takes longer.
    """
    paths, result = SweepPaths(sweep.folder), sweep.result or {}
    found: dict[str, Any] = {}
    for part in (_trials, _charts, _exam, _videos):
        with _passing_over():
            found |= part(sweep, paths, result)
    run.log(found)
    run.summary.update(_summary(sweep, result))
    if winner:
        artifact = winner.log_artifact(_policy(sweep, paths, result), aliases=["best"])
        if not winner.offline:
            artifact = artifact.wait(max(1, math.ceil(until - time.monotonic())))
            if not run.offline:  # only a server can know who uses it
                run.use_artifact(artifact)


@contextlib.contextmanager
def _passing_over():  # noqa: ANN202
    """What cannot be shown (a damaged video, a chart of what W&B does not know) goes to the log."""
    try:
        yield
    except Exception:
        traceback.print_exc()


def _trials(sweep: Status, paths: SweepPaths, result: Mapping[str, Any]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for record in sweep.records for name in (*sweep.spec.space, *record.parameters)))
    rows = []
    for record in sweep.records:
        progress = record.progress
        used = (progress.iterations, progress.env_steps, progress.train_seconds)
        parameters = (record.parameters.get(name) for name in names)
        rows.append([record.trial, record.state, record.why, progress.score, *used, record.seed, *parameters])
    return {"trials": _table([*COLUMNS, *names], rows)}


def _charts(sweep: Status, paths: SweepPaths, result: Mapping[str, Any]) -> dict[str, Any]:
    drawn = charts(sweep.spec, paths, sweep.records, dict(result))
    return {chart.heading: wandb.Plotly(chart.figure) for chart in drawn}


def _exam(sweep: Status, paths: SweepPaths, result: Mapping[str, Any]) -> dict[str, Any]:
    """How each policy did; an interval only where there is one."""
    judged = [each["exam"] for each in (result.get("winner"), result.get("baseline")) if each]
    sat = [("judgement", each) for each in judged]
    sat += [("selection", each) for each in result.get("candidates", [])]
    sat += [("retrained", each) for each in result.get("retrained", [])]
    if not sat:
        return {}
    figures = [attribute for _, attribute, _, _ in FIGURES]
    columns: list[str | int] = ["purpose", "trial", "checkpoint", "episodes", "falls"]
    columns += [column for each in figures for column in (each, f"{each}_low", f"{each}_high")]
    rows = []
    for purpose, exam in sat:
        row = [purpose, *(exam[name] for name in columns[1:5])]
        for each in figures:
            row += [exam["overall"][each], *exam["intervals"].get(each, (None, None))]
        rows.append(row)
    return {"exam": _table(columns, rows)}


def _videos(sweep: Status, paths: SweepPaths, result: Mapping[str, Any]) -> dict[str, Any]:
    videos = {"winner": result.get("video"), "baseline": result.get("baseline_video")}
    files = {name: paths.folder / video for name, video in videos.items() if video}
    return {
        f"video of the {name}": wandb.Video(str(file), format="mp4") for name, file in files.items() if file.exists()
    }


def _summary(sweep: Status, result: Mapping[str, Any]) -> dict[str, Any]:
    winner, verdict = result.get("winner") or {}, result.get("verdict") or {}
    return {
        "phase": result.get("phase", "interrupted"),
        "states": result.get("states"),
        "winner": winner.get("trial"),
        "no_winner": result.get("no_winner"),
        "verdict": verdict.get("sentence"),
        "seconds": result.get("seconds"),
    }


def _policy(sweep: Status, paths: SweepPaths, result: Mapping[str, Any]) -> wandb.Artifact:
    won = result["winner"]
    artifact = wandb.Artifact(
        f"{sweep.spec.name}-policy",
        type="policy",
        metadata={
            "trial": won["trial"],
            "checkpoint": won["exam"]["checkpoint"],
            "parameters": won["parameters"],
            "exam": won["exam"]["overall"],
            "verdict": result.get("verdict"),
        },
    )
    artifact.add_dir(str(paths.best.folder))
    return artifact


def _table(columns: list[str | int], rows: Iterable[list[Any]]) -> wandb.Table:
    """A table; text where a column has values of several kinds, of which W&B shows none."""
    columns_of = list(zip(*rows, strict=True)) or [()] * len(columns)
    cells = [_alike(column) for column in columns_of]
    return wandb.Table(columns=columns, data=[list(row) for row in zip(*cells, strict=True)])


def _alike(column: tuple[Any, ...]) -> list[Any]:
    kinds = {type(value) for value in column if value is not None}
    if len(kinds) < 2 or kinds == {int, float}:
        return list(column)
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in column]
