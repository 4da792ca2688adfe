from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from go1_sweep import cli, spec, yaml_file
from go1_sweep.errors import BadInput
from go1_sweep.space import Choice, Dimension, Range

NEEDED = {
    "task": "task: flat",
    "search": "search: {trials: 4, parameters: {gamma: {uniform: [0.9, 0.99]}}}",
    "budget": "budget: {max: 10}",
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text: str, *overrides: str, **changes: str) -> spec.Spec:
    """Load the text, completed by the sections that a sweep file must have."""
    given = {line.partition(":")[0] for line in text.splitlines()}
    Path("sweep.yaml").write_text("\n".join([text, *(line for key, line in NEEDED.items() if key not in given), ""]))
    return spec.load(Path("sweep.yaml"), overrides, changes)


def refusal(text: str, *overrides: str, **changes: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(text, *overrides, **changes)
    return str(caught.value)


def searched(parameters: str) -> str:
    return f"search: {{trials: 4, parameters: {{{parameters}}}}}"


SCHEDULE = "schedule: {choice: [adaptive, fixed]}"


def test_every_default_is_resolved():
    loaded = load("task: rough")
    assert yaml.safe_load(loaded.to_yaml()) == {
        "name": "sweep",
        "task": "rough",
        "simulator": "auto",
        "search": {
            "trials": 4,
            "sampler": "tpe",
            "seed": 0,
            "parameters": {"gamma": {"uniform": [0.9, 0.99]}},
            "fixed": {},
        },
        "baseline": True,
        "budget": {"unit": "iterations", "max": 10},
        "early_stopping": {
            "scheduler": "asha",
            "metric": "mean_reward",
            "mode": "max",
            "window": 20,
            "grace": 0.1,
            "reduction_factor": 3,
        },
        "resources": {
            "gpus": "auto",
            "cpus": 1,
            "accelerator": None,
            "concurrent": None,
            "reuse_workers": True,
            "stall_timeout": 900,
            "retries": 2,
            "keep_checkpoints": 5,
            "kernel_cache": None,
            "price": None,
        },
        "final": {
            "finalists": 3,
            "envs": 48,
            "exam_seconds": 20.0,
            "seeds": 3,
            "retrain_seeds": 0,
            "trajectories": False,
            "video": {"length": 500, "interval": 1},
        },
        "isaaclab": {"python": None, "max_trials_per_worker": None, "physics": "auto"},
        "mjlab": {"python": None, "max_trials_per_worker": None},
        "tracking": {"wandb": None},
        "storage": "runs",
    }
    assert loaded.folder == Path.cwd() / "runs" / "sweep"


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("", []),
        ("baseline: false", []),
        ("baseline: {num_envs: 32, env.a.b: true}", ["baseline.gamma=1"]),
        ("final: {video: false}", []),
        ("tracking: {wandb: {mode: offline}}", ["tracking.wandb.base_url=https://wandb.example.org"]),
        ("final: {seeds: 1, video: {interval: 3}}", ["final.trajectories=true"]),
        ("name: '1e3'\nmjlab: {python: '08'}\nstorage: '.5e3'", ["task='147e6'"]),
        (searched(f"{SCHEDULE}, gamma: {{choice: [0.9, 1], when: {{schedule: fixed}}}}"), ["search.trials=1e2"]),
        (searched("env.x: {choice: ['1e-3', 1e-3, true, 'true', 'null']}"), ["resources.gpus=0"]),
        (searched("num_envs: {log_uniform: [16, 4096]}, env.y: {int_uniform: [-1, 2]}"), ["budget.max=147e6"]),
        ("", ["search.fixed.env.rewards.upright.weight=2", "search.parameters.agent.x={uniform: [0, 1.5]}"]),
    ],
)
def test_a_spec_written_out_is_the_same_spec(text, overrides):
    loaded = load(text, *overrides)
    Path("again.yaml").write_text(loaded.to_yaml())
    again = spec.load(Path("again.yaml"))
    assert again == loaded
    assert again.to_yaml() == loaded.to_yaml()
    assert again.space == loaded.space


SHIPPED = Path(spec.__file__).parent / "search_spaces"


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_search_space_is_found_from_any_folder(path):
    loaded = spec.load(Path("search_spaces", path.name))
    assert loaded == spec.load(path)
    assert list(loaded.space) == ["schedule", "learning_rate", "desired_kl", "entropy_coef", "num_envs"]


