"""TensorBoard and optuna-dashboard open the folder of a sweep: both are started and asked over HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import imageio.v2 as imageio
import psutil
import pytest
from conftest import by_trial, wait_for, write_sweep
from PIL import Image

from go1_sweep import spec, trials_table
from go1_sweep.paths import BASELINE, SweepPaths
from go1_sweep.protocol import Progress
from go1_sweep.sweep import results, run, tensorboard
from go1_sweep.terminal import Terminal
from go1_sweep.trials_table import TrialRecord
from go1_sweep.wording import title

PARAMETERS = {
    "schedule": {"choice": ["adaptive", "fixed"]},
    "learning_rate": {"log_uniform": [1e-4, 1e-2], "when": {"schedule": "fixed"}},
    "desired_kl": {"log_uniform": [3e-3, 3e-2], "when": {"schedule": "adaptive"}},
    "env.fault": {"choice": ["", "raise"]},
}
STATUS = {"completed": "STATUS_SUCCESS", "early_stopped": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> SweepPaths:
    """A whole sweep, with trials that completed, were stopped and failed, and a film; moved since it ended."""
    sweep = write_sweep(
        tmp_path_factory.mktemp("ended"),
        search={"trials": 5, "sampler": "random", "seed": 14, "parameters": PARAMETERS, "fixed": {"gamma": 0.95}},
        early_stopping={"window": 2, "grace": 0.5, "reduction_factor": 2},
        resources={"gpus": 0, "concurrent": 1, "retries": 0},
        baseline={"num_envs": 16},
        final={"finalists": 1, "envs": 12, "seeds": 1, "video": {"length": 12, "interval": 2}},
    )
    code, _, err = sweep.run()
    assert code == 0, err
    moved = sweep.folder.with_name("moved")
    sweep.folder.rename(moved)
    paths = SweepPaths(moved)
    assert {row["state"] for row in by_trial(paths).values()} == set(STATUS)
    return paths


class Server:
    """A server that runs on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, body: dict[str, Any] | None = None) -> tuple[str, bytes]:
        """The type and the content of what it answers; a body is posted."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}/{path}", data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return answer.headers["Content-Type"], answer.read()

    def json(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return json.loads(self.get(path, body)[1])

    def runs(self, path: str) -> set[str] | None:
        """What it has there; ``None`` while nobody answers."""
        with contextlib.suppress(URLError, ConnectionError):
            return set(self.json(path))
        return None


@contextlib.contextmanager
def serving(name: str, *arguments: str) -> Iterator[Server]:
    """Start the command with a free port; all that it started ends at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name(name)), *arguments, "--host", "127.0.0.1", "--port", str(port)]
    process = psutil.Popen(command, start_new_session=True)
    try:
        yield Server(port)
    finally:
        started = [process, *process.children(recursive=True)]
        os.killpg(process.pid, signal.SIGTERM)
        assert not psutil.wait_procs(started, timeout=30)[1]


@pytest.fixture(scope="module", params=["fast", "slow"])
def board(request, ended) -> Iterator[Server]:
    """TensorBoard over the sweep, with either of its two ways to load it, when it has loaded all."""
    load = f"--load_fast={'true' if request.param == 'fast' else 'false'}"
    with serving("tensorboard", "--logdir", str(ended.folder), load) as server:
        runs = {".", *(f"trials/{trial}" for trial in by_trial(ended))}
        wait_for(lambda: server.runs("data/runs") == runs, 60, "the runs")
        wait_for(lambda: sessions(server).keys() == by_trial(ended).keys(), 60, "the trials")
        yield server


