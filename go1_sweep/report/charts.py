"""The charts of a report, as plotly figures, each with what it shows in words; none where there is nothing to draw."""

from __future__ import annotations

import contextlib
import html
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
from go1_sweep.wording import amount, clock, number, short, title

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
SLICE_PIXELS = 200
AXIS_PIXELS = 110
FEW_AXES = 6
WORST_TO_BEST = ["#3b8fd4", "#e8c33f", "#d64545"]
"""Of a line by its score; these too."""
USE_COLORS = {
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
    """A figure, its heading, and in words what there is to see in it; on a narrower page [px] it is scrolled."""

    heading: str
    figure: Figure
    words: str
    narrowest: int = 0


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
        _trained_again(result),
        _learning_curves(spec, paths, records),
        _parallel(spec, drawn),
        _slices(spec, drawn),
        _importances(result.get("importances") or []),
        _timeline(timeline.of_sweep(paths)),
    ]
    return [chart for chart in found if chart]


def _trained_again(result: dict[str, Any]) -> Chart | None:
    """The scores behind a verdict on the parameters."""
    verdict = result.get("verdict") or {}
    if not verdict.get("ours"):
        return None
    figure = Figure()
    sides = {title(result["winner"]["trial"]): verdict["ours"], title(BASELINE): verdict["theirs"]}
    for name, scores in sides.items():
        color = COLORS[BASELINE if name == BASELINE else "completed"]
        figure.add_scatter(
            x=scores, y=[name] * len(scores), mode="markers", name=name, marker={"color": color, "size": 11}
        )
    figure.update_layout(height=220)
    figure.update_xaxes(title_text="score in the exam")
    figure.update_yaxes(automargin=True, autorange="reversed")
    told = "; ".join(f"{name} {', '.join(f'{score:.3f}' for score in scores)}" for name, scores in sides.items())
    return Chart("Trained again", figure, f"Both sides' parameters with fresh seeds, a point a training: {told}.")


def _learning_curves(spec: Spec, paths: SweepPaths, records: Sequence[TrialRecord]) -> Chart | None:
    unit, figure = spec.budget.unit, Figure()
    count = max(FEWEST_POINTS, POINTS // max(1, len(records)))
    curves = [(record, _thinned(_curve(paths.trial(record.trial), unit), count)) for record in records]
    curves = [(record, points) for record, points in curves if points]
    if not curves:
        return None
    for kind, color in COLORS.items():
        x: list[float | None] = []
        y: list[float | None] = []
        names: list[str | None] = []
        of_kind = [each for each in curves if kind == (BASELINE if each[0].trial == BASELINE else each[0].state)]
        for record, points in of_kind:
            x += [*(used for used, _ in points), None]
            y += [*(score for _, score in points), None]
            names += [title(record.trial)] * len(points) + [None]
        if of_kind:
            figure.add_scatter(
                x=x,
                y=y,
                customdata=names,
                mode="lines+markers" if any(len(points) == 1 for _, points in of_kind) else "lines",
                marker={"size": 5},
                name=kind,
                line={"color": color, "width": 2.5 if kind == BASELINE else 1.3},
                hovertemplate=f"%{{customdata}}: %{{y:.4g}} at %{{x:.4g}} {unit}<extra></extra>",
            )
    for rung in spec.rungs():
        line = {"dash": "dot", "width": 1, "color": "#8a8f98"}
        figure.add_vline(rung, line=line, annotation_text=f"rung {amount(rung)}")
    farthest = max(used for _, points in curves for used, _ in points)
    figure.update_xaxes(title_text=unit.replace("_", " "), range=[0, max(spec.budget.max, farthest)])
    # A trial that diverges may fall without end: it leaves the picture, and does not flatten the others.
    heights = [score for record, points in curves if record.state != "failed" for _, score in points]
    ends = None
    if heights:
        margin = 0.05 * (max(heights) - min(heights)) or 1.0
        ends = [min(heights) - margin, max(heights) + margin]
    figure.update_yaxes(title_text=html.escape(spec.early_stopping.metric), range=ends)
    figure.update_layout(showlegend=True)
    stopped = sum(record.state == "early_stopped" for record, _ in curves)
    words = f"The score of {len(curves)} trials over {unit}; {stopped} of them stopped early."
    winner = best(records, spec.early_stopping.mode)
    if winner and winner.progress.score is not None:
        words += f" Of those that completed, {title(winner.trial)} came out best, with {number(winner.progress.score)}."
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
            dimensions=[*columns, {"label": html.escape(spec.early_stopping.metric), "values": scores}],
            labelangle=-15 if len(columns) > FEW_AXES else 0,
            line={"color": scores, "colorscale": WORST_TO_BEST, "reversescale": spec.early_stopping.mode == "min"},
        )
    )
    figure.update_layout(margin={"t": 90, "l": 70, "r": 60, "b": 40})
    return Chart(
        "Parameters and scores",
        figure,
        f"A line a trial, {len(records)} of them, over each parameter and the score; a range that is drawn on an "
        "axis picks those that pass it. '-': the parameter does not exist there.",
        AXIS_PIXELS * (len(columns) + 1),
    )