def test_a_search_space_in_the_working_folder_comes_before_the_shipped_one():
    Path("search_spaces").mkdir()
    Path("search_spaces/rough.yaml").write_text("\n".join(NEEDED.values()))
    assert spec.load(Path("search_spaces/rough.yaml")).task == "flat"


def test_a_file_that_is_nowhere_is_named_as_it_was_asked_for():
    for name in ("search_spaces/no.yaml", "rough.yaml", "x" * 300):
        with pytest.raises(BadInput, match=f"^{re.escape(name)}"):
            spec.load(Path(name))


def test_flags_rule_over_set_and_set_over_the_file():
    loaded = load("name: a\nsimulator: mjlab", "name=b", "storage=s", name="c", simulator="fake")
    assert (loaded.name, loaded.storage, loaded.simulator) == ("c", "s", "fake")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("search.trials=1e1", 10),
        ("search.fixed.gamma=.5", 0.5),
        ("search.fixed.env.rewards.upright.weight=2", 2),
        ("search.fixed.agent.class_name=a=b", "a=b"),
        ("search.fixed.env.flag='true'", "true"),
    ],
)
def test_set_takes_values_as_the_file_does(override, value):
    key = override.partition("=")[0].removeprefix("search.").removeprefix("fixed.")
    loaded = load(searched("lam: {uniform: [0.9, 0.99]}"), override).search
    found = loaded.trials if key == "trials" else loaded.fixed[key]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "rungs"),
    [
        ("budget: {unit: train_seconds, max: 1800}", [180, 540]),  # and not 1620: 180 before the end
        ("budget: {max: 1800}\nearly_stopping: {scheduler: none}", []),
        ("budget: {max: 3}\nearly_stopping: {grace: 0.1, reduction_factor: 10}", [1]),  # no rung before an iteration
        ("budget: {max: 1000}\nearly_stopping: {grace: 0.001, reduction_factor: 10}", [1, 10, 100]),
        ("early_stopping: {grace: 1}", []),
        ("early_stopping: {grace: 0.34}", []),
        ("early_stopping: {grace: 0.33}", [4]),
        ("budget: {unit: train_seconds, max: 10}\nearly_stopping: {grace: 0.33}", [4]),
    ],
)
def test_rungs_leave_a_factor_to_the_end(text, rungs):
    assert load(text).rungs() == pytest.approx(rungs)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-6, 1), st.floats(1.1, 1e300))
def test_rungs_are_few_and_rise(grace, factor):
    rungs = (
        load("budget: {unit: train_seconds, max: 10}")
        .model_copy(update={"early_stopping": spec.EarlyStoppingSpec(grace=grace, reduction_factor=factor)})
        .rungs()
    )
    assert len(rungs) < 150
    assert rungs == sorted(set(rungs))
    assert all(0 < rung < 10 and rung - 1 <= 10 / factor for rung in rungs), "rounded up, and before the end"


@pytest.mark.parametrize(
    ("text", "parameters"),
    [("", {}), ("baseline: true", {}), ("baseline: false", None), ("baseline: {num_envs: 8}", {"num_envs": 8})],
)
def test_the_baseline_may_change_the_defaults_or_be_left_out(text, parameters):
    assert load(text).baseline == parameters


@pytest.mark.parametrize(
    ("parameter", "dimension"),
    [
        ("gamma: {uniform: [0, 1]}", Dimension(Range(0.0, 1.0), {})),
        ("learning_rate: {log_uniform: [1e-4, 1]}", Dimension(Range(1e-4, 1.0, log=True), {})),
        ("num_envs: {int_uniform: [16, 64]}", Dimension(Range(16.0, 64.0, whole=True), {})),
        ("num_envs: {log_uniform: [16, 64]}", Dimension(Range(16.0, 64.0, log=True, whole=True), {})),
        ("env.x: {int_uniform: [1, 3]}", Dimension(Range(1.0, 3.0, whole=True), {})),
        ("env.x: {uniform: [1, 3]}", Dimension(Range(1.0, 3.0), {})),
        ("num_envs: {choice: [1e2, 50]}", Dimension(Choice((100, 50)), {})),
        ("gamma: {choice: [1, 0.9]}", Dimension(Choice((1.0, 0.9)), {})),
    ],
)
def test_parameters_are_drawn_in_their_own_type(parameter, dimension):
    (found,) = load(searched(parameter)).space.values()
    assert repr(found) == repr(dimension)


