"""The charts of a report, as plotly figures, each with what it shows in words; none where there is nothing to draw."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from plotly import graph_objects
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from go1_sweep import strict_json, timeline
from go1_sweep.parameters import Value
from go1_sweep.paths import BASELINE, SweepPaths, TrialPaths
from go1_sweep.space import Choice, Dimension, Range
from go1_sweep.spec import Spec
from go1_sweep.trials_table import TrialRecord, best
from go1_sweep.wording import clock, number, title

COLORS = {
    "completed": "#2e9e5b",
    "early_stopped": "#3b8fd4",
    "running": "#8a8f98",
    "interrupted": "#b06ad0",
    "infeasible": "#d9a21b",
    "failed": "#d64545",
    BASELINE: "#e07b39",
}
"""Of a trial by its state; these can be told apart on white and on black."""
POINTS = 60_000
"""Of all learning curves together: with many trials, of each fewer."""
FEWEST_POINTS = 10
SLICES_IN_A_ROW = 3
TICKS = 4
USES = {
    "importing": "#b06ad0",
    "compiling": "#d9a21b",
    "building": "#3b8fd4",
    "training": "#2e9e5b",
    "checkpointing": "#e07b39",
    "waiting": "#d64545",
    "other": "#8a8f98",
}
"""What a trial's time goes for, about in the order in which it does."""


@dataclass(frozen=True)
class Chart:
    """A figure, its heading, and in words what there is to see in it."""

    heading: str
    figure: Figure
    words: str


def charts(spec: Spec, paths: SweepPaths, records: Sequence[TrialRecord], result: dict[str, Any]) -> list[Chart]:
    """All that there is something to draw of.

    Args:
        spec: of the sweep.
        paths: of the sweep.
        records: of its trials.
        result: ``result.json``, or empty.
    """
    drawn = [record for record in records if record.trial != BASELINE and record.progress.score is not None]
    found = [
        _learning_curves(spec, paths, records),
        _parallel(spec, drawn),
        _slices(spec, drawn),
        _importances(result.get("importances") or []),
        _timeline(timeline.read(paths.timeline)),
    ]
    return [chart for chart in found if chart]


