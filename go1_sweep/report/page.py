"""Writes ``report.html``: the verdict first, the video, the charts, the trials, what broke, and the commands."""

from __future__ import annotations

import base64
import contextlib
from html import escape
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from go1_sweep import status, timeline
from go1_sweep.evidence import evidence
from go1_sweep.paths import BASELINE, SweepPaths, shown, write_atomically
from go1_sweep.report.charts import Chart, charts
from go1_sweep.status import RUNS, Status
from go1_sweep.trials_table import TrialRecord, ranked
from go1_sweep.wording import (
    amount,
    clock,
    export_command,
    figures_of,
    number,
    play_command,
    title,
    train_command,
    value,
)

LARGEST_VIDEO = 7_000_000
"""Bytes of a video that goes into the page; a larger one is linked."""
REFRESH_SECONDS = 60
"""How often the page of a sweep that runs is written, and a browser loads it, anew."""
MOST_FAILURES = 20
BROKEN = ("failed", "infeasible")

POLICY = (  # nothing leaves the page; parallel coordinates compile their drawing
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: 'self' file:; base-uri 'none'; form-action 'none'"
)

STYLE = """
:root { color-scheme: light dark; --text: #1c2330; --soft: #5d6675; --line: #d9dde3; --back: #fff; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e8ee; --soft: #9aa4b2; --line: #323a46; --back: #12161c; --card: #1a2028; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 40px 0 8px; }
.verdict { font-size: 1.25rem; margin: 16px 0; padding: 16px; background: var(--card); border-left: 5px solid #8a8f98; }
.verdict.gain { border-color: #2e9e5b; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 0; } video { width: 100%; background: #000; border-radius: 6px; }
.films div { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 16px; max-width: 1080px; }
.films figure { max-width: 640px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
pre { background: var(--card); padding: 10px 12px; overflow-x: auto; font-size: .85rem; margin: 6px 0; }
.chart { width: 100%; }
@media print {
  body { max-width: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } .wide { overflow: visible; }
  .films { display: none; } table { font-size: .7rem; } th, td { white-space: normal; padding-right: 6px; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; } }
"""

DRAW = """
const dark = matchMedia('(prefers-color-scheme: dark)');
const colors = () => ({text: dark.matches ? '#e4e8ee' : '#1c2330', line: dark.matches ? '#323a46' : '#d9dde3'});
function theme(layout) {
  const {text, line} = colors();
  layout.font = {...layout.font, color: text, size: 12};
  layout.paper_bgcolor = layout.plot_bgcolor = 'rgba(0,0,0,0)';
  for (const axis of Object.keys(layout).filter(name => /^[xy]axis/.test(name)))
    Object.assign(layout[axis], {gridcolor: line, zerolinecolor: line, linecolor: line});
  return layout;
}
function draw() {
  for (const place of document.querySelectorAll('.chart')) {
    const {data, layout} = JSON.parse(place.querySelector('script').textContent);
    const plot = place.querySelector('div');
    Plotly.react(plot, data, theme(layout), {responsive: true, displaylogo: false, displayModeBar: false});
  }
}
draw();
dark.addEventListener('change', draw);
addEventListener('beforeprint', () => { for (const each of document.querySelectorAll('details')) each.open = true; });
"""


def write(folder: Path) -> Path:
    """Write the report of a sweep, whatever has become of it so far; where it is.

    Raises:
        BadInput: there is no such folder, or it is no sweep's.
        UserError: ``trials.csv`` cannot be read.
        OSError: it cannot be written.
    """
    path = SweepPaths(folder).report
    write_atomically(path, page(status.read(folder)))
    return path


def page(sweep: Status) -> str:
    """The whole page."""
    paths, result = SweepPaths(sweep.folder), sweep.result or {}
    drawn = charts(sweep.spec, paths, sweep.records, result)
    again = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">' if sweep.phase in RUNS else ""
    body = [
        f"<h1>{escape(sweep.spec.name)}</h1>",
        f'<p class="soft">{escape(_facts(sweep))}</p>',
        _verdict(result, sweep),
        _exam(result),
        _videos(paths, result),
        *(_chart(chart) for chart in drawn),
        _trials(sweep),
        _failures(sweep, paths),
        _commands(sweep, paths),
    ]
    scripts = f"<script>{get_plotlyjs()}</script><script>{DRAW}</script>" if drawn else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">{again}'
        f"<title>{escape(sweep.spec.name)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(filter(None, body))}{scripts}</body></html>\n"
    )