def test_a_condition_takes_one_value_or_several():
    space = load(
        searched(
            f"{SCHEDULE}, gamma: {{uniform: [0, 1], when: {{schedule: fixed}}}}, "
            "lam: {uniform: [0, 1], when: {schedule: [fixed, adaptive]}}"
        )
    ).space
    assert space["gamma"].when == {"schedule": ("fixed",)}
    assert space["lam"].when == {"schedule": ("fixed", "adaptive")}


def test_the_interpreter_is_that_of_the_named_simulator():
    text = "mjlab: {python: /venv/bin/python}"
    assert load(text).of_simulator("mjlab").python == "/venv/bin/python"
    assert load(text).of_simulator("isaaclab").python is None
    assert load(text).of_simulator("fake").python is None


def test_what_launches_isaac_lab_is_its_section_without_the_interpreter():
    assert load("isaaclab: {python: ~/isaaclab.sh -p, physics: newton}").of_simulator("isaaclab").launch == {
        "physics": "newton"
    }
    assert load("").of_simulator("mjlab").launch == {}


TOP = (
    "known: name, task, simulator, search, baseline, budget, early_stopping, resources, final, isaaclab, mjlab, "
    "tracking, storage"
)
RAW = "(or a raw path: env.<path>, agent.<path>)"
ONE_OF = "needs one of choice, uniform, log_uniform, int_uniform"
SHARE = "expected 'auto', 0, 1 or a share of one (0.25: four trials to a GPU)"
NO_KEY = "a key would come into the sweep's files: give it in the environment"
FOLDER = "cannot be a folder name: at most 100 letters, digits, . _ -, and the first no . or -"

