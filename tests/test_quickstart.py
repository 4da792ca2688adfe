"""The quickstart, as a newcomer runs it: real physics, real PPO, Ray, Optuna, ASHA."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from conftest import start

from go1_sweep import checkpoint
from go1_sweep.paths import SweepPaths

pytest.importorskip("mjlab")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory) -> tuple[SweepPaths, str]:
    storage = tmp_path_factory.mktemp("runs")
    code, out, err = start("run", "search_spaces/quickstart.yaml", "--storage", str(storage), cwd=ROOT).finish(840)
    assert code == 0, err
    return SweepPaths(storage / "quickstart"), out


def trials(paths: SweepPaths) -> dict[str, dict[str, str]]:
    with open(paths.trials_table, newline="") as file:
        return {row["trial"]: row for row in csv.DictReader(file)}


@pytest.mark.timeout(900)
def test_some_trials_complete_and_some_are_stopped_early(quickstart):
    paths, _ = quickstart
    rows = trials(paths)
    assert len(rows) == 7
    assert {row["state"] for row in rows.values()} == {"completed", "early_stopped"}
    assert rows["baseline"]["state"] == "completed"
    for row in rows.values():
        assert (int(row["env_steps"]) >= 4608) == (row["state"] == "completed")


def test_optuna_db_says_of_each_trial_what_trials_csv_says(quickstart):
    paths, _ = quickstart
    storage = f"sqlite:///{paths.study}"
    rows = trials(paths)
    studies = [optuna.load_study(study_name=name, storage=storage) for name in ("quickstart", "quickstart baseline")]
    told = [trial for study in studies for trial in study.trials]
    assert len(told) == len(rows)
    for trial in told:
        row = rows[trial.user_attrs["trial"]]
        assert trial.state.name == {"completed": "COMPLETE", "early_stopped": "PRUNED"}[row["state"]]
        value = trial.value if row["state"] == "completed" else list(trial.intermediate_values.values())[-1]
        assert value == float(row["score"])
        assert {name: str(value) for name, value in trial.params.items()} == {name: row[name] for name in trial.params}


def test_the_winner_is_the_best_completed_trial_and_its_checkpoint_is_where_the_terminal_says(quickstart):
    paths, out = quickstart
    result = json.loads(paths.result.read_text())
    winner = result["winner"]
    completed = {t: float(row["score"]) for t, row in trials(paths).items() if row["state"] == "completed"}
    assert winner["trial"] == max(completed, key=lambda trial: completed[trial])
    assert winner["score"] == completed[winner["trial"]]
    file = paths.folder / winner["checkpoint"]
    assert str(file) in out
    assert "actor_state_dict" in torch.load(file, weights_only=True)


def test_every_trial_folder_is_complete(quickstart):
    paths, _ = quickstart
    for trial, row in trials(paths).items():
        folder = paths.trial(trial)
        with open(folder.logs, newline="") as file:
            logged = list(csv.DictReader(file))
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