def _facts(sweep: Status) -> str:
    spec, budget = sweep.spec, sweep.spec.budget
    states: dict[str, int] = {}
    for record in sweep.records:
        states[record.state] = states.get(record.state, 0) + 1
    facts = [
        f"{_phase(sweep)}: task {spec.task} on {spec.simulator}, {amount(budget.max)} {budget.unit} a trial",
        ", ".join(f"{count} {state}" for state, count in states.items()) or "no trial yet",
    ]
    if sweep.elapsed is not None:
        facts.append(f"{clock(sweep.elapsed)} in all")
    if (hours := _gpu_hours(sweep)) is not None:
        price = spec.resources.price
        facts.append(f"{hours:.3g} GPU hours" + (f", which cost {hours * price:.2f}" if price is not None else ""))
    return "; ".join(facts)


def _phase(sweep: Status) -> str:
    return sweep.phase.replace("_", " ")


def _gpu_hours(sweep: Status) -> float | None:
    """Those that trials, retrainings and the final stage held a GPU; ``None`` on the CPU."""
    gpus, stints = sweep.spec.resources.gpus, timeline.of_sweep(SweepPaths(sweep.folder))
    if gpus in ("auto", 0) or not any("GPU" in each.slot for each in stints):
        return None
    held = timeline.in_all(timeline.by_slot(stints))["held"]
    played = sweep.result["seconds"]["evaluation"] if sweep.result else 0.0
    return (held + played) * float(gpus) / 3600


def _verdict(result: dict[str, Any], sweep: Status) -> str:
    winner, verdict = result.get("winner"), result.get("verdict")
    if not winner:
        why = result.get("no_winner") or f"There is no result yet ({_phase(sweep)})."
        return f'<p class="verdict">{escape(why)}</p>'
    if verdict:
        said = verdict["sentence"]
    else:
        why = "that could be judged" if sweep.spec.baseline is not None else "in this sweep"
        said = f"No verdict: there is no baseline {why}."
    is_gain = bool(verdict and verdict.get("is_gain"))
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value(each))}</td></tr>" for name, each in winner["parameters"].items()
    )
    parameters = f'<div class="wide"><table>{rows}</table></div>' if rows else "<p>The task's own parameters.</p>"
    return (
        f'<p class="verdict{" gain" if is_gain else ""}">{escape(said)}</p>{_tried(result)}'
        f"<h2>The winner: {escape(title(winner['trial']))}</h2>{parameters}"
    )


def _tried(result: dict[str, Any]) -> str:
    """How the exported policy did outside its simulator."""
    tried = result.get("sim_to_sim")
    return f"<p>{escape(tried['sentence'])}</p>" if tried else ""


def _exam(result: dict[str, Any]) -> str:
    sides = [each for each in (result.get("winner"), result.get("baseline")) if each]
    sides = sides[:1] if len(sides) == 2 and sides[0]["trial"] == sides[1]["trial"] else sides
    if not sides:
        return ""
    heads = "".join(f"<th>{escape(title(each['trial'], each['exam']['checkpoint']))}</th>" for each in sides)
    columns = [figures_of(each["exam"]) for each in sides]
    rows = "".join(
        f"<tr><th>{escape(cells[0][0])}</th>{''.join(f'<td>{escape(text)}</td>' for _, text in cells)}</tr>"
        for cells in zip(*columns, strict=True)
    )
    return (
        '<h2>In the exam</h2><p class="soft">With seeds that neither training nor the selection used; in parentheses '
        f'95% intervals.</p><div class="wide"><table><tr><th></th>{heads}</tr>{rows}</table></div>'
    )


def _videos(paths: SweepPaths, result: dict[str, Any]) -> str:
    if not result.get("video"):
        why = result.get("no_video")
        return f'<h2>The video</h2><p class="soft">There is none: {escape(why)}</p>' if why else ""
    films = {title(result["winner"]["trial"]): paths.best.video}
    if result.get("baseline_video"):
        films[title(BASELINE)] = paths.best.baseline_video
    heading = "The video" if len(films) == 1 else "The videos"
    shown = "".join(_film(who, film, paths) for who, film in films.items())
    return (
        f'<section class="films"><h2>{heading}</h2><div>{shown}</div><p class="soft">Told to walk forward, to turn, to '
        "go sideways and backward; what the robot was told and what it does stands in the picture.</p></section>"
    )