IN_THE_FILE = [
    # the final stage
    ("final: {envs: 50}", "sweep.yaml:1: final.envs: the exam has 12 commands, so envs are a multiple of that, not 50"),
    ("final: {envs: 0}", "sweep.yaml:1: final.envs: the exam has 12 commands, so envs are a multiple of that, not 0"),
    (
        "final: {retrain_seeds: 3}",
        "sweep.yaml:1: final.retrain_seeds: fewer than 4 trainings of each say nothing of their parameters "
        "(0: none are trained again)",
    ),
    (
        "baseline: false\nfinal: {retrain_seeds: 5}",
        "sweep.yaml:2: final.retrain_seeds: there is no baseline to compare with (baseline: false)",
    ),
    # keys
    ("serach: {}", "sweep.yaml:1: serach: unknown key; did you mean 'search'?"),
    ("zzz: 1", f"sweep.yaml:1: zzz: unknown key; {TOP}"),
    ("budget:\n  max: 10\n  units: env_steps", "sweep.yaml:3: budget.units: unknown key; did you mean 'unit'?"),
    ("resources: {gpu: 1}", "sweep.yaml:1: resources.gpu: unknown key; did you mean 'gpus'?"),
    (
        "early_stopping: {schedular: asha}",
        "sweep.yaml:1: early_stopping.schedular: unknown key; did you mean 'scheduler'?",
    ),
    ("mjlab: {pyhton: x}", "sweep.yaml:1: mjlab.pyhton: unknown key; did you mean 'python'?"),
    ("search: {trails: 4}", "sweep.yaml:1: search.trails: unknown key; did you mean 'trials'?"),
    (
        "search:\n  trials: 4\n  parameters:\n    gamma:\n      unifrom: [0, 1]",
        "sweep.yaml:5: search.parameters.gamma.unifrom: unknown key; did you mean 'uniform'?",
    ),
    ("search: {trials: 4}", "sweep.yaml:1: search.parameters: is missing"),
    ("budget: {}", "sweep.yaml:1: budget.max: is missing"),
    ("baseline: true\nname: a\nbaseline: false", "sweep.yaml:3: baseline stands here again, after line 1"),
    # types
    ("task: 3", "sweep.yaml:1: task: expected text, not 3 (in quotes it is text)"),
    ("task: ''", "sweep.yaml:1: task: expected text, not ''"),
    ("task:", "sweep.yaml:1: task: expected text, not null"),
    ("name: [a]", 'sweep.yaml:1: name: expected text, not ["a"]'),
    ("search: [1]", "sweep.yaml:1: search: expected a mapping of keys to values, not [1]"),
    ("early_stopping:", "sweep.yaml:1: early_stopping: expected a mapping of keys to values, not null"),
    ("early_stopping: {window: true}", "sweep.yaml:1: early_stopping.window: expected a whole number, not true"),
    ("early_stopping: {window: 2.5}", "sweep.yaml:1: early_stopping.window: expected a whole number, not 2.5"),
    ("early_stopping: {window: .nan}", "sweep.yaml:1: early_stopping.window: expected a finite number, not NaN"),
    (
        "early_stopping: {scheduler: null}",
        "sweep.yaml:1: early_stopping.scheduler: expected 'asha' or 'none', not null",
    ),
    ("early_stopping: {mode: [max]}", "sweep.yaml:1: early_stopping.mode: expected 'max' or 'min', not [\"max\"]"),
    ("resources: {cpus: '4'}", "sweep.yaml:1: resources.cpus: expected a whole number, not '4'"),
    ("resources: {concurrent: many}", "sweep.yaml:1: resources.concurrent: expected a whole number, not 'many'"),
    ("resources: {concurrent: 0}", "sweep.yaml:1: resources.concurrent: must be at least 1, not 0"),
    ("resources: {gpus: true}", f"sweep.yaml:1: resources.gpus: {SHARE}, not true"),
    ("resources: {gpus: 2}", f"sweep.yaml:1: resources.gpus: {SHARE}, not 2"),
    ("resources: {gpus: -0.5}", f"sweep.yaml:1: resources.gpus: {SHARE}, not -0.5"),
    ("resources: {gpus: many}", f"sweep.yaml:1: resources.gpus: {SHARE}, not 'many'"),
    ("resources: {reuse_workers: 'no'}", "sweep.yaml:1: resources.reuse_workers: expected true or false, not 'no'"),
    (
        "baseline: maybe",
        "sweep.yaml:1: baseline: expected true, false or a mapping of parameters to values, not 'maybe'",
    ),
    ("baseline: 1", "sweep.yaml:1: baseline: expected true, false or a mapping of parameters to values, not 1"),
    ("baseline: {gamma: [1]}", "sweep.yaml:1: baseline.gamma: expected a number, text, true or false, not [1]"),
    (
        "baseline:\n  env.x[0]: null",
        "sweep.yaml:2: baseline.env.x[0]: expected a number, text, true or false, not null",
    ),
    # numbers
    ("budget: {max: '64'}", "sweep.yaml:1: budget.max: expected a number, not '64'"),
    ("budget: {max: 0x10}", "sweep.yaml:1: budget.max: expected a number, not '0x10'"),
    ("budget: {max: .nan}", "sweep.yaml:1: budget.max: expected a finite number, not NaN"),
    ("budget: {max: 1e999}", "sweep.yaml:1: budget.max: expected a finite number, not Infinity"),
    ("budget: {max: -1}", "sweep.yaml:1: budget.max: must be above 0, not -1"),
    ("budget: {max: 1.5}", "sweep.yaml:1: budget.max: iterations are whole numbers, not 1.5"),
    ("budget: {max: 1.5, unit: env_steps}", "sweep.yaml:1: budget.max: env_steps are whole numbers, not 1.5"),
    (
        "budget: {max: 1, unit: hours}",
        "sweep.yaml:1: budget.unit: expected 'iterations', 'env_steps' or 'train_seconds', not 'hours'",
    ),
    (
        "early_stopping: {grace: 180}",
        "sweep.yaml:1: early_stopping.grace: is the part of budget.max before the first stop, so at most 1, not 180",
    ),
    ("early_stopping: {grace: 0}", "sweep.yaml:1: early_stopping.grace: must be at least 1e-06, not 0"),
    (
        "early_stopping: {reduction_factor: 1}",
        "sweep.yaml:1: early_stopping.reduction_factor: must be at least 1.1, not 1",
    ),
    ("search: {trials: 0, parameters: {}}", "sweep.yaml:1: search.trials: must be at least 1, not 0"),
    (
        "search: {trials: 1, seed: 20261122133000, parameters: {}}",
        "sweep.yaml:1: search.seed: must be below 4294967296, not 20261122133000",
    ),
    # names and places
    ("name: a/b", f"sweep.yaml:1: name: 'a/b' {FOLDER}"),
    ("name: .a", f"sweep.yaml:1: name: '.a' {FOLDER}"),
    ("name: ..", f"sweep.yaml:1: name: '..' {FOLDER}"),
    ("simulator: mjlabb", "sweep.yaml:1: simulator: unknown simulator 'mjlabb'; did you mean 'mjlab'?"),
    ("simulator: search", "sweep.yaml:1: simulator: unknown simulator 'search'; known: auto, mjlab, isaaclab, fake"),
    (
        "early_stopping: {metric: mean_rewrd}",
        "sweep.yaml:1: early_stopping.metric: 'mean_rewrd' is neither a column of logs.csv nor a tag such as "
        "Episode_Reward/upright; did you mean 'mean_reward'?",
    ),
    (
        "storage: ftp://b/x",
        "sweep.yaml:1: storage: expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not 'ftp://b/x'",
    ),
    (
        "storage: s3:///x",
        "sweep.yaml:1: storage: expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not 's3:///x'",
    ),
    ("storage: s3://key:word@b/x", f"sweep.yaml:1: storage: {NO_KEY}"),
    ("storage: s3://anonymous@b/x", f"sweep.yaml:1: storage: {NO_KEY}"),
    ("storage: gs://anonymous:word@b/x", f"sweep.yaml:1: storage: {NO_KEY}"),
    (
        "storage: gs://anonymous@/x",
        "sweep.yaml:1: storage: expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not 'gs://anonymous@/x'",
    ),
    ("storage: ~nobody-here/x", "sweep.yaml:1: storage: ~nobody-here/x starts with the home folder of an unknown user"),
    ("storage: " + "x" * 300, f"sweep.yaml:1: storage: {'x' * 300} cannot be used: File name too long"),
    # what is searched
    (searched(""), "sweep.yaml:1: search.parameters: nothing is searched: name at least one parameter"),
    (searched("gama: {}"), f"sweep.yaml:1: search.parameters.gama: unknown parameter; did you mean 'gamma'? {RAW}"),
    (searched("env.: {}"), "sweep.yaml:1: search.parameters.env.: is no path: a part between its dots is empty"),
    (searched("gamma: 0.9"), "sweep.yaml:1: search.parameters.gamma: expected a mapping of keys to values, not 0.9"),
    (searched("gamma: {}"), f"sweep.yaml:1: search.parameters.gamma: {ONE_OF}"),
    (
        searched("gamma: {choice: [0.9], uniform: []}"),
        f"sweep.yaml:1: search.parameters.gamma: {ONE_OF}; choice and uniform exclude each other",
    ),
    (
        searched("gamma: {choice: []}"),
        "sweep.yaml:1: search.parameters.gamma.choice: a choice needs at least one value",
    ),
    (searched("gamma: {choice: 0.9}"), "sweep.yaml:1: search.parameters.gamma.choice: expected a list, not 0.9"),
    (
        searched("gamma: {choice: {a: 1}}"),
        'sweep.yaml:1: search.parameters.gamma.choice: expected a list, not {"a": 1}',
    ),
    (searched("gamma: {choice: [1, 0.9, 1.0]}"), "sweep.yaml:1: search.parameters.gamma.choice: 1.0 stands twice"),
    (searched("env.x: {choice: [a, b, a]}"), "sweep.yaml:1: search.parameters.env.x.choice: 'a' stands twice"),
    (
        searched("schedule: {choice: [adaptive, fixt]}"),
        "sweep.yaml:1: search.parameters.schedule.choice.1: expected 'adaptive' or 'fixed', not 'fixt'",
    ),
    (
        searched("schedule: {uniform: [1, 2]}"),
        "sweep.yaml:1: search.parameters.schedule.uniform.0: expected 'adaptive' or 'fixed', not 1",
    ),
    (
        searched("num_envs: {choice: [16, true]}"),
        "sweep.yaml:1: search.parameters.num_envs.choice.1: "
        "expected a number (environments simulated side by side), not true",
    ),
    (
        "search:\n  trials: 4\n  parameters:\n    num_envs:\n      choice:\n        - 16\n        - 16.5",
        "sweep.yaml:7: search.parameters.num_envs.choice.1: "
        "expected a whole number (environments simulated side by side), not 16.5",
    ),
    (
        searched("gamma: {uniform: [0.9]}"),
        "sweep.yaml:1: search.parameters.gamma.uniform: a range is [low, high], not [0.9]",
    ),
    (
        searched("gamma: {uniform: [0.9, 0.95, 1]}"),
        "sweep.yaml:1: search.parameters.gamma.uniform: a range is [low, high], not [0.9, 0.95, 1.0]",
    ),
    (
        searched("gamma: {uniform: [0.99, 0.9]}"),
        "sweep.yaml:1: search.parameters.gamma.uniform: low must be below high, not [0.99, 0.9]",
    ),
    (
        searched("num_envs: {int_uniform: [8, 8]}"),
        "sweep.yaml:1: search.parameters.num_envs.int_uniform: low must be below high, not [8, 8]",
    ),
    (
        searched("num_envs: {int_uniform: [1, 2.5]}"),
        "sweep.yaml:1: search.parameters.num_envs.int_uniform.1: expected a whole number, not 2.5",
    ),
    (
        searched("gamma: {uniform: [0.9, '0.99']}"),
        "sweep.yaml:1: search.parameters.gamma.uniform.1: expected a number, not '0.99'",
    ),
    (
        searched("gamma: {uniform: [0.9, .inf]}"),
        "sweep.yaml:1: search.parameters.gamma.uniform.1: expected a finite number, not Infinity",
    ),
    (
        searched("gamma: {uniform: [0.9, 1.5]}"),
        "sweep.yaml:1: search.parameters.gamma.uniform.1: must be at least 0 and at most 1, not 1.5",
    ),
    (
        searched("learning_rate: {log_uniform: [0, 1]}"),
        "sweep.yaml:1: search.parameters.learning_rate.log_uniform.0: must be above 0, not 0",
    ),
    (
        searched("env.x: {log_uniform: [0, 1]}"),
        "sweep.yaml:1: search.parameters.env.x.log_uniform: a logarithmic range starts above 0, not at 0",
    ),
    # fixed
    (
        "search: {trials: 4, parameters: {gamma: {uniform: [0, 1]}}, fixed: {gamma: 1}}",
        "sweep.yaml:1: search.parameters.gamma: is both searched and fixed (search.fixed)",
    ),
    (
        "search: {trials: 4, parameters: {}, fixed: {learning_rat: 1}}",
        f"sweep.yaml:1: search.fixed.learning_rat: unknown parameter; did you mean 'learning_rate'? {RAW}",
    ),
    (
        "search: {trials: 4, parameters: {}, fixed: {num_envs: 0}}",
        "sweep.yaml:1: search.fixed.num_envs: must be at least 1, not 0",
    ),
    (
        "baseline:\n  gamma: 0.9\n  lam: '0.9'",
        "sweep.yaml:3: baseline.lam: expected a number (lambda of generalized advantage estimation), not '0.9'",
    ),
    # conditions
    (
        searched("gamma: {uniform: [0, 1], when: 3}"),
        "sweep.yaml:1: search.parameters.gamma.when: expected a mapping of keys to values, not 3",
    ),
    (
        searched(f"{SCHEDULE}, gamma: {{uniform: [0, 1], when: {{shedule: fixed}}}}"),
        "sweep.yaml:1: search.parameters.gamma.when.shedule: is no searched parameter; did you mean 'schedule'?",
    ),
    (
        searched("gamma: {uniform: [0, 1], when: {schedule: fixed}}"),
        "sweep.yaml:1: search.parameters.gamma.when.schedule: is no searched parameter",
    ),
    (
        searched("lam: {uniform: [0, 1]}, gamma: {uniform: [0, 1], when: {lam: 1}}"),
        "sweep.yaml:1: search.parameters.gamma.when.lam: only a choice can be a condition, and lam is a range",
    ),
    (
        searched("gamma: {choice: [0, 1], when: {gamma: 1}}"),
        "sweep.yaml:1: search.parameters.gamma.when.gamma: a parameter cannot be its own condition",
    ),
    (
        searched(f"{SCHEDULE}, gamma: {{uniform: [0, 1], when: {{schedule: [fixed, fixt]}}}}"),
        "sweep.yaml:1: search.parameters.gamma.when.schedule: "
        "'fixt' is not among the choices of schedule: 'adaptive', 'fixed'",
    ),
    (
        searched(f"{SCHEDULE}, gamma: {{uniform: [0, 1], when: {{schedule: []}}}}"),
        "sweep.yaml:1: search.parameters.gamma.when.schedule: names no value, so that the parameter would never exist",
    ),
    (
        searched("lam: {choice: [0, 1], when: {gamma: 1}}, gamma: {choice: [0, 1], when: {lam: 1}}"),
        "sweep.yaml:1: search.parameters: conditions go round in a circle: lam -> gamma -> lam",
    ),
]