def _column(name: str, dimension: Dimension, records: Iterable[TrialRecord]) -> dict[str, Any]:
    """An axis of parallel coordinates: numbers with ticks that say what they stand for."""
    values = [record.parameters.get(name) for record in records]
    match dimension.distribution:
        case Choice(choices):
            at = {_key(choice): float(place) for place, choice in enumerate(choices)}
            ticks = {float(place): html.escape(str(choice)) for place, choice in enumerate(choices)}
            numbers = [None if value is None else at.get(_key(value)) for value in values]
        case Range(log=log) as distribution:
            of = math.log10 if log else float
            ticks = {of(mark): text for mark, text in _marks(distribution).items()}
            numbers = [None if value is None else of(float(value)) for value in values]
    if None in numbers:
        absent = min(ticks) - 0.2 * ((max(ticks) - min(ticks)) or 1.0)
        ticks[absent] = "-"
        numbers = [absent if value is None else value for value in numbers]
    return {
        "label": html.escape(short(name)),
        "values": numbers,
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
        "range": [min(ticks), max(ticks) if len(ticks) > 1 else min(ticks) + 1.0],
    }


def _marks(distribution: Range) -> dict[float, str]:
    """Where an axis has its ticks, at the ends of the range and between, and what they say: no two the same."""
    low, high = float(distribution.low), float(distribution.high)
    parts = [place / (TICKS - 1) for place in range(TICKS)]
    marks = [low * (high / low) ** part if distribution.log else low + (high - low) * part for part in parts]
    if distribution.whole:
        return {float(round(mark)): str(round(mark)) for mark in marks}
    texts = next(
        texts for digits in range(2, 18) if len(set(texts := [f"{mark:.{digits}g}" for mark in marks])) == len(marks)
    )
    return dict(zip(marks, texts, strict=True))


def _key(value: Value) -> str:
    """What a value is looked up by: 1 and true are not the same."""
    return f"{type(value).__name__} {value}"


