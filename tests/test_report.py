"""`report` makes one page of a sweep, whatever became of it, that opens anywhere and needs nothing else."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import itertools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from browser import SOFTWARE, needs_browser, opened
from conftest import SMALL, wait_for

from go1_sweep import cli, lock, timeline, trials_table
from go1_sweep.paths import BASELINE, SweepPaths, beside, drop_leftovers, write_json
from go1_sweep.protocol import Progress
from go1_sweep.report import refresh
from go1_sweep.timeline import Stint
from go1_sweep.trials_table import TrialRecord

SPACE = {
    "schedule": {"choice": ["adaptive", "fixed"]},
    "learning_rate": {"log_uniform": [1e-4, 1e-2], "when": {"schedule": "fixed"}},
    "gamma": {"uniform": [0.9, 0.99]},
}
FIGURES = {"score": 0.75, "total_reward": 12.0, "length": 1000.0, "lin_vel_rmse": 0.123, "ang_vel_rmse": 0.2}
FIGURES |= {"survival_rate": 1.0, "cost_of_transport": 0.5, "target_rate": 4.0}
VERDICT = {"sentence": "These parameters beat the <default>: +0.1.", "is_gain": True}
VERDICT |= {"ours": [0.91, 0.92], "theirs": [0.81, 0.82]}


def judged(trial: str, parameters: dict[str, Any]) -> dict[str, Any]:
    intervals = {"score": [0.7, 0.8]}
    exam = {"checkpoint": "model_9.pt", "overall": FIGURES, "intervals": intervals, "falls": 0, "episodes": 12}
    return {"trial": trial, "parameters": parameters, "exam": exam}


def a_sweep(folder: Path, states: list[str], *, is_judged: bool = False, points: int = 9, **changes: Any) -> SweepPaths:
    """The folder of a sweep whose trials ended so; ``changes`` in its sweep file."""
    paths, records = SweepPaths(folder), []
    folder.mkdir(exist_ok=True)
    search = {"trials": max(1, len(states)), "parameters": SPACE}
    stopping = {"scheduler": "asha", "window": 2, "grace": 0.34, "reduction_factor": 2}
    content = {**SMALL, "search": search, "budget": {"unit": "iterations", "max": 9}, "early_stopping": stopping}
    paths.spec.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    for i, state in enumerate(states):
        has_rate = i % 2
        parameters = {"schedule": "fixed" if has_rate else "adaptive", "gamma": 0.9 + 0.05 * (i % 2)}
        parameters |= {"learning_rate": 1e-3} if has_rate else {}
        record = TrialRecord(f"{i:04d}", parameters, i, state, "told to fail <b>" if state == "failed" else "")
        if state in ("completed", "early_stopped"):
            record.progress = Progress(9 if state == "completed" else 4, 99, 1.0, 1.0 + i)
            trial = paths.trial(record.trial)
            trial.folder.mkdir(parents=True)
            lines = [{**vars(Progress(n, n, float(n), n / 3)), "time": 1.0} for n in range(1, points + 1)]
            trial.progress.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')
            stint = Stint(record.trial, "1 1", "host GPU 0", 10.0 * i, 10.0 * i + 9, {"training": 8.0, "building": 1.0})
            timeline.append(paths.timeline, stint)
        records.append(record)
    trials_table.write(paths, records, list(SPACE))
    if is_judged:
        paths.best.folder.mkdir()
        paths.best.video.write_bytes(b"a film")
        importances = [{"budget": 9, "trials": len(states), "parameters": {"gamma": 0.75, "schedule": 0.25}}]
        seconds = {"wall": 61.0, "evaluation": 1800.0}
        result = {"phase": "finished", "seconds": seconds, "no_winner": "", "importances": importances}
        sides = {"winner": judged("0001", {"gamma": 0.95}), "baseline": judged(BASELINE, {}), "verdict": VERDICT}
        sides |= {"sim_to_sim": {"sentence": "It walks in plain MuJoCo."}}
        videos = {"video": "best/video.mp4", "no_video": "", "baseline_video": None}
        write_json(paths.result, {**result, **sides, **videos})
    return paths


class Page(html.parser.HTMLParser):
    """What stands on a page: its tags, its text, and all that it points to."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags, self.points_to, self.text, self._inside = Counter[str](), list[str](), "", ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self._inside = tag
        self.points_to += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += f"{data}\n"


def reported(paths: SweepPaths, capsys) -> Page:
    assert cli.main(["report", str(paths.folder)]) == 0
    assert capsys.readouterr().out == f"{paths.report}\n"
    return Page(paths.report.read_text())