@pytest.mark.parametrize(("text", "message"), IN_THE_FILE)
def test_what_is_wrong_in_the_file_is_told_with_line_and_path(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials", "--set takes dotted.path=value, not 'search.trials'"),
        ("=3", "--set takes dotted.path=value, not '=3'"),
        ("search.trials=0", "--set: search.trials: must be at least 1, not 0"),
        ("search.trials='8'", "--set: search.trials: expected a whole number, not '8'"),
        ("search.trails=8", "--set: search.trails: unknown key; did you mean 'trials'?"),
        ("serach.trials=8", "--set: serach: unknown key; did you mean 'search'?"),
        ("a..b=8", f"--set: a: unknown key; {TOP}"),
        ("task.x=1", "--set task.x=1: task is 'flat', not a section: nothing can be set in it"),
        ("name=2026", "--set: name: expected text, not 2026 (in quotes it is text)"),
        ("budget=10", "--set: budget: expected a mapping of keys to values, not 10"),
        ("search.fixed.env.=2", "--set: search.fixed.env.: is no path: a part between its dots is empty"),
        ("search.fixed.gama=2", f"--set: search.fixed.gama: unknown parameter; did you mean 'gamma'? {RAW}"),
        (
            "search.parameters.gamma.uniform=[0.99, 0.9]",
            "--set: search.parameters.gamma.uniform: low must be below high, not [0.99, 0.9]",
        ),
        (
            "search.parameters.gamma.uniform=[0.9",
            "--set search.parameters.gamma.uniform=[0.9: not YAML: "
            "while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        ("search.fixed.env.x=!!python/name:os.system", None),
    ],
)
def test_what_is_wrong_in_a_flag_is_told_as_the_flags(override, message):
    message = message or f"--set {override}: tags are not supported, this has !!python/name:os.system"
    assert refusal("", override) == message


