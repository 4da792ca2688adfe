"""`report` makes one page of a sweep, whatever became of it, that opens anywhere and needs nothing else."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SMALL

from go1_sweep import cli, timeline, trials_table
from go1_sweep.paths import BASELINE, SweepPaths, write_json
from go1_sweep.protocol import Progress
from go1_sweep.timeline import Stint
from go1_sweep.trials_table import TrialRecord

CHROMIUM = shutil.which("chromium")
SPACE = {
    "schedule": {"choice": ["adaptive", "fixed"]},
    "learning_rate": {"log_uniform": [1e-4, 1e-2], "when": {"schedule": "fixed"}},
    "gamma": {"uniform": [0.9, 0.99]},
}
FIGURES = {"score": 0.75, "total_reward": 12.0, "length": 1000.0, "lin_vel_rmse": 0.123, "ang_vel_rmse": 0.2}
FIGURES |= {"survival_rate": 1.0, "cost_of_transport": 0.5, "target_rate": 4.0}
VERDICT = {"sentence": "This policy beats the <default>: +0.1.", "is_gain": True}


def judged(trial: str, parameters: dict[str, Any]) -> dict[str, Any]:
    intervals = {"score": [0.7, 0.8]}
    exam = {"checkpoint": "model_9.pt", "overall": FIGURES, "intervals": intervals, "falls": 0, "episodes": 12}
    return {"trial": trial, "parameters": parameters, "exam": exam}


def a_sweep(folder: Path, states: list[str], *, is_judged: bool = False, points: int = 9) -> SweepPaths:
    """The folder of a sweep whose trials ended so."""
    paths, records = SweepPaths(folder), []
    search = {"trials": max(1, len(states)), "parameters": SPACE}
    stopping = {"scheduler": "asha", "window": 2, "grace": 0.34, "reduction_factor": 2}
    content = {**SMALL, "search": search, "budget": {"unit": "iterations", "max": 9}, "early_stopping": stopping}
    paths.spec.write_text(yaml.safe_dump(content))
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
        result = {"phase": "finished", "seconds": {"wall": 61.0}, "no_winner": "", "importances": importances}
        sides = {"winner": judged("0001", {"gamma": 0.95}), "baseline": judged(BASELINE, {}), "verdict": VERDICT}
        write_json(paths.result, {**result, **sides, "video": "best/video.mp4", "no_video": ""})
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
    told = ["This policy beats the <default>: +0.1.", "The winner: trial 0001", "0.95", "0.750 (0.700 to 0.800)"]
    told += ["0.123 m/s", "The video", "Learning curves", "Which parameter mattered", "Where the time went", "Commands"]
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
    assert told in page.text and "no policy was judged yet" in page.text
    assert page.tags["figure"] == charts and page.tags["b"] == 0
    assert page.points_to == []


def test_the_page_of_2000_trials_is_smaller_than_20_mb(tmp_path, capsys):
    paths = a_sweep(tmp_path, ["completed", "early_stopped"] * 1000, points=300)
    reported(paths, capsys)
    assert paths.report.stat().st_size < 20e6


def test_a_folder_that_is_no_sweep_is_refused(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "is no sweep's folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian package chromium)")
@pytest.mark.parametrize("width", [390, 1440])
def test_a_browser_draws_every_chart_complains_of_nothing_and_asks_nobody(tmp_path, capsys, width):
    paths = a_sweep(tmp_path, ["completed", "early_stopped"] * 6, is_judged=True)
    page = reported(paths, capsys)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--enable-logging=stderr"]
    flags += [f"--window-size={width},900", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'browser'}"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, "--dump-dom", f"file://{paths.report}"], capture_output=True, text=True, timeout=120
    )
    drawn = done.stdout.count('class="plot-container')
    assert drawn == page.tags["figure"] - 1 == 5, "all figures but the video are charts"
    assert len(re.findall(r'class="main-svg"', done.stdout)) >= drawn
    said = [
        line for line in done.stderr.splitlines() if "CONSOLE" in line and "GPU stall due to ReadPixels" not in line
    ]
    assert said == []