def test_the_verdict_comes_first_then_the_winner_its_exam_and_its_video(tmp_path, capsys):
    page = reported(a_sweep(tmp_path, ["completed"] * 4, is_judged=True), capsys)
    told = [
        "These parameters beat the <default>: +0.1.",
        "It walks in plain MuJoCo.",
        "The winner: trial 0001",
        "0.95",
        "0.750 (0.700 to 0.800)",
    ]
    told += [
        "0.123 m/s",
        "The video",
        "Trained again",
        "trial 0001 0.910, 0.920; baseline 0.810",
        "Learning curves",
        "Which parameter mattered",
        "Where the time went",
        "Commands",
    ]
    places = [page.text.index(each) for each in told]
    assert places == sorted(places)
    assert page.points_to == ["data:video/mp4;base64,YSBmaWxt"], "nothing but what the page holds"
    assert "finished: task flat on fake" in page.text and "0:01:01 in all" in page.text


@pytest.mark.parametrize(
    ("states", "told", "charts"),
    [
        ([], "no trial yet", 0),
        (["running"], "1 interrupted", 0),
        (["completed"], "1 completed", 3),
        (["failed", "infeasible"], "told to fail <b>", 0),
        (["completed", "early_stopped", "failed"], "All trials", 4),
    ],
)
def test_a_sweep_has_a_page_however_far_it_came(tmp_path, capsys, states, told, charts):
    page = reported(a_sweep(tmp_path, states), capsys)
    assert told in page.text and "There is no result yet" in page.text
    assert page.tags["figure"] == charts and page.tags["b"] == 0
    assert page.points_to == []


def figures(paths: SweepPaths, capsys) -> dict[str, Any]:
    """The charts of the page by their headings, as plotly has them."""
    reported(paths, capsys)
    found = re.findall(r'<h2>([^<]*)</h2><figure>.*?<script type="application/json">(.*?)</script>', page_of(paths))
    return {heading: json.loads(content) for heading, content in found}


def page_of(paths: SweepPaths) -> str:
    return paths.report.read_text()


def numbers(given: Any) -> list[Any]:
    """An array as plotly writes it: a list, or bytes in base64."""
    if isinstance(given, dict):
        return np.frombuffer(base64.b64decode(given["bdata"]), given["dtype"]).tolist()
    return list(given)


def test_a_learning_curve_is_the_score_over_the_budget_used(tmp_path, capsys):
    budget = {"unit": "env_steps", "max": 1234567}
    paths = a_sweep(tmp_path, ["completed"], budget=budget)
    lines = [{"env_steps": 500000 * n, "score": float(n), "time": 0.0} for n in (1, 2, 3)]
    paths.trial("0000").progress.write_text("".join(json.dumps(line) + "\n" for line in lines))
    figure = figures(paths, capsys)["Learning curves"]
    (curve,) = figure["data"]
    assert (numbers(curve["x"])[:3], numbers(curve["y"])[:3]) == ([500000, 1000000, 1500000], [1, 2, 3])
    assert figure["layout"]["xaxis"]["range"] == [0, 1500000], "the last iteration goes beyond the budget"
    assert "1234567 env_steps a trial" in page_of(paths)
    assert figure["layout"]["annotations"][0]["text"] == "rung 419753"