def test_what_the_flags_left_alone_keeps_its_line():
    assert refusal("search:\n  trials: 0\n  parameters: {}", "search.seed=1").startswith("sweep.yaml:2: search.trials:")


def test_a_flag_of_its_own_is_named():
    assert refusal("name: a", name="a/b") == f"--name: name: 'a/b' {FOLDER}"


def test_a_file_whose_own_name_cannot_be_the_sweeps_is_told_so():
    Path("my sweep.yaml").write_text("\n".join(NEEDED.values()))
    with pytest.raises(BadInput, match=r"^my sweep\.yaml: name: 'my sweep' cannot be a folder name"):
        spec.load(Path("my sweep.yaml"))


def test_bad_input_is_one_line_and_exit_code_2(capsys):
    Path("sweep.yaml").write_text("task: flat\ntask: rough\n")
    assert cli.main(["validate", "sweep.yaml"]) == 2
    assert capsys.readouterr() == ("", "error: sweep.yaml:2: task stands here again, after line 1\n")


GOOD = """\
name: good
task: flat
search:
  trials: 4
  parameters:
    schedule: {choice: [adaptive, fixed]}
    learning_rate: {log_uniform: [1.0e-4, 3e-3], when: {schedule: fixed}}
    num_envs: {int_uniform: [16, 64]}
    env.a.b: {uniform: [-1, 1]}
  fixed: {gamma: 0.9}
baseline: {num_envs: 32}
budget: {unit: env_steps, max: 4608}
early_stopping: {window: 5, grace: 0.333, reduction_factor: 2}
resources: {gpus: auto, concurrent: null}
storage: runs
"""


