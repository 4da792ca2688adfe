"""The contract of ``simulators/base.py``, kept by every simulator."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner

from go1_sweep import simulators
from go1_sweep.parameters import PARAMETERS
from go1_sweep.simulators.base import ConfigError, Simulator, TaskConfig, set_entry
from go1_sweep.trial.progress import ScalarWriter
from go1_sweep.trial.runner import runner_of

ISAACLAB_IDS = {
    "Isaac-Velocity-Rough-Unitree-Go1-v0": "rough",
    "Isaac-Velocity-Flat-Unitree-Go1-v0": "flat",
}
ENVS = 4


@pytest.fixture(scope="module", params=["mjlab", "fake"])  # Isaac Lab: test_isaaclab2.py, in its own interpreter
def simulator(request) -> Simulator:
    pytest.importorskip(simulators.SIMULATORS[request.param].requires)
    return simulators.load(request.param)


@pytest.fixture
def config(simulator: Simulator) -> TaskConfig:
    config = simulator.load_config(simulator.resolve("flat"))
    simulator.apply(config, {"num_envs": ENVS, "num_steps_per_env": 4, "num_mini_batches": 1})
    return config


def value_at(config: TaskConfig, path: str) -> object:
    entry: object = config
    for part in path.split("."):
        entry = entry[part] if isinstance(entry, dict) else getattr(entry, part)
    return entry


def test_flat_rough_and_isaac_labs_ids_are_understood(simulator):
    assert simulator.resolve("flat") in simulator.tasks()
    assert simulator.resolve("rough") != simulator.resolve("flat")
    for foreign, short in ISAACLAB_IDS.items():
        assert simulator.resolve(foreign) == simulator.resolve(short)


def test_a_registered_id_stands_for_itself(simulator):
    for task_id in simulator.tasks():
        assert simulator.resolve(task_id) == task_id


def test_an_unknown_task_is_refused_with_what_there_is(simulator):
    with pytest.raises(ConfigError, match=r"no task 'flta' .did you mean 'flat'.") as error:
        simulator.resolve("flta")
    assert all(task_id in str(error.value) for task_id in simulator.tasks())


def after_a_step_on_rough_ground(simulator: Simulator, seed: int = 1, njmax: int | None = None) -> torch.Tensor:
    config = simulator.load_config(simulator.resolve("rough"))
    simulator.apply(config, {"num_envs": ENVS} | ({"env.sim.njmax": njmax} if njmax else {}))
    env = simulator.make_env(config, seed, device="cpu")
    observations, *_ = env.step(torch.ones(ENVS, env.num_actions))
    simulator.close(env)
    return observations["actor"]


def test_on_rough_ground_the_trees_grow_once_and_the_robots_see_what_mjlab_shows_them(monkeypatch):
    pytest.importorskip("mjlab")
    import mujoco_warp

    from go1_sweep.simulators import mjlab

    make, made = mujoco_warp.create_render_context, []
    monkeypatch.setattr(mujoco_warp, "create_render_context", lambda **given: made.append(given) or make(**given))
    once = after_a_step_on_rough_ground(simulators.load("mjlab"))
    assert len(made) == 1
    with monkeypatch.context() as as_mjlab_does:
        as_mjlab_does.setattr(mjlab, "render_context_made_once", contextlib.nullcontext)
        assert torch.equal(after_a_step_on_rough_ground(simulators.load("mjlab")), once)
    assert len(made) == 3, "mjlab makes it once: render_context_made_once is not needed any more"


def test_the_next_env_on_rough_ground_makes_only_height_fields_that_are_new_and_sees_the_same(monkeypatch):
    pytest.importorskip("mjlab")
    from go1_sweep.simulators import render_context

    def triangulate(*given: Any) -> Any:
        made.append(given)
        return original(*given)

    original, made = render_context.triangulate, []
    monkeypatch.setattr(render_context, "triangulate", triangulate)
    simulator = simulators.load("mjlab")
    seen = {seed: after_a_step_on_rough_ground(simulator, seed) for seed in (11, 12)}
    made.clear()
    after_a_step_on_rough_ground(simulator, 13)
    assert len(made) == 10, "of 40"
    assert not torch.equal(seen[11], seen[12])
    assert all(torch.equal(after_a_step_on_rough_ground(simulator, seed), each) for seed, each in seen.items())


def test_an_env_records_its_graphs_once_with_kernels_that_are_there_and_sees_the_same(monkeypatch):
    """Warp records graphs on a CPU as well, where mjlab takes none."""
    pytest.importorskip("mjlab")
    import warp
    from mjlab.sim import Simulation
    from mujoco_warp._src import collision_convex

    from go1_sweep.simulators import mjlab, warp_kernels

    def load_together(launch: Callable[[], object]) -> None:
        warp_kernels.load_together(lambda: said.append(launch()))

    def as_on_a_gpu(kernel: Any, device: Any) -> tuple[int, int]:
        assert kernel.module.load(device, 1), "asked for the occupancy of a kernel that is not there"
        return 1, 1

    def note_and_begin(self: warp.ScopedCapture) -> warp.ScopedCapture:
        recorded.append(self)
        return begin(self)

    begin = warp.ScopedCapture.__enter__
    without, said, recorded = after_a_step_on_rough_ground(simulators.load("mjlab")), [], []
    monkeypatch.setattr(warp_kernels, "MOST_COMPILERS", 1)  # Warp's compiler for CPUs is not made for more
    monkeypatch.setattr(mjlab, "load_together", load_together)
    monkeypatch.setattr(Simulation, "_should_use_cuda_graph", lambda _: True)
    monkeypatch.setattr(warp.ScopedCapture, "__enter__", note_and_begin)
    monkeypatch.setattr(warp, "get_suggested_block_size", as_on_a_gpu)
    monkeypatch.setattr(
        collision_convex,
        "_ccd_grid_size",
        lambda kernel, contacts, device: contacts * min(warp.get_suggested_block_size(kernel, device)),
    )
    simulator = simulators.load("mjlab")
    assert torch.equal(after_a_step_on_rough_ground(simulator), without)
    assert len(said) == 3, "of three times that mjlab would record an env's graphs, some failed without their kernels"
    recorded.clear()
    assert torch.equal(after_a_step_on_rough_ground(simulator), without)
    assert len(said) == 3, "the second env loads them again"
    assert len(recorded) == 4, "once each: step, forward, reset and sense"
    after_a_step_on_rough_ground(simulator, njmax=500)
    assert len(said) > 3, "other limits take another kernel"


def test_every_parameter_lands_where_its_path_says(simulator, config):
    for name, path in simulator.paths.items():
        parameter = PARAMETERS[name]
        value = parameter.choices[-1] if parameter.choices else parameter.type(1)
        simulator.apply(config, {name: value})
        landed = value_at(config, path)
        assert landed == value
        assert type(landed) is parameter.type


def test_a_blind_policy_sees_what_a_go1_measures_and_its_critic_all():
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    config = simulator.load_config(simulator.resolve("rough"))
    simulator.apply(config, {"blind": False})
    sees, critic = ([*config.env.observations[group].terms] for group in ("actor", "critic"))
    simulator.apply(config, {"blind": True})
    blind, still = ([*config.env.observations[group].terms] for group in ("actor", "critic"))
    assert set(sees) - set(blind) == {"base_lin_vel", "height_scan"} and still == critic
    with pytest.raises(ConfigError, match="observes nothing that a Go1 does not measure"):
        simulator.apply(config, {"blind": True})


def test_the_commands_of_training_are_those_of_the_stage_that_it_came_to():
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    first, later = (
        simulator.command_limits(simulator.load_config(simulator.resolve("flat")), steps) for steps in (0, 5000 * 24)
    )
    assert first == [[-1.0, 1.0], [-1.0, 1.0], [-0.5, 0.5]]
    assert later == [[-1.5, 2.0], [-1.0, 1.0], [-0.7, 0.7]]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", "fast", "takes a number"),
        ("num_envs", 1.5, "takes a whole number"),
        ("num_envs", True, "takes a whole number"),
        ("agent.algorithm.learnin_rate", 1e-3, "did you mean 'learning_rate'"),
        ("agent.algorithm", 1, "no single value"),
        ("env.nothing.like.this", 1, "has no 'nothing'"),
        ("warp_speed", 9, "no parameter 'warp_speed'"),
    ],
)
def test_a_wrong_name_or_type_is_refused(simulator, config, name, value, message):
    with pytest.raises(ConfigError, match=message):
        simulator.apply(config, {name: value})


def test_a_config_is_fresh_each_time(simulator, config):
    simulator.apply(config, {"learning_rate": 0.5})
    again = simulator.load_config(config.task_id)
    assert value_at(again, simulator.paths["learning_rate"]) != 0.5


def test_versions_name_what_a_result_depends_on(simulator):
    versions = simulator.versions()
    assert {"torch", "rsl-rl-lib"} <= set(versions)
    assert all(isinstance(version, str) and version for version in versions.values())


def test_the_env_is_an_rsl_rl_vec_env_with_the_shapes_that_it_promises(simulator, config):
    env = simulator.make_env(config, seed=1, device="cpu")
    try:
        assert isinstance(env, VecEnv)
        assert env.num_envs == ENVS
        observations, rewards, dones, extras = env.step(torch.zeros(ENVS, env.num_actions))
        assert all(group.shape[0] == ENVS for group in observations.values())
        assert rewards.shape == dones.shape == (ENVS,)
        assert extras["time_outs"].shape == (ENVS,)
        assert math.isfinite(float(rewards.sum()))
        assert float(env.max_episode_length) > 1
    finally:
        simulator.close(env)


def test_the_runner_trains_logs_through_the_writer_and_saves_what_it_loads(simulator, config, tmp_path: Path):
    before = dataclasses.asdict(config.agent)
    env = simulator.make_env(config, seed=1, device="cpu")
    try:
        runner = simulator.make_runner(env, config, tmp_path)
        assert isinstance(runner, OnPolicyRunner)
        assert {k: v for k, v in dataclasses.asdict(config.agent).items() if k != "seed"} == {
            k: v for k, v in before.items() if k != "seed"
        }, "the runner may change its copy, not the configuration"
        writer = ScalarWriter(tmp_path, 0)
        runner_of(runner).learn(1, writer, lambda log: log())
        writer.stop()
        assert {"Loss/entropy", "Loss/learning_rate", "Perf/collection_time"} <= set(writer.take())
        assert not list(tmp_path.rglob("*.pt")), "what is saved, and where, is the trial's business"
        simulator.save(runner, tmp_path / "checkpoint.pt")
        content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        assert {"actor_state_dict", "optimizer_state_dict", "iter"} <= set(content)
        other = simulator.make_runner(env, config, tmp_path)
        other.load(str(tmp_path / "checkpoint.pt"))
        trained, loaded = runner.alg.get_policy().state_dict(), other.alg.get_policy().state_dict()
        assert all(torch.equal(trained[name], loaded[name]) for name in trained)
        assert not list(tmp_path.rglob("*.onnx")), "nothing is written beside the checkpoint"
    finally:
        simulator.close(env)


def test_set_entry_takes_an_int_for_a_float_a_list_for_a_tuple_and_reaches_into_lists():
    tree = {"a": {"rate": 1.0, "range": (0, 1)}, "b": [1, 2]}
    set_entry(tree, "a.rate", 2, shown="a.rate")
    set_entry(tree, "a.range", [3, 4], shown="a.range")
    set_entry(tree, "b.1", 5, shown="b.1")
    assert tree == {"a": {"rate": 2.0, "range": (3, 4)}, "b": [1, 5]}


def test_kernels_load_side_by_side_before_their_launch_which_does_nothing(monkeypatch):
    warp = pytest.importorskip("warp")
    from go1_sweep.simulators import warp_kernels

    def add(amount: float) -> Any:
        @warp.kernel(module="unique", enable_backward=False)
        def kernel(values: warp.array(dtype=float)):  # type: ignore[valid-type]
            values[warp.tid()] += amount

        return kernel

    monkeypatch.setattr(warp_kernels, "MOST_COMPILERS", 1)  # Warp's compiler for CPUs is not made for more
    values, kernels = warp.zeros(3, dtype=float, device="cpu"), [add(1.0), add(2.0)]

    def launch() -> None:
        for kernel in kernels:
            blocks, _ = warp.get_suggested_block_size(kernel, "cpu")
            warp.launch(kernel, dim=3 * blocks, inputs=[values], device="cpu")

    warp_kernels.load_together(launch)
    assert values.list() == [0.0, 0.0, 0.0]
    assert all(kernel.module.execs for kernel in kernels)
    launch()
    assert values.list() == [3.0, 3.0, 3.0]


def test_kernels_load_up_to_what_goes_wrong_without_them():
    warp = pytest.importorskip("warp")
    from go1_sweep.simulators import warp_kernels

    @warp.kernel(module="unique", enable_backward=False)
    def kernel(values: warp.array(dtype=float)):  # type: ignore[valid-type]
        values[warp.tid()] = 1.0

    values = warp.zeros(3, dtype=float, device="cpu")

    def launch() -> None:
        warp.launch(kernel, dim=3, inputs=[values], device="cpu")
        assert values.list() == [1.0, 1.0, 1.0]

    warp_kernels.load_together(launch)
    assert kernel.module.execs
    launch()