def test_a_trial_that_diverged_does_not_flatten_the_others(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed", "failed"])
    trial = paths.trial("0001")
    trial.folder.mkdir()
    trial.progress.write_text('{"iterations": 1, "score": 1.0}\n{"iterations": 2, "score": -2e10}\n')
    low, high = figures(paths, capsys)["Learning curves"]["layout"]["yaxis"]["range"]
    assert 0 < low < 1 / 3 and 3 < high < 4


def test_a_trial_with_one_score_is_a_point(tmp_path, capsys):
    figure = figures(a_sweep(tmp_path, ["completed"], points=1), capsys)["Learning curves"]
    assert figure["data"][0]["mode"] == "lines+markers"


def test_slices_are_drawn_as_they_were_searched_and_name_every_state(tmp_path, capsys):
    states = ["completed", "early_stopped"] * 2
    search = {"trials": 4, "parameters": {name: SPACE[name] for name in ("learning_rate", "schedule", "gamma")}}
    figure = figures(a_sweep(tmp_path, states, search=search), capsys)["Slices"]
    axes = [figure["layout"][axis] for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert [axis["type"] for axis in axes] == ["log", "category", "linear"]
    assert axes[0]["ticktext"] == ["0.0001", "0.00046", "0.0022", "0.01"]
    assert axes[2]["ticktext"] == ["0.9", "0.93", "0.96", "0.99"]
    assert [each["name"] for each in figure["data"] if each["showlegend"]] == ["early_stopped", "completed"]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({"uniform": [0.97, 0.995]}, ["0.97", "0.978", "0.987", "0.995"]),
        ({"uniform": [0.99, 0.999]}, ["0.99", "0.993", "0.996", "0.999"]),
        ({"int_uniform": [1000, 4096]}, ["1000", "2032", "3064", "4096"]),
        ({"int_uniform": [1, 3]}, ["1", "2", "3"]),
    ],
)
def test_no_two_ticks_say_the_same(tmp_path, capsys, given, texts):
    name = "num_envs" if "int_uniform" in given else "gamma"
    paths = a_sweep(tmp_path, [], search={"trials": 2, "parameters": {"schedule": SPACE["schedule"], name: given}})
    records = [
        TrialRecord(f"{i:04d}", {"schedule": "fixed", name: end}, i, "completed", "", Progress(9, 9, 1.0, 1.0))
        for i, end in enumerate(next(iter(given.values())))
    ]
    trials_table.write(paths, records, ["schedule", name])
    drawn = figures(paths, capsys)
    assert drawn["Slices"]["layout"]["xaxis2"]["ticktext"] == texts
    assert drawn["Parameters and scores"]["data"][0]["dimensions"][1]["ticktext"] == texts


def test_text_of_the_users_stays_text(tmp_path, capsys):
    evil = "</script><b>bold</b>"
    search = {
        "trials": 4,
        "parameters": {"schedule": {"choice": ["adaptive", "fixed"]}, "env.a": {"choice": [evil, "b"]}},
    }
    paths = a_sweep(tmp_path, [], search=search)
    records = [
        TrialRecord(f"{i:04d}", {"env.a": each}, i, "completed", "", Progress(9, 9, 1.0, 1.0 + i))
        for i, each in enumerate((evil, "b"))
    ]
    trials_table.write(paths, records, ["schedule", "env.a"])
    found = figures(paths, capsys)
    page = Page(page_of(paths))
    assert page.tags["script"] == 2 + page.tags["figure"] and page.tags["b"] == 0
    assert found["Slices"]["layout"]["xaxis2"]["ticktext"][0] == "&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt;"


def test_the_best_trial_comes_first_and_what_broke_can_be_repeated(tmp_path, capsys):
    states = ["completed", "failed", "early_stopped", "completed", "infeasible"]
    paths = a_sweep(tmp_path, states)
    paths.trial("0001").folder.mkdir()
    paths.trial("0001").worker_log.write_text("it began\nsomething <odd>\n")
    page = reported(paths, capsys)
    rows = re.findall(r"<tr><td>(\d+)</td>", page_of(SweepPaths(tmp_path)))
    assert rows[:3] == ["0003", "0000", "0002"]
    assert "trial 0001 failed: told to fail <b>." in page.text
    assert f"The end of its log, {paths.trial('0001').worker_log}:\nit began\nsomething <odd>\n" in page.text
    assert (
        "python -m go1_sweep train --task flat --simulator fake" in page.text and "trial 0004 infeasible" in page.text
    )


