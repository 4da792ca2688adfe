"""Isaac Lab 3.0 on Newton, without Isaac Sim, where there is one: GO1_SWEEP_ISAACLAB3 names its interpreter.

It is not on PyPI, so that CI has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import logs
from test_isaaclab2 import FLAT, ask, request
from test_worker import Talk

from go1_sweep import protocol
from go1_sweep.paths import PolicyPaths
from go1_sweep.trial.checkpoints import read_checkpoint

SMALL: dict[str, Any] = {"num_envs": 8, "num_steps_per_env": 8}


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    if not (python := os.environ.get("GO1_SWEEP_ISAACLAB3")):
        pytest.skip("GO1_SWEEP_ISAACLAB3 names no interpreter with Isaac Lab 3.0")
    talk = Talk("isaaclab", tmp_path_factory.mktemp("worker") / "log", Path(python))
    yield talk
    talk.worker.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["flat", "rough"])
def test_a_policy_is_trained_trained_further_judged_and_exported(talk, tmp_path, task):
    assert talk.hello.versions["physics"] == "newton"
    assert talk.train(request(tmp_path, task=task, parameters=SMALL, budget_max=2)).state == "completed"
    checkpoint = tmp_path / "a" / "model_2.pt"
    parameters = {**SMALL, "num_steps_per_env": 1, "schedule": "fixed", "learning_rate": 0.0}
    changes = {"parameters": parameters, "seed": 8, "budget_max": 3, "checkpoint": str(checkpoint)}
    assert talk.train(request(tmp_path, "b", task=task, **changes)).progress.env_steps == 136
    files = (checkpoint, tmp_path / "b" / "model_3.pt")
    left, found = (read_checkpoint(file)["infos"]["go1_sweep"]["curriculum"] for file in files)
    assert {name: kept.tolist() for name, kept in found.items()} == {
        **{name: kept.tolist() for name, kept in left.items()},
        "common_step_counter": 17,
    }
    columns = logs(tmp_path / "a")[-1]
    assert all(columns[name] for name in ("value_loss", "surrogate_loss", "entropy", "kl", "action_std"))

    policy = protocol.Policy(str(checkpoint), task, SMALL)
    judged = ask(talk, protocol.Evaluate(policy, num_envs=2, seed=5, steps=20, trajectories="", exam_seconds=0))
    assert isinstance(judged, protocol.Evaluated), judged
    assert (judged.max_length, sum(episode.length for episode in judged.episodes)) == (1000, 40)
    (tmp_path / "policy").mkdir()
    exported = ask(talk, protocol.Export(policy, str(tmp_path / "policy"), {}, {}))
    assert isinstance(exported, protocol.Finished), exported
    assert PolicyPaths(tmp_path / "policy").description.exists()


def test_presets_are_those_of_newton(talk):
    assert ask(talk, protocol.Check(FLAT, [{"env.sim.physics.solver_cfg.njmax": 70}])).errors == [""]