def _slices(spec: Spec, records: Sequence[TrialRecord]) -> Chart | None:
    if not records or not spec.space:
        return None
    across = min(SLICES_IN_A_ROW, len(spec.space))
    down = math.ceil(len(spec.space) / across)
    figure = make_subplots(
        down,
        across,
        subplot_titles=[html.escape(short(name)) for name in spec.space],
        shared_yaxes=True,
        vertical_spacing=0.3 / down,
    )
    in_legend: set[str] = set()
    for place, (name, dimension) in enumerate(spec.space.items()):
        row, column = divmod(place, across)
        where: dict[str, Any] = {"row": row + 1, "col": column + 1}
        is_choice = isinstance(dimension.distribution, Choice)
        for state in dict.fromkeys(record.state for record in records):
            shown = [record for record in records if record.state == state and name in record.parameters]
            if not shown:
                continue
            values = [record.parameters[name] for record in shown]
            figure.add_scatter(
                x=list(map(str, values)) if is_choice else values,
                y=[record.progress.score for record in shown],
                customdata=[title(record.trial) for record in shown],
                mode="markers",
                name=state,
                legendgroup=state,
                showlegend=state not in in_legend,
                marker={"color": COLORS[state], "size": 7, "opacity": 0.75},
                hovertemplate="%{customdata}: %{y:.4g} at %{x}<extra></extra>",
                **where,
            )
            in_legend.add(state)
        match dimension.distribution:
            case Choice(choices):
                names = list(map(str, choices))
                texts = list(map(html.escape, names))
                figure.update_xaxes(type="category", categoryarray=names, tickvals=names, ticktext=texts, **where)
            case Range(log=log) as distribution:
                marks = _marks(distribution)
                low, high = (math.log10(each) if log else each for each in (min(marks), max(marks)))
                ends = [low - 0.05 * (high - low), high + 0.05 * (high - low)]
                kind = "log" if log else "linear"
                figure.update_xaxes(type=kind, range=ends, tickvals=list(marks), ticktext=list(marks.values()), **where)
    figure.update_layout(height=120 + 260 * down, margin={"t": 80}, legend={"y": 1.0 + 0.12 / down}, showlegend=True)
    figure.update_yaxes(title_text=html.escape(spec.early_stopping.metric), col=1)
    words = "The score of each trial over each parameter by itself, colored by how it ended."
    return Chart("Slices", figure, words, SLICE_PIXELS * across)


def _importances(found: Sequence[dict[str, Any]]) -> Chart | None:
    if not found:
        return None
    figure, last = Figure(), found[-1]
    names = sorted(last["parameters"], key=lambda name: last["parameters"][name])
    for each in found:
        shares = [each["parameters"].get(name, 0.0) for name in names]
        figure.add_bar(
            y=names, x=shares, orientation="h", name=f"at {amount(each['budget'])} ({each['trials']} trials)"
        )
    figure.update_layout(showlegend=True)
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
    rows = _rows(stints)
    bars: dict[str, list[tuple[str, float, float, str]]] = {use: [] for use in USE_COLORS}
    for name, row in rows.items():
        for stint in row:
            seconds = {**stint.seconds, "other": max(0.0, stint.held - sum(stint.seconds.values()))}
            at = stint.began - began
            for use in USE_COLORS:
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
                marker={"color": USE_COLORS[use], "line": {"width": 0}},
                hovertemplate=f"%{{customdata}}: {use} %{{x:.1f}} s<extra></extra>",
            )
    figure.update_layout(barmode="overlay", height=160 + 28 * len(rows))
    figure.update_xaxes(title_text="seconds since the first trial began")
    figure.update_yaxes(automargin=True, autorange="reversed")
    sums = timeline.in_all(timeline.by_slot(stints))
    share = sums["training"] / sums["held"] if sums["held"] else 0.0
    words = (
        f"A row a slot: {len(rows)} of them were held for {clock(sums['held'])} in all, and trained for "
        f"{share:.0%} of that. Within a trial the uses stand in a row, whenever they came."
    )
    return Chart("Where the time went", figure, words)


def _rows(stints: Iterable[timeline.Stint]) -> dict[str, list[timeline.Stint]]:
    """By the name of a slot, with a number where several trials had it at a time: what it held, by whatever driver."""
    rows: dict[str, list[timeline.Stint]] = {}
    for slot, lane in sorted(timeline.lanes(stints), key=lambda each: each[1][0].began):
        number = 1
        while (name := slot if number == 1 else f"{slot} ({number})") in rows:
            if rows[name][-1].ended <= lane[0].began + timeline.HANDOVER:
                break
            number += 1
        rows.setdefault(name, []).extend(lane)
    return dict(sorted(rows.items()))
