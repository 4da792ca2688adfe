"""The quickstart, as a newcomer runs it: real physics, real PPO, Ray, Optuna, ASHA."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import onnxruntime
import optuna
import pytest
import torch
import yaml
from browser import PLAYED, SOFTWARE, needs_browser, opened
from conftest import by_trial, logs, start

from go1_sweep import checkpoint, exam, timeline
from go1_sweep.paths import SweepPaths
from go1_sweep.wording import title

pytest.importorskip("mjlab")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> tuple[SweepPaths, str]:
    storage = tmp_path_factory.mktemp("runs")
    code, out, err = start("run", "search_spaces/quickstart.yaml", "--storage", str(storage), cwd=ROOT).finish(840)
    assert code == 0, err
    return SweepPaths(storage / "quickstart"), out


@pytest.mark.timeout(900)
def test_some_trials_complete_and_some_are_stopped_early(quickstart):
    paths, _ = quickstart
    rows = by_trial(paths)
    assert len(rows) == 7
    assert {row["state"] for row in rows.values()} == {"completed", "early_stopped"}
    assert rows["baseline"]["state"] == "completed"
    for row in rows.values():
        assert (int(row["env_steps"]) >= 2304) == (row["state"] == "completed")


def test_the_report_tells_how_the_sweep_ended(quickstart):
    paths, out = quickstart
    page, result = paths.report.read_text(), json.loads(paths.result.read_text())
    assert "finished: task flat on mjlab" in page and str(paths.report) in out
    assert f"<h2>The winner: {title(result['winner']['trial'])}</h2>" in page
    assert f"{result['winner']['exam']['overall']['score']:.3f} (" in page
    assert 'src="data:video/mp4;base64,' in page or result["no_video"] in page


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_the_report_works_in_a_browser_and_its_videos_play(quickstart, width):
    paths, _ = quickstart
    result = json.loads(paths.result.read_text())
    with opened(paths.report, width) as browser:
        drawn = browser.drawn()
        assert len(drawn) >= 4 and all(drawn)
        played = browser.page.evaluate(PLAYED)
        assert len(played) == bool(result["video"]) + bool(result["baseline_video"]) and all(played)
        assert (browser.asked, [text for text in browser.said if SOFTWARE not in text]) == ([], [])


def test_optuna_db_says_of_each_trial_what_trials_csv_says(quickstart):
    paths, _ = quickstart
    storage = f"sqlite:///{paths.study}"
    rows = by_trial(paths)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in ("quickstart", "quickstart baseline")]
    told = [trial for study in studies for trial in study.trials]
    assert len(told) == len(rows)
    for trial in told:
        row = rows[trial.user_attrs["trial"]]
        assert trial.state.name == {"completed": "COMPLETE", "early_stopped": "PRUNED"}[row["state"]]
        value = trial.value if row["state"] == "completed" else list(trial.intermediate_values.values())[-1]
        assert value == float(row["score"])
        assert {name: str(value) for name, value in trial.params.items()} == {name: row[name] for name in trial.params}


def test_the_winner_is_selected_by_the_exam_from_the_best_in_training_and_the_baseline(quickstart):
    paths, out = quickstart
    result, judged = (json.loads(path.read_text()) for path in (paths.result, paths.best.evaluation))
    scores = {t: float(row["score"]) for t, row in by_trial(paths).items() if row["state"] == "completed"}
    del scores["baseline"]
    assert {each["trial"] for each in judged["candidates"]} == {"baseline", max(scores, key=lambda t: scores[t])}
    best = max(judged["candidates"], key=lambda each: each["overall"]["score"])
    winner = result["winner"]
    assert (winner["trial"], winner["exam"]["checkpoint"]) == (best["trial"], best["checkpoint"])
    assert (paths.folder / winner["checkpoint"]).read_bytes() == paths.best.checkpoint.read_bytes()
    assert str(paths.best.onnx) in out
    assert result["verdict"]["sentence"] in out


def test_the_time_of_the_slots_is_accounted_for(quickstart):
    paths, out = quickstart
    result, stints = json.loads(paths.result.read_text()), timeline.read(paths.timeline)
    spent = result["slots"]["trials"]["sum"]
    assert sorted(stint.trial for stint in stints) == sorted(by_trial(paths))
    assert spent["training"] == pytest.approx(result["seconds"]["train"], abs=0.1)
    assert sum(seconds for use, seconds in spent.items() if use != "held") == pytest.approx(spent["held"], abs=0.1)
    assert all(spent[use] > 0 for use in ("importing", "building", "checkpointing", "other", "idle"))
    assert 0 < result["seconds"]["evaluation"] < 2 * result["seconds"]["final"]
    assert "slots held" in out


def test_evaluation_json_is_what_the_recorded_trajectories_say(quickstart):
    paths, _ = quickstart
    judged = json.loads(paths.best.evaluation.read_text())
    for each in [judged["winner"], judged["baseline"], *judged["candidates"]]:
        assert each["max_length"] == 200
        for seed in each["seeds"]:
            file = paths.trial(each["trial"]).trajectories(Path(each["checkpoint"]).stem, seed["seed"])
            with np.load(file) as recorded:
                steps = {name: recorded[name].astype(np.float64) for name in recorded.files}
            alive = np.cumsum(steps["done"], axis=0) - steps["done"] == 0  # up to and with its first end
            assert (alive == steps["alive"]).all()
            told = np.broadcast_to([*exam.COMMANDS.values()], steps["command"].shape)
            assert np.allclose(steps["command"], told)
            lengths = alive.sum(axis=0)
            assert lengths.tolist() == seed["episodes"]["length"]
            assert lengths.mean() == pytest.approx(seed["length"])
            assert (steps["reward"] * alive).sum(axis=0).mean() == pytest.approx(seed["total_reward"], rel=1e-5)
            fell = (steps["done"] * (1 - steps["time_out"]) * alive).sum(axis=0)
            assert fell.tolist() == seed["episodes"]["fell"]
            assert 1 - fell.mean() == pytest.approx(seed["survival_rate"])
            off = ((steps["lin_vel"] - steps["command"])[..., :2] ** 2).sum(axis=2)
            turn = (steps["ang_vel"] - steps["command"])[..., 2] ** 2
            assert np.sqrt(off[alive].mean()) == pytest.approx(seed["lin_vel_rmse"], rel=1e-5)
            assert np.sqrt(turn[alive].mean()) == pytest.approx(seed["ang_vel_rmse"], rel=1e-5)
            speed = np.linalg.norm(steps["lin_vel"][..., :2], axis=2)
            cost = steps["power"][alive].sum() / speed[alive].sum()
            assert cost == pytest.approx(seed["cost_of_transport"], rel=1e-5)
        assert each["overall"]["total_reward"] == pytest.approx(each["seeds"][0]["total_reward"])


def test_the_exported_policy_names_the_go1s_joints_and_agrees_with_its_checkpoint(quickstart):
    paths, _ = quickstart
    description = json.loads(paths.best.description.read_text())
    legs = [f"{leg}_{joint}_joint" for leg in ("FR", "FL", "RR", "RL") for joint in ("hip", "thigh", "calf")]
    assert [joint["name"] for joint in description["actions"]] == legs
    assert sum(term["size"] for term in description["observations"]) == 48
    session = onnxruntime.InferenceSession(paths.best.onnx)
    observations = torch.randn(5, 48)
    onnx = np.asarray(session.run(None, {description["input"]: observations.numpy()})[0])
    script = torch.jit.load(paths.best.torchscript)(observations).detach().numpy()
    assert np.abs(onnx - script).max() < 1e-5
    assert max(description["differences"][name] for name in ("policy.onnx", "policy.pt")) < 1e-5


def test_the_film_shows_a_go1_that_moves_below_its_velocities(quickstart):
    paths, _ = quickstart
    no_video = json.loads(paths.result.read_text())["no_video"]
    if no_video:
        pytest.skip(no_video)
    reader: Any = imageio.get_reader(paths.best.video)
    assert reader.get_meta_data()["fps"] == pytest.approx(12.5)
    frames = [reader.get_data(i).astype(float) for i in range(reader.count_frames())]
    assert len(frames) == 30
    assert all((frame[:90] > 200).any() for frame in frames), "the velocities are written on every picture"
    middle = [frame[160:360, 200:440] for frame in frames]
    assert all((picture.max(axis=2) < 60).mean() > 0.05 for picture in middle), "the dark robot, always in the middle"
    assert max(np.abs(one - other).mean() for one, other in itertools.pairwise(middle)) > 1


def test_every_trial_folder_is_complete(quickstart):
    paths, _ = quickstart
    for trial, row in by_trial(paths).items():
        folder = paths.trial(trial)
        logged = logs(folder.folder)
        assert len(logged) == int(row["iterations"])
        assert logged[-1]["env_steps"] == row["env_steps"]
        assert yaml.safe_load(folder.config.read_text())["seed"] == int(row["seed"])
        assert checkpoint.read_manifest(folder)[-1].progress.iterations == int(row["iterations"])
        assert not list(folder.folder.glob("*.onnx"))


def test_the_spec_that_is_left_behind_repeats_the_sweep(quickstart):
    from go1_sweep import spec

    paths, _ = quickstart
    left = spec.load(paths.spec)
    assert (left.simulator, left.resources.gpus) == ("mjlab", 1 if torch.cuda.is_available() else 0)
    assert left.search == spec.load(ROOT / "search_spaces/quickstart.yaml").search


def test_the_environment_is_recorded(quickstart):
    environment = json.loads(quickstart[0].environment.read_text())
    assert {"ray", "optuna", "mjlab", "torch", "mujoco-warp", "go1_sweep"} <= set(environment["packages"])