def _film(who: str, film: Path, paths: SweepPaths) -> str:
    source = escape(str(film.relative_to(paths.folder)))
    with contextlib.suppress(OSError):
        if film.stat().st_size <= LARGEST_VIDEO:
            source = f"data:video/mp4;base64,{base64.b64encode(film.read_bytes()).decode()}"
    return (
        f'<figure><video controls muted loop playsinline src="{source}"></video>'
        f"<figcaption>{escape(who)}</figcaption></figure>"
    )


def _chart(chart: Chart) -> str:
    given: Any = chart.figure.layout
    chart.figure.update_layout(
        template="none",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", **given.legend.to_plotly_json()},
        margin={"l": 60, "r": 20, "t": 40, "b": 50, **given.margin.to_plotly_json()},
    )
    content = str(chart.figure.to_json()).replace("<", "\\u003c")
    size = f"height:{given.height or 420}px; min-width:{chart.narrowest}px"
    return (
        f'<h2>{escape(chart.heading)}</h2><figure><div class="wide">'
        f'<div class="chart" style="{size}" role="img" aria-label="{escape(chart.words)}">'
        f'<script type="application/json">{content}</script><div style="height:100%"></div></div></div>'
        f"<figcaption>{escape(chart.words)}</figcaption></figure>"
    )


def _trials(sweep: Status) -> str:
    if not sweep.records:
        return ""
    names = list(sweep.spec.space)
    best_first = ranked(sweep.records, sweep.spec.early_stopping.mode)
    unit = sweep.spec.budget.unit
    head = "".join(f"<th>{escape(each)}</th>" for each in ("trial", "state", "score", unit, *names, "why"))
    rows = "".join(f"<tr>{_row(record, names, unit)}</tr>" for record in best_first)
    return (
        f"<h2>All trials</h2><details><summary>{len(best_first)} trials, the best first</summary>"
        f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div></details>'
    )


def _row(record: TrialRecord, names: list[str], unit: str) -> str:
    drawn = [value(record.parameters[name]) if name in record.parameters else "" for name in names]
    cells = [record.trial, record.state, number(record.progress.score), amount(record.progress.used(unit)), *drawn]
    return "".join(f"<td>{escape(cell)}</td>" for cell in (*cells, record.why))


def _failures(sweep: Status, paths: SweepPaths) -> str:
    broken = [record for record in sweep.records if record.state in BROKEN]
    if not broken:
        return ""
    told = "".join(_failure(sweep, paths, record) for record in broken[:MOST_FAILURES])
    more = f"<p>and {len(broken) - MOST_FAILURES} more.</p>" if len(broken) > MOST_FAILURES else ""
    return f"<h2>What broke</h2>{told}{more}"


def _failure(sweep: Status, paths: SweepPaths, record: TrialRecord) -> str:
    log = paths.trial(record.trial).worker_log
    told = f"<p>{escape(f'{title(record.trial)} {record.state}: {record.why}.')}</p>"
    if log.exists():
        told += f"<p>The end of its log, {escape(shown(log))}:</p><pre>{escape(chr(10).join(evidence(log)))}</pre>"
    return f"{told}<p>To repeat it:</p><pre>{escape(train_command(sweep.spec, record))}</pre>"


def _commands(sweep: Status, paths: SweepPaths) -> str:
    folder = paths.folder
    commands = {"Go on, or with more trials (--trials)": sweep.resume_command()}
    if (sweep.result or {}).get("winner"):
        commands["Play the winner"] = play_command(paths.best.checkpoint)
    if any(record.progress.score is not None for record in sweep.records):
        commands["Export the best policy again"] = export_command(folder)
    told = "".join(f"<p>{escape(what)}</p><pre>{escape(command)}</pre>" for what, command in commands.items())
    return f'<h2>Commands</h2><p class="soft">In {escape(str(Path.cwd()))}; so are all paths above.</p>{told}'