def read_or_refused(*overrides: str) -> None:
    """Whatever ``sweep.yaml`` has: it is refused in one printable line, or it is a spec that can be used."""
    try:
        loaded = spec.load(Path("sweep.yaml"), overrides)
    except BadInput as refused:
        assert "\n" not in str(refused) or any("\n" in override for override in overrides)
        return
    assert loaded.rungs() == sorted(loaded.rungs())
    assert set(loaded.space) == set(loaded.search.parameters)
    assert loaded.folder.is_absolute()
    Path("again.yaml").write_text(loaded.to_yaml(), encoding="utf-8")
    assert spec.load(Path("again.yaml")) == loaded


def test_the_good_file_is_read():
    Path("sweep.yaml").write_text(GOOD)
    assert spec.load(Path("sweep.yaml")).name == "good"
    read_or_refused()


PIECES = st.sampled_from(
    [
        *(
            "\t",
            "\n",
            "\n  ",
            "\n---\n",
            ": ",
            ", ",
            "- ",
            "? ",
            "&a ",
            "*a",
            "!!python/x ",
            "!",
            "<<: ",
            "#",
            "%",
            "\\",
        ),
        *("[", "]", "{", "}", "|", ">", "'", '"', "''", "@", "`", ".", "/", "env.", "agent.", '"\\UFFFFFFFF"', '"\\0"'),
        *("null", "~", "true", ".nan", "1e999", "-1", "0", "0x1", "e5", "1" * 400, "\ufeff", "\x85", "\u2028", "\x00"),
    ]
)
DAMAGES = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), PIECES | st.text(max_size=4)), min_size=1, max_size=4
)