def _learning_curves(spec: Spec, paths: SweepPaths, records: Sequence[TrialRecord]) -> Chart | None:
    unit, figure = spec.budget.unit, Figure()
    winner = best(records, spec.early_stopping.mode)
    by_kind: dict[str, list[TrialRecord]] = {}
    for record in records:
        by_kind.setdefault(BASELINE if record.trial == BASELINE else record.state, []).append(record)
    count = max(FEWEST_POINTS, POINTS // max(1, len(records)))
    for kind in (each for each in COLORS if each in by_kind):
        x: list[float | None] = []
        y: list[float | None] = []
        names: list[str | None] = []
        for record in by_kind[kind]:
            points = _thinned(_curve(paths.trial(record.trial), unit), count)
            x += [*(used for used, _ in points), None]
            y += [*(score for _, score in points), None]
            names += [title(record.trial)] * len(points) + [None]
        if any(value is not None for value in y):
            figure.add_scatter(
                x=x,
                y=y,
                customdata=names,
                mode="lines",
                name=kind,
                line={"color": COLORS[kind], "width": 2.5 if kind == BASELINE else 1.3},
                hovertemplate=f"%{{customdata}}: %{{y:.4g}} at %{{x:.4g}} {unit}<extra></extra>",
            )
    if not figure.data:
        return None
    for rung in spec.rungs():
        figure.add_vline(rung, line={"dash": "dot", "width": 1, "color": "#8a8f98"}, annotation_text=f"rung {rung:g}")
    figure.update_xaxes(title_text=unit.replace("_", " "), range=[0, spec.budget.max])
    figure.update_yaxes(title_text=spec.early_stopping.metric)
    stopped = len(by_kind.get("early_stopped", []))
    words = f"The score of {len(records)} trials over {unit}; {stopped} were stopped early."
    if winner:
        words += f" The best of them is {title(winner.trial)} with {number(winner.progress.score)}."
    return Chart("Learning curves", figure, words)


def _curve(paths: TrialPaths, unit: str) -> list[tuple[float, float]]:
    """The budget used and the score then; what is damaged is passed over."""
    found = []
    with contextlib.suppress(OSError), open(paths.progress, "rb") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                told = strict_json.loads(line)
                found.append((float(told[unit]), float(told["score"])))
    return found


def _thinned(points: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """About so many of them, the last one included."""
    step = math.ceil(len(points) / count) or 1
    return points[::-1][::step][::-1]


def _parallel(spec: Spec, records: Sequence[TrialRecord]) -> Chart | None:
    if len(records) < 2 or not spec.space:
        return None
    scores = [record.progress.score for record in records]
    columns = [_column(name, dimension, records) for name, dimension in spec.space.items()]
    figure = Figure(
        graph_objects.Parcoords(
            dimensions=[*columns, {"label": spec.early_stopping.metric, "values": scores}],
            line={"color": scores, "colorscale": "Viridis", "reversescale": spec.early_stopping.mode == "min"},
        )
    )
    figure.update_layout(margin={"t": 70, "l": 70, "r": 60, "b": 40})
    return Chart(
        "Parameters and scores",
        figure,
        f"A line a trial, {len(records)} of them, over each parameter and the score; a range that is drawn on an "
        "axis picks those that pass it. '-': the parameter does not exist there.",
    )


def _column(name: str, dimension: Dimension, records: Iterable[TrialRecord]) -> dict[str, Any]:
    """An axis of parallel coordinates: numbers with ticks that say what they stand for."""
    values = [record.parameters.get(name) for record in records]
    match dimension.distribution:
        case Choice(choices):
            at = {_key(choice): float(place) for place, choice in enumerate(choices)}
            ticks = {float(place): str(choice) for place, choice in enumerate(choices)}
            numbers = [None if value is None else at.get(_key(value)) for value in values]
        case Range(log=log) as distribution:
            of = math.log10 if log else float
            ticks = {of(mark): f"{mark:.3g}" for mark in _marks(distribution)}
            numbers = [None if value is None else of(float(value)) for value in values]
    if None in numbers:
        absent = min(ticks) - 0.2 * ((max(ticks) - min(ticks)) or 1.0)
        ticks[absent] = "-"
        numbers = [absent if value is None else value for value in numbers]
    return {
        "label": _short(name),
        "values": numbers,
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        "range": [min(ticks), max(ticks) if len(ticks) > 1 else min(ticks) + 1.0],
    }


def _marks(distribution: Range) -> list[float]:
    """Where an axis has its ticks: at the ends of the range, and between."""
    low, high = float(distribution.low), float(distribution.high)
    parts = [place / (TICKS - 1) for place in range(TICKS)]
    return [low * (high / low) ** part if distribution.log else low + (high - low) * part for part in parts]


def _short(name: str) -> str:
    """The last two names of a path."""
    return ".".join(name.split(".")[-2:])


def _key(value: Value) -> str:
    """What a value is looked up by: 1 and true are not the same."""
    return f"{type(value).__name__} {value}"


def _slices(spec: Spec, records: Sequence[TrialRecord]) -> Chart | None:
    if not records or not spec.space:
        return None
    across = min(SLICES_IN_A_ROW, len(spec.space))
    down = math.ceil(len(spec.space) / across)
    figure = make_subplots(
        down, across, subplot_titles=list(map(_short, spec.space)), shared_yaxes=True, vertical_spacing=0.3 / down
    )
    for place, (name, dimension) in enumerate(spec.space.items()):
        row, column = divmod(place, across)
        where: dict[str, Any] = {"row": row + 1, "col": column + 1}
        is_choice = isinstance(dimension.distribution, Choice)
        for state in dict.fromkeys(record.state for record in records):
            shown = [record for record in records if record.state == state and name in record.parameters]
            values = [record.parameters[name] for record in shown]
            figure.add_scatter(
                x=list(map(str, values)) if is_choice else values,
                y=[record.progress.score for record in shown],
                customdata=[title(record.trial) for record in shown],
                mode="markers",
                name=state,
                legendgroup=state,
                showlegend=not place,
                marker={"color": COLORS[state], "size": 7, "opacity": 0.75},
                hovertemplate="%{customdata}: %{y:.4g} at %{x}<extra></extra>",
                **where,
            )
        match dimension.distribution:
            case Choice(choices):
                figure.update_xaxes(type="category", categoryarray=list(map(str, choices)), **where)
            case Range(log=log) as distribution:
                marks = _marks(distribution)
                texts = [f"{mark:.2g}" for mark in marks]
                low, high = (math.log10(each) if log else each for each in (marks[0], marks[-1]))
                ends = [low - 0.05 * (high - low), high + 0.05 * (high - low)]
                kind = "log" if log else "linear"
                figure.update_xaxes(type=kind, range=ends, tickvals=marks, ticktext=texts, **where)
    figure.update_layout(height=120 + 260 * down, margin={"t": 80}, legend={"y": 1.0 + 0.12 / down})
    figure.update_yaxes(title_text=spec.early_stopping.metric, col=1)
    return Chart("Slices", figure, "The score of each trial over each parameter by itself, colored by how it ended.")


def _importances(found: Sequence[dict[str, Any]]) -> Chart | None:
    if not found:
        return None
    figure, last = Figure(), found[-1]
    names = sorted(last["parameters"], key=lambda name: last["parameters"][name])
    for each in found:
        shares = [each["parameters"].get(name, 0.0) for name in names]
        figure.add_bar(y=names, x=shares, orientation="h", name=f"at {each['budget']:g} ({each['trials']} trials)")
    figure.update_xaxes(title_text="share of what set the best apart", tickformat=".0%")
    figure.update_yaxes(automargin=True)
    told = ", ".join(f"{name} {last['parameters'][name]:.0%}" for name in reversed(names))
    words = (
        f"How much each parameter explains of what set the best trials apart (PED-ANOVA). At the last budget: {told}."
    )
    return Chart("Which parameter mattered", figure, words)


def _timeline(stints: Sequence[timeline.Stint]) -> Chart | None:
    if not stints:
        return None
    began = min(stint.began for stint in stints)
    lanes: dict[str, list[timeline.Stint]] = {}
    for slot, lane in timeline.lanes(stints):
        name = slot if slot not in lanes else f"{slot} ({sum(each.startswith(slot) for each in lanes) + 1})"
        lanes[name] = lane
    bars: dict[str, list[tuple[str, float, float, str]]] = {use: [] for use in USES}
    for name, lane in lanes.items():
        for stint in lane:
            seconds = {**stint.seconds, "other": max(0.0, stint.held - sum(stint.seconds.values()))}
            at = stint.began - began
            for use in USES:
                if seconds[use] > 0.0:
                    bars[use].append((name, at, seconds[use], title(stint.trial)))
                at += seconds[use]
    figure = Figure()
    for use, each in bars.items():
        if each:
            slots, starts, lengths, trials = zip(*each, strict=True)
            figure.add_bar(
                y=slots,
                base=starts,
                x=lengths,
                customdata=trials,
                orientation="h",
                name=use,
                marker={"color": USES[use], "line": {"width": 0}},
                hovertemplate=f"%{{customdata}}: {use} %{{x:.1f}} s<extra></extra>",
            )
    figure.update_layout(barmode="overlay", height=160 + 28 * len(lanes))
    figure.update_xaxes(title_text="seconds since the first trial began")
    figure.update_yaxes(automargin=True, autorange="reversed")
    sums = timeline.in_all(timeline.by_slot(stints))
    share = sums["training"] / sums["held"] if sums["held"] else 0.0
    words = (
        f"A bar a slot: {len(lanes)} of them were held for {clock(sums['held'])} in all, and trained for "
        f"{share:.0%} of that. Within a trial the uses stand in a row, whenever they came."
    )
    return Chart("Where the time went", figure, words)