def sessions(server: Server) -> dict[str, dict[str, Any]]:
    """The rows of the table of hyperparameters, by trial; empty before there is one."""
    states = [f"STATUS_{state}" for state in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    wanted = {"allowedStatuses": states, "colParams": [], "startIndex": 0, "sliceSize": 100}
    groups = server.json("data/plugin/hparams/session_groups", wanted)["sessionGroups"]
    assert all([session["name"] for session in group["sessions"]] == [group["name"]] for group in groups)
    return {group["name"].removeprefix("trials/"): group for group in groups}


def test_tensorboard_lists_each_trial_with_what_was_drawn_its_score_and_its_state(ended, board):
    shown = sessions(board)
    for record in trials_table.read(ended):
        row = shown[record.trial]
        assert row["hparams"] == pytest.approx({**record.parameters, "State": record.state})
        assert [each["value"] for each in row["metricValues"]] == pytest.approx([record.progress.score])
        assert row["sessions"][0]["status"] == STATUS[record.state]
    drawn = {frozenset({"learning_rate", "desired_kl"} & row["hparams"].keys()) for row in shown.values()}
    assert drawn == {frozenset(), frozenset({"learning_rate"}), frozenset({"desired_kl"})}


def test_its_columns_are_the_state_the_parameters_and_the_score(board):
    columns = board.json("data/plugin/hparams/experiment", {"experimentName": ""})
    names = [each["name"] for each in columns["hparamInfos"]]
    assert names == ["State", "desired_kl", "env.fault", "gamma", "learning_rate", "num_envs", "schedule"]
    domains = {each["name"]: each.get("domainInterval", each.get("domainDiscrete")) for each in columns["hparamInfos"]}
    assert domains["learning_rate"] == {"minValue": 1e-4, "maxValue": 1e-2}
    assert domains["schedule"] == ["adaptive", "fixed"]
    assert [each["name"]["tag"] for each in columns["metricInfos"]] == ["score"]


def test_a_trials_curves_are_in_the_run_that_has_its_parameters(ended, board):
    tags = board.json("data/plugin/scalars/tags")
    for trial, row in by_trial(ended).items():
        assert {"Loss/value", "score"} <= tags[f"trials/{trial}"].keys()
        point = {"run": f"trials/{trial}", "tag": "score"}
        [(_, step, score)] = board.json(f"data/plugin/scalars/scalars?{urlencode(point)}")
        assert (step, score) == (int(row["iterations"]), pytest.approx(float(row["score"])))


def test_the_film_of_the_winner_is_an_image_that_moves(ended, board):
    winner = json.loads(ended.result.read_text())["winner"]
    [(where, [tag])] = [(run, [*tags]) for run, tags in board.json("data/plugin/images/tags").items()]
    assert (where, tag) == (".", f"winner: {title(winner['trial'])}")
    [image] = board.json(f"data/plugin/images/images?{urlencode({'run': where, 'tag': tag, 'sample': 0})}")
    assert image["step"] == winner["iterations"]
    kind, content = board.get(f"data/plugin/images/individualImage?{image['query']}")
    reader: Any = imageio.get_reader(ended.best.video)
    with Image.open(io.BytesIO(content)) as gif:
        assert (kind, gif.format, gif.size) == ("image/gif", "GIF", (320, 240))
        assert getattr(gif, "n_frames", 1) == reader.count_frames() == 6
        assert gif.info["duration"] == pytest.approx(1000 / reader.get_meta_data()["fps"], abs=10)
        assert gif.info["loop"] == 0
    assert len(content) < 3e6


def test_optuna_dashboard_shows_the_trials_and_the_baseline_as_trials_csv_has_them(ended):
    states = {"completed": "Complete", "early_stopped": "Pruned", "failed": "Fail"}
    rows = {record.trial: record for record in trials_table.read(ended)}
    with serving("optuna-dashboard", f"sqlite:///{ended.study}") as server:
        wait_for(lambda: server.runs("api/studies"), 60, "the studies")
        studies = {each["study_name"]: each["study_id"] for each in server.json("api/studies")["study_summaries"]}
        assert studies.keys() == {"sweep", "sweep baseline"}
        trials = [
            trial for study in studies.values() for trial in server.json(f"api/studies/{study}?after=0")["trials"]
        ]
    for trial in trials:
        record = rows.pop({each["key"]: each["value"] for each in trial["user_attrs"]}["trial"])
        assert trial["state"] == states[record.state]
        if record.state == "completed":
            assert trial["values"] == [record.progress.score]
        if record.trial != BASELINE:
            drawn = {each["name"]: each["param_external_value"] for each in trial["params"]}
            assert drawn == {name: str(record.parameters[name]) for name in drawn}
            assert drawn.keys() == record.parameters.keys() - {"gamma"}
    assert not rows


def test_a_sweep_does_not_fail_for_what_tensorboard_would_show(ended, tmp_path, capsys):
    paths = SweepPaths(tmp_path)
    record = TrialRecord("0000", {"gamma": 0.9}, 1, "completed", progress=Progress(6, 99, 1.0, 2.0))
    shutil.copyfile(ended.spec, paths.spec)
    told = (spec.load(paths.spec), paths, [record], record, Terminal())
    run._show_in_tensorboard(*told)
    assert "not all of it in TensorBoard: " in capsys.readouterr().out
    assert paths.trial("0000").hparams.exists() and not paths.winner_events.exists()
    paths.trial("0000").hparams.unlink()
    paths.best.folder.mkdir()
    shutil.copyfile(ended.best.video, paths.best.video)
    run._show_in_tensorboard(*told)
    assert capsys.readouterr().out == ""
    assert paths.trial("0000").hparams.exists() and paths.winner_events.exists()
    assert not list(paths.folder.rglob(".*"))


def test_the_film_of_an_earlier_winner_is_gone_when_the_sweep_goes_on(ended, tmp_path):
    paths = SweepPaths(tmp_path)
    shutil.copyfile(ended.winner_events, paths.winner_events)
    results.reopen(paths, spec.load(ended.spec))
    assert not paths.winner_events.exists()


def test_all_values_that_a_parameter_may_have_are_in_its_domain():
    assert str(tensorboard._domain([1e-4, 4096, 2])) == "[0.0001, 4096.0]"
    assert str(tensorboard._domain([False, True, False])) == "{False, True}"
    assert str(tensorboard._domain(["b", "a"])) == "{'a', 'b'}"
    assert tensorboard._domain([1, "a"]) is None