def test_the_timeline_has_a_row_for_each_gpu_with_all_that_it_did(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed"] * 2)
    stint = Stint("0002", "2 2", "host GPU 0", 100.0, 120.0, {"importing": 5.0, "training": 10.0})
    timeline.append(paths.timeline, stint)  # by the driver of the resumed sweep
    paths.retrained.folder.mkdir()
    timeline.append(paths.retrained.timeline, dataclasses.replace(stint, trial="0001-1", began=200.0, ended=215.0))
    found = figures(paths, capsys)["Where the time went"]
    bars = [
        (base, length)
        for trace in found["data"]
        for base, length in zip(numbers(trace["base"]), numbers(trace["x"]), strict=True)
    ]
    assert {y for trace in found["data"] for y in trace["y"]} == {"host GPU 0"}
    assert all(base + length <= after for (base, length), (after, _) in itertools.pairwise(sorted(bars)))
    assert max(base + length for base, length in bars) == 215.0


def test_gpu_hours_are_counted_and_cost_what_was_said(tmp_path, capsys):
    resources = {"gpus": 0.5, "price": 10}
    paths = a_sweep(tmp_path, [], is_judged=True, resources=resources)
    timeline.append(paths.timeline, Stint("0000", "1 1", "host GPU 0", 0.0, 3600.0, {"training": 3000.0}))
    paths.retrained.folder.mkdir()
    timeline.append(paths.retrained.timeline, Stint("0000-1", "1 1", "host GPU 0", 0.0, 1800.0, {"training": 9.0}))
    assert "1 GPU hours, which cost 10.00" in reported(paths, capsys).text


def test_a_winner_without_a_verdict_says_why(tmp_path, capsys):
    for baseline, why in ((True, "that could be judged"), (False, "in this sweep")):
        paths = a_sweep(tmp_path / str(baseline), ["completed"] * 2, is_judged=True, baseline=baseline)
        write_json(paths.result, {**json.loads(paths.result.read_text()), "verdict": None, "baseline": None})
        assert f"No verdict: there is no baseline {why}." in reported(paths, capsys).text


def test_the_winner_and_the_baseline_are_shown_side_by_side(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed"] * 2, is_judged=True)
    paths.best.baseline_video.write_bytes(b"another")
    write_json(paths.result, {**json.loads(paths.result.read_text()), "baseline_video": "best/baseline.mp4"})
    assert reported(paths, capsys).points_to == ["data:video/mp4;base64,YSBmaWxt", "data:video/mp4;base64,YW5vdGhlcg=="]


def test_a_video_that_lies_elsewhere_is_not_taken_into_the_page(tmp_path, capsys):
    paths = a_sweep(tmp_path / "s", ["completed"] * 2, is_judged=True)
    (tmp_path / "secret").write_text("secret")
    write_json(paths.result, {**json.loads(paths.result.read_text()), "video": str(tmp_path / "secret")})
    assert reported(paths, capsys).points_to == ["data:video/mp4;base64,YSBmaWxt"]


def test_the_page_of_a_sweep_that_runs_is_written_again_and_again(tmp_path, monkeypatch):
    paths = a_sweep(tmp_path, ["completed", "running"])
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.05)
    with lock.held(paths.lock, 1), refresh.refreshed(paths.folder):
        wait_for(paths.report.exists, 60, "the first page")
        first = paths.report.stat().st_mtime_ns
        wait_for(lambda: paths.report.stat().st_mtime_ns > first, 60, "the second page")
        assert '<meta http-equiv="refresh" content="60">' in page_of(paths)
        is_writing = f".{paths.report.name}.*.tmp"
    assert not list(tmp_path.glob(is_writing))


def test_a_page_that_is_being_written_when_the_sweep_ends_is_left(tmp_path, monkeypatch):
    paths = a_sweep(tmp_path, ["completed"])
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)
    started: list[subprocess.Popen[Any]] = []
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
        started.append(real(["sleep", "1000"], **options))
        return started[-1]

    monkeypatch.setattr(refresh.subprocess, "Popen", start)
    with refresh.refreshed(paths.folder):
        wait_for(lambda: started, 10, "a writer")
    assert started[0].poll() is not None


def test_a_resume_leaves_a_report_alone_that_is_being_written(tmp_path):
    paths = a_sweep(tmp_path, [])
    report, other = (beside(path, 4711) for path in (paths.report, paths.result))
    for each in (report, other):
        each.touch()
    drop_leftovers(tmp_path)
    assert report.exists() and not other.exists()


def test_the_page_of_2000_trials_is_smaller_than_20_mb(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed", "early_stopped"] * 1000, points=300)
    reported(paths, capsys)
    assert paths.report.stat().st_size < 20e6


def test_a_folder_that_is_no_sweep_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is no sweep's folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_every_chart_complains_of_nothing_and_asks_nobody(tmp_path, capsys, width):
    paths = a_sweep(tmp_path, ["completed", "early_stopped"] * 6, is_judged=True)
    page = reported(paths, capsys)
    with opened(paths.report, width) as browser:
        drawn = browser.drawn()
        assert len(drawn) == page.tags["figure"] - 1 == 6, "all figures but the video are charts"
        assert all(drawn)
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        assert (browser.asked, [text for text in browser.said if SOFTWARE not in text]) == ([], [])


@needs_browser
def test_all_trials_are_on_paper(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed"] * 3)
    reported(paths, capsys)
    with opened(paths.report, 800) as browser:
        row = browser.page.locator("td", has_text="0002")
        assert not row.is_visible()
        browser.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert row.is_visible()
