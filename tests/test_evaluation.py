"""Figures from episodes, and who is played and wins."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from go1_sweep import checkpoint, evaluation, exam, finalists, spec
from go1_sweep.errors import BadInput
from go1_sweep.evaluation import Evaluation
from go1_sweep.paths import BASELINE, SweepPaths
from go1_sweep.protocol import Episode, Progress
from go1_sweep.trials_table import TrialRecord

GOOD = Episode(20.0, 1000, 0.2, 0.3, 0.5, 0.4, 2.0, fell=False, cut_off=False, env=0)
SHORT = Episode(2.0, 250, 0.8, 0.1, 0.25, 0.1, 6.0, fell=True, cut_off=False, env=1)


def evaluated(trial: str = "0000", checkpoint: str = "model_3.pt", seeds: int = 1, **changes) -> Evaluation:
    fields = {
        "trial": trial,
        "checkpoint": checkpoint,
        "sha256": "ab",
        "roles": ("last",),
        "is_exam": True,
        "task_id": "Flat",
        "versions": {"torch": "2.13"},
        "max_length": 1000,
        "step_seconds": 0.02,
        "episodes": {seed: [GOOD, SHORT] for seed in range(seeds)},
    }
    return Evaluation(**{**fields, **changes})


def test_returns_and_lengths_are_means_of_episodes_and_errors_are_over_all_steps():
    figures = evaluation.figures([GOOD, SHORT], None)
    assert (figures.total_reward, figures.length, figures.survival_rate) == (11.0, 625.0, 0.5)
    assert figures.lin_vel_rmse == pytest.approx(math.sqrt((0.2**2 * 1000 + 0.8**2 * 250) / 1250))
    assert figures.ang_vel_rmse == pytest.approx(math.sqrt((0.3**2 * 1000 + 0.1**2 * 250) / 1250))
    assert figures.cost_of_transport == pytest.approx((0.4 * 1000 + 0.1 * 250) / (0.5 * 1000 + 0.25 * 250))
    assert figures.target_rate == pytest.approx(math.sqrt((2.0**2 * 1000 + 6.0**2 * 250) / 1250))
    assert figures.score is None, "the exam alone has one"


def test_the_score_of_the_exam_is_what_its_terms_say_and_a_fall_costs_what_was_left_of_it():
    good = 0.6 * math.exp(-((0.2 / 0.5) ** 2)) + 0.3 * math.exp(-((0.3 / 0.5) ** 2))
    good += 0.05 * math.exp(-0.4) + 0.05 * math.exp(-2.0 / 10)
    short = 0.6 * math.exp(-((0.8 / 0.5) ** 2)) + 0.3 * math.exp(-((0.1 / 0.5) ** 2))
    short += 0.05 * math.exp(-0.1) + 0.05 * math.exp(-6.0 / 10)
    assert exam.robot_score(GOOD, 1000) == pytest.approx(good)
    assert exam.robot_score(SHORT, 1000) == pytest.approx(short / 4)
    assert evaluated().overall().score == pytest.approx((good + short / 4) / 2)


def test_a_policy_that_only_stands_gets_what_is_written_of_it():
    still = dataclasses.replace(GOOD, length=500, speed=0.0, power=0.0, target_rate=0.0)
    robots = [
        dataclasses.replace(still, env=env, lin_vel_rmse=math.hypot(forward, left), ang_vel_rmse=abs(turn))
        for env, (forward, left, turn) in enumerate(exam.COMMANDS.values())
    ]
    assert evaluation.figures(robots, 500).score == pytest.approx(0.61, abs=0.005)
    assert "One that only stands gets 0.61" in " ".join((exam.__doc__ or "").split())


def test_the_exam_gives_each_command_equally_many_robots_and_all_terrain():
    envs = range(2 * len(exam.COMMANDS) * len(exam.DIFFICULTIES))
    pairs = [(exam.command_of(env), exam.difficulty_of(env)) for env in envs]
    assert all(pairs.count(pair) == 2 for pair in pairs)
    assert sum(term.weight for term in exam.TERMS) == pytest.approx(1)
    for number in (0, -12, 50):
        with pytest.raises(ValueError, match="12 commands"):
            exam.check_envs(number)


def test_a_robot_that_never_moved_has_no_cost_of_transport():
    still = dataclasses.replace(GOOD, speed=0.0)
    assert evaluation.figures([still], 500).cost_of_transport is None
    assert "cost_of_transport" not in evaluated(episodes={1: [still] * 12}).intervals()


EPISODES = st.builds(
    Episode,
    st.floats(-100, 100),
    st.integers(1, 1000),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 50),
)


@given(st.lists(EPISODES, min_size=1, max_size=8))
def test_no_figure_lies_outside_the_range_of_its_episodes(episodes):
    figures = evaluation.figures(episodes, 1000)
    assert figures.score is not None
    assert 0 <= figures.score <= 1
    for name in ("total_reward", "length", "lin_vel_rmse", "ang_vel_rmse", "target_rate"):
        values = [getattr(episode, name) for episode in episodes]
        slack = 1e-9 * (1 + max(map(abs, values)))
        assert min(values) - slack <= getattr(figures, name) <= max(values) + slack


def test_an_interval_holds_its_figure_and_narrows_with_the_robots():
    assert evaluated(seeds=2).intervals() == {}, "four episodes say nothing of their spread"
    pair = [GOOD, dataclasses.replace(SHORT, env=12)]  # of one command
    few, many = (evaluated(episodes={1: pair * n, 2: pair * n}) for n in (6, 60))
    for name, (low, high) in few.intervals().items():
        assert low <= getattr(few.overall(), name) <= high
        narrow = many.intervals()[name]
        assert narrow[1] - narrow[0] < 0.5 * (high - low)
    share, error = 0.5, math.sqrt(0.5 * 0.5 / 240)
    assert many.intervals()["survival_rate"] == pytest.approx([share - 1.96 * error, share + 1.96 * error], abs=0.01)
    upright = evaluated(episodes={1: [GOOD] * 12}).intervals()["survival_rate"]
    assert (upright[0] < 0.8, upright[1]) == (True, pytest.approx(1.0)), "twelve that stayed up prove little"


def test_what_differs_between_commands_is_no_chance():
    """Errors that the command alone decides, but for a tenth."""

    def robots(seed: int) -> list[Episode]:
        draw = random.Random(seed)
        return [
            dataclasses.replace(GOOD, env=env, lin_vel_rmse=0.1 + 0.05 * (env % 12) + draw.gauss(0, 0.005))
            for env in range(48)
        ]

    low, high = evaluated(episodes={seed: robots(seed) for seed in (1, 2, 3)}).intervals()["lin_vel_rmse"]
    repeated = [evaluated(episodes={1: robots(seed)}).overall().lin_vel_rmse for seed in range(200)]
    true_width = 2 * 1.96 * statistics.stdev(repeated) / math.sqrt(3)
    assert 0.7 * true_width < high - low < 1.4 * true_width


def test_an_evaluation_comes_back_from_its_file_and_another_file_is_none(tmp_path: Path):
    before = evaluated(seeds=2)
    before.save(tmp_path / "evaluation.json")
    assert evaluation.load(tmp_path / "evaluation.json") == before
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["overall"] == dataclasses.asdict(before.overall())
    assert content["seeds"][0]["episodes"]["length"] == [1000, 250]
    for text in ("", "[]", "{}", '{"trial": 1', json.dumps({**content, "seeds": [{"seed": 1}]})):
        (tmp_path / "other.json").write_text(text)
        assert evaluation.load(tmp_path / "other.json") is None
    assert evaluation.load(tmp_path / "nothing.json") is None


def record(trial: str, score: float | None, state: str = "completed", seed: int = 1) -> TrialRecord:
    return TrialRecord(trial, {}, seed, state, "", Progress(10, 100, 1.0, score))


def chosen(records: list[TrialRecord], count: int, mode: str = "max") -> list[str]:
    return [each.trial for each in finalists.finalists(records, count, mode)]


def test_finalists_are_the_baseline_and_the_best_that_used_their_whole_budget():
    records = [
        record(BASELINE, 1.0),
        record("0000", 5.0),
        record("0001", 9.0, "early_stopped"),
        record("0002", 7.0),
        record("0003", None, "failed"),
        record("0004", 6.0),
    ]
    assert chosen(records, 2) == [BASELINE, "0002", "0004"]
    assert chosen(records, 9) == [BASELINE, "0002", "0004", "0000"]
    assert chosen(records, 1, "min") == [BASELINE, "0000"]


def test_a_baseline_that_was_cut_short_is_no_rival_of_those_that_were_not():
    cut = [record(BASELINE, 9.0, "failed"), record("0000", 5.0)]
    assert chosen(cut, 2) == ["0000"]
    assert chosen([record(BASELINE, 9.0, "interrupted"), record("0000", 5.0, "interrupted")], 2) == [BASELINE, "0000"]


def test_where_none_but_the_baseline_used_its_whole_budget_those_with_a_score_stand_in():
    records = [
        record("0000", 5.0, "interrupted"),
        record("0001", None, "interrupted"),
        record("0002", 6.0, "early_stopped"),
    ]
    assert chosen(records, 3) == ["0002", "0000"]
    assert chosen([record(BASELINE, 9.0), *records], 1) == [BASELINE, "0002"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_evaluation_seeds_are_none_that_training_used_and_the_same_each_time(sweep_seed, count):
    free = finalists.evaluation_seeds(sweep_seed, count, [])
    assert len(set(free)) == count
    assert all(0 <= seed < 2**31 for seed in free)
    others = finalists.evaluation_seeds(sweep_seed, count, free[:1])
    assert others[: count - 1] == free[1:]
    assert free[0] not in others


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[spec.Spec, SweepPaths]:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "task: flat\nsearch: {trials: 2, parameters: {gamma: {uniform: [0.9, 0.99]}}}\n"
        f"budget: {{max: 10}}\nstorage: {tmp_path}\n"
    )
    loaded = spec.load(file)
    return loaded, SweepPaths(loaded.folder)


def publish(paths: SweepPaths, trial: str, *scores: float) -> None:
    folder = paths.trial(trial)
    folder.folder.mkdir(parents=True, exist_ok=True)
    folder.config.write_text("{task: flat, simulator: mjlab, parameters: {gamma: 0.95}, seed: 3}\n")
    for iteration, score in enumerate(scores, 1):
        checkpoint.publish(folder, Progress(iteration, 1, 1.0, score), lambda path: path.touch())


def test_the_last_and_the_best_checkpoint_play_and_one_that_is_both_plays_once(sweep):
    loaded, paths = sweep
    publish(paths, "0000", 1.0, 3.0, 2.0)
    publish(paths, "0001", 1.0, 2.0)
    warnings: list[str] = []
    found = finalists.candidates_of(loaded, paths, [record("0000", 2.0), record("0001", 2.0)], warnings.append)
    assert [(each.trial, each.file.name, each.roles) for each in found] == [
        ("0000", "model_3.pt", ("last",)),
        ("0000", "model_2.pt", ("best",)),
        ("0001", "model_2.pt", ("last", "best")),
    ]
    assert not warnings
    assert {(each.policy.task, each.policy.parameters["gamma"]) for each in found} == {("flat", 0.95)}


def test_a_checkpoint_that_is_not_what_its_trial_published_does_not_play(sweep):
    loaded, paths = sweep
    publish(paths, "0000", 1.0, 3.0, 2.0)
    folder = paths.trial("0000")
    folder.checkpoint(2).write_text("another policy")
    folder.checkpoint(3).unlink()
    warnings: list[str] = []
    assert finalists.candidates_of(loaded, paths, [record("0000", 2.0)], warnings.append) == [], "nor an earlier one"
    assert [warning.split(" ")[0].rsplit("/")[-1] for warning in warnings] == ["model_2.pt", "model_3.pt"]
    assert all("missing, or not the file that its trial published" in warning for warning in warnings)


@pytest.mark.parametrize("parameters", ["[1]", "{gamma: [1]}", "{1: 2}", "null", "3"])
def test_a_config_of_another_form_beside_a_checkpoint_is_as_good_as_none(tmp_path, parameters):
    (tmp_path / "config.yaml").write_text(f"{{task: flat, simulator: fake, parameters: {parameters}}}")
    with pytest.raises(BadInput, match="name it: --task"):
        finalists.trained(tmp_path / "model_1.pt")
    assert finalists.trained(tmp_path / "model_1.pt", "rough").policy.parameters == {}


def test_a_policy_json_beside_a_checkpoint_says_all_that_config_yaml_does_and_where_it_came_from(tmp_path):
    description = {
        "task": "flat",
        "simulator": "fake",
        "parameters": {"learning_rate": 1e-05},
        "sweep": "s",
        "trial": "0003",
        "checkpoint": "model_7.pt",
        "sha256": {},
    }
    (tmp_path / "policy.json").write_text(json.dumps(description))
    trained = finalists.trained(tmp_path / "checkpoint.pt")
    assert trained.policy.parameters == {"learning_rate": 1e-05}, "YAML would read it as text"
    assert trained.origin == {"sweep": "s", "trial": "0003", "checkpoint": "model_7.pt"}
    assert finalists.trained(tmp_path / "checkpoint.pt", "rough").policy.task == "rough"


def test_a_missing_config_is_told_in_a_sentence_and_a_damaged_line_of_a_manifest_costs_its_checkpoint(sweep):
    loaded, paths = sweep
    publish(paths, "0000", 1.0)
    paths.trial("0000").config.unlink()
    with pytest.raises(BadInput, match=r"model_1.pt: no config.yaml or policy.json beside it says which task"):
        finalists.candidates_of(loaded, paths, [record("0000", 1.0)], print)
    with open(paths.trial("0000").manifest, "a") as manifest:
        manifest.write('{"file": "model_2.pt", \xff')
    assert len(checkpoint.read_manifest(paths.trial("0000"))) == 1
    paths.trial("0000").manifest.write_text("damaged")
    assert finalists.candidates_of(loaded, paths, [record("0000", 1.0)], print) == []