@settings(max_examples=200, deadline=None)
@given(DAMAGES)
def test_a_damaged_file_is_read_or_refused(damages):
    text = GOOD
    for start, length, piece in damages:
        text = text[:start] + piece + text[start + length :]
    Path("sweep.yaml").write_bytes(text.encode(errors="surrogatepass"))
    read_or_refused()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_a_random_file_is_refused(content):
    Path("sweep.yaml").write_bytes(content)
    with contextlib.suppress(BadInput):
        spec.load(Path("sweep.yaml"))
        raise AssertionError(f"read: {content}")


SECTIONS = yaml_file.scalar(GOOD)
PATHS = [
    *((key,) for key in SECTIONS),
    *((key, inner) for key, value in SECTIONS.items() if isinstance(value, dict) for inner in value),
    *(("search", "parameters", name) for name in SECTIONS["search"]["parameters"]),
    ("search", "parameters", "learning_rate", "when"),
    ("search", "parameters", "learning_rate", "when", "schedule"),
    ("search", "parameters", "learning_rate", "log_uniform"),
    ("search", "parameters", "schedule", "choice"),
]
KEYS = st.sampled_from([*(path[-1] for path in PATHS), *spec.DISTRIBUTIONS, "gamma", "agent.x"]) | st.text(max_size=4)
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.floats()
    | st.sampled_from(["fixed", "adaptive", "auto", "none", "max", "1e3", "~x", "a/b", "1e999"])
    | st.text(max_size=4),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(KEYS, children, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), ODD), min_size=1, max_size=3))
def test_odd_values_anywhere_are_read_or_refused(changes):
    document = yaml_file.Document("", yaml_file.scalar(GOOD))
    for path, value in changes:
        with contextlib.suppress(ValueError):
            document.put(path, value, "")
    Path("sweep.yaml").write_text(yaml_file.dump(document.data), encoding="utf-8")
    read_or_refused()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(max_size=8)
        | st.tuples(st.sampled_from(PATHS).map(".".join), st.text(max_size=8) | PIECES).map("=".join)
        | st.tuples(st.sampled_from(PATHS).map(".".join), PIECES, st.text(max_size=4)).map("".join),
        max_size=3,
    )
)
@example(["search.fixed.env.x={a: *a}"])
def test_any_set_flag_is_taken_or_refused(overrides):
    Path("sweep.yaml").write_text(GOOD)
    read_or_refused(*overrides)
