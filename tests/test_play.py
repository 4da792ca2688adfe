"""A trained policy played, judged, filmed and exported, in the worker's own functions."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import imageio.v2 as imageio
import numpy as np
import onnxruntime
import pytest
import torch
from tensordict import TensorDict

from go1_sweep import exam, protocol, simulators
from go1_sweep.deploy import Policy
from go1_sweep.paths import PolicyPaths
from go1_sweep.simulators.base import ConfigError, Purpose, Simulator, TaskConfig
from go1_sweep.trial.checkpoints import PolicyError, read_actor, read_checkpoint
from go1_sweep.trial.evaluate import begin_exam, evaluate
from go1_sweep.trial.export import export
from go1_sweep.trial.policy import playing, reset
from go1_sweep.trial.view import view

STEPS = 30
SHORT: dict[str, Any] = {"agent.num_steps_per_env": 4, "num_mini_batches": 1, "num_learning_epochs": 1}


def quiet(done: int, steps: int) -> None:
    """No pulse."""


@pytest.fixture(scope="module", params=["mjlab", "fake"])
def simulator(request) -> Simulator:
    pytest.importorskip(simulators.SIMULATORS[request.param].requires)
    return simulators.load(request.param)


@pytest.fixture(scope="module")
def policy(simulator, tmp_path_factory) -> protocol.Policy:
    """A policy after one PPO iteration, so that no weight and no statistic is at its initial value."""
    folder = tmp_path_factory.mktemp(simulator.name)
    config = simulator.load_config(simulator.resolve("flat"))
    simulator.apply(config, {**SHORT, "num_envs": 4})
    env = simulator.make_env(config, seed=1, device="cpu")
    try:
        runner = simulator.make_runner(env, config, None)
        runner.learn(1)
        simulator.save(runner, folder / "model_1.pt")
    finally:
        simulator.close(env)
    return protocol.Policy(str(folder / "model_1.pt"), "flat", SHORT)


def test_the_play_variant_has_training_length_episodes_and_no_curriculum(simulator):
    task_id = simulator.resolve("flat")
    play, training = simulator.load_config(task_id, "play"), simulator.load_config(task_id)
    lengths = []
    for config in (play, training):
        simulator.apply(config, {"num_envs": 1})
        env = simulator.make_env(config, seed=1, device="cpu")
        lengths.append(int(env.max_episode_length))
        simulator.close(env)
    assert lengths[0] == lengths[1] > 1


def test_what_a_trial_changed_in_the_test_itself_does_not_change_how_it_is_judged():
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    task_id = simulator.resolve("flat")
    changed = {
        "env.rewards.upright.weight": 100.0,
        "env.episode_length_s": 1.0,
        "env.decimation": 8,
        "env.scale_rewards_by_dt": False,
    }
    play, training = simulator.load_config(task_id, "play"), simulator.load_config(task_id)
    for config in (play, training):
        simulator.apply(config, changed)
    assert training.env.rewards["upright"].weight == 100.0
    assert play.env.rewards["upright"].weight == simulator.load_config(task_id).env.rewards["upright"].weight
    assert play.env.episode_length_s == simulator.load_config(task_id).env.episode_length_s
    assert play.env.scale_rewards_by_dt
    simulator.apply(play, {"env.observations.actor.enable_corruption": True})
    assert not play.env.observations["actor"].enable_corruption
    assert play.env.decimation == 8, "the policy's own period stays"


def test_a_command_is_seen_by_the_policy_and_stays(simulator, policy):
    with playing(simulator, policy, "play", num_envs=2, seed=3, device="cpu") as play, torch.inference_mode():
        observations = play.env.get_observations()
        for _ in range(3):
            simulator.set_command(play.env, torch.tensor([0.5, -0.25, 0.125]))
            observations, *_ = play.env.step(play.actor(observations))
        state = simulator.robot_state(play.env)
        assert state.command.tolist() == [[0.5, -0.25, 0.125]] * 2
        assert state.lin_vel.shape == state.ang_vel.shape == (2, 3)
        if simulator.name == "mjlab":
            offset = sum(term.size for term in simulator.interface(play.env, play.config).observations[:-1])
            assert observations["actor"][:, offset:].tolist() == [[0.5, -0.25, 0.125]] * 2


def test_the_interface_counts_what_goes_in_and_comes_out(simulator, policy):
    with playing(simulator, policy, "play", num_envs=2, seed=3, device="cpu") as play:
        interface = simulator.interface(play.env, play.config)
        sizes = sum(term.size for term in interface.observations)
        groups = play.actor.obs_groups
        assert sizes == sum(play.env.get_observations()[group].shape[1] for group in groups)
        assert len(interface.actions) == play.env.num_actions
        assert all(joint.stiffness > 0 and joint.damping > 0 for joint in interface.actions)
        assert simulator.step_seconds(play.env) > 0


def test_the_exam_has_the_noise_and_the_pushes_of_training_and_no_curriculum():
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    examined = simulator.load_config(simulator.resolve("rough"), "exam")
    training = simulator.load_config(simulator.resolve("rough"))
    assert examined.env.observations["actor"].enable_corruption
    assert examined.env.events.keys() == training.env.events.keys() >= {"push_robot"}
    assert (examined.env.curriculum, bool(training.env.curriculum)) == ({}, True)
    assert examined.env.episode_length_s == training.env.episode_length_s
    simulator.apply(examined, {"env.events.push_robot.mode": "reset"})
    assert examined.env.events["push_robot"].mode == "interval", "a trial does not choose how it is judged"


def test_in_the_exam_each_robot_has_its_command_and_its_terrain_from_its_first_step_on():
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    config = simulator.load_config(simulator.resolve("rough"), "exam")
    robots = 2 * len(exam.COMMANDS)
    simulator.apply(config, {"num_envs": robots})
    env = cast(Any, simulator.make_env(config, seed=1, device="cpu"))
    try:
        commands = begin_exam(simulator, env)
        reset(env)
        terrain, data = env.unwrapped.scene.terrain, env.unwrapped.scene["robot"].data
        for _ in range(2):
            simulator.set_command(env, commands)
            said = simulator.robot_state(env).command
            assert torch.allclose(said, torch.tensor([*exam.COMMANDS.values()] * 2))
            env.step(torch.rand(robots, env.num_actions))
            assert terrain.terrain_levels.tolist() == [0, 3, 6, 9] * 3 + [3, 6, 9, 0] * 3
        origins = terrain.terrain_origins[terrain.terrain_levels, terrain.terrain_types][:, :2]
        assert (data.root_link_pos_w[:, :2] - origins).norm(dim=1).max() < 1.0
        assert len(terrain.terrain_types.unique()) == terrain.terrain_origins.shape[1], "all kinds of terrain"
        (mass,) = env.unwrapped.sim.mj_model.body("robot/trunk").subtreemass
        torques, velocities = data.qfrc_actuator[3].tolist(), data.joint_vel[3].tolist()
        power = sum(max(torque * velocity, 0) for torque, velocity in zip(torques, velocities, strict=True))
        assert simulator.robot_state(env).power[3].item() == pytest.approx(power / (mass * 9.81), rel=1e-3)
        assert power > 0
    finally:
        simulator.close(env)


@contextlib.contextmanager
def one_go1(task: str) -> Iterator[tuple[Simulator, Any, TaskConfig]]:
    """One robot of mjlab in the play variant."""
    pytest.importorskip("mjlab")
    simulator = simulators.load("mjlab")
    config = simulator.load_config(simulator.resolve(task), "play")
    simulator.apply(config, {"num_envs": 1})
    env = simulator.make_env(config, seed=1, device="cpu")
    try:
        yield simulator, env, config
    finally:
        simulator.close(env)


def test_mjlabs_action_is_the_joint_target_that_the_interface_says():
    with one_go1("flat") as (simulator, env, config):
        interface = simulator.interface(env, config)
        action = torch.linspace(-1, 1, env.num_actions)[None]
        env.step(action)
        robot = env.unwrapped.scene["robot"]
        targets = dict(zip(robot.joint_names, robot.data.joint_pos_target[0].tolist(), strict=True))
        bias = dict(zip(robot.joint_names, robot.data.encoder_bias[0].tolist(), strict=True))
        for joint, value in zip(interface.actions, action[0].tolist(), strict=True):
            expected = joint.default_position + joint.scale * value - bias[joint.name]
            assert targets[joint.name] == pytest.approx(expected, abs=1e-5)


def test_a_robot_that_follows_policy_json_sees_what_the_policy_sees():
    with one_go1("flat") as (simulator, env, config):
        terms = simulator.interface(env, config).observations
        action = torch.linspace(-1, 1, env.num_actions)[None]
        observations = env.get_observations()
        for _ in range(4):
            observations, *_ = env.step(action)
        robot = env.unwrapped.scene["robot"]
        joints = {name: i for i, name in enumerate(robot.joint_names)}
        w, x, y, z = robot.data.root_link_quat_w[0].tolist()
        by_joint = {
            "joint_pos": robot.data.joint_pos_biased[0],  # what an encoder reads
            "joint_vel": robot.data.joint_vel[0],
            "last_action": action[0],
        }
        measured = {
            "imu_lin_vel": robot.data.root_link_lin_vel_b[0].tolist(),
            "base_ang_vel": robot.data.root_link_ang_vel_b[0].tolist(),
            "projected_gravity": [2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1],
            "command": simulator.robot_state(env).command[0].tolist(),
        }
        seen = []
        for term in terms:
            values = (
                [by_joint[term.name][joints[part]].item() for part in term.parts]
                if term.name in by_joint
                else measured[term.name]
            )
            offset = term.offset or [0.0] * len(values)
            assert len(values) == len(offset) == term.size == len(term.parts)
            assert (term.clip, term.history, term.delay) == (None, 1, [0, 0])
            seen += [term.scale * (value - zero) for value, zero in zip(values, offset, strict=True)]
        difference = torch.tensor(seen) - observations["actor"][0]
        difference[:3] = 0  # the IMU sits beside the base's origin: only its velocity differs
        assert difference.abs().max() < 1e-5
        assert {term.unit for term in terms} == {"m/s", "rad/s", "rad", "", "m/s, m/s, rad/s"}


def test_the_height_scan_of_rough_is_described_point_by_point():
    with one_go1("rough") as (simulator, env, config):
        scan = simulator.interface(env, config).observations[-1]
        assert (scan.name, scan.unit, scan.size, len(scan.parts)) == ("height_scan", "m", 187, 187)
        assert (scan.parts[0], scan.parts[-1]) == ("x=-0.80 y=-0.50", "x=+0.80 y=+0.50")
        assert scan.scale == pytest.approx(1 / 5)


@pytest.fixture
def short_episodes(simulator, monkeypatch):
    """Episodes of ``STEPS`` steps: a whole one takes a minute on a CPU."""
    load_config = simulator.load_config

    def shortened(task_id: str, purpose: Purpose = "train"):
        config = load_config(task_id, purpose)
        if simulator.name == "mjlab":
            config.env.episode_length_s = STEPS * 0.02
        else:
            config.env.episode_steps = STEPS
        return config

    monkeypatch.setattr(simulator, "load_config", shortened)


def recomputed(path: Path, target_scale: float | list[float]) -> list[protocol.Episode]:
    """The episodes, from the recorded steps alone and one robot at a time.

    Args:
        path: of the recorded steps.
        target_scale: how far a number of an action moves its joint's target [rad].
    """
    with np.load(path) as recorded:
        steps = {name: recorded[name] for name in recorded.files}
    episodes = []
    for robot in range(steps["reward"].shape[1]):
        ends = np.flatnonzero(steps["done"][:, robot])
        length = int(ends[0]) + 1 if len(ends) else len(steps["done"])
        command, lin_vel, ang_vel = (steps[name][:length, robot] for name in ("command", "lin_vel", "ang_vel"))
        off = np.linalg.norm(lin_vel[:, :2] - command[:, :2], axis=1)
        turn = ang_vel[:, 2] - command[:, 2]
        moved = np.diff(steps["action"][:length, robot].astype(np.float64), axis=0) * target_scale / 0.02
        episodes.append(
            protocol.Episode(
                total_reward=float(steps["reward"][:length, robot].astype(np.float64).sum()),
                length=length,
                lin_vel_rmse=math.sqrt(np.mean(off.astype(np.float64) ** 2)),
                ang_vel_rmse=math.sqrt(np.mean(turn.astype(np.float64) ** 2)),
                speed=float(np.linalg.norm(lin_vel[:, :2].astype(np.float64), axis=1).mean()),
                power=float(steps["power"][:length, robot].mean()),
                target_rate=math.sqrt(np.mean(moved**2)),
                fell=bool(len(ends) and not steps["time_out"][ends[0], robot]),
                cut_off=not len(ends),
                env=robot,
            )
        )
    return episodes


def assert_same(episodes: list[protocol.Episode], others: list[protocol.Episode]) -> None:
    assert len(episodes) == len(others)
    for one, other in zip(episodes, others, strict=True):
        assert (one.length, one.fell, one.cut_off, one.env) == (other.length, other.fell, other.cut_off, other.env)
        for name in ("total_reward", "lin_vel_rmse", "ang_vel_rmse", "speed", "power", "target_rate"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5, abs=1e-6)


def test_an_evaluation_is_what_its_trajectories_say_and_repeats(simulator, policy, short_episodes, tmp_path):
    request = protocol.Evaluate(policy, 3, 5, 0, str(tmp_path / "steps.npz"), exam_seconds=0)
    first = evaluate(simulator, request, "cpu", quiet)
    assert first.max_length == STEPS
    with playing(simulator, policy, "play", num_envs=1, seed=5, device="cpu") as play:
        scale = [joint.scale for joint in simulator.interface(play.env, play.config).actions]
    assert_same(first.episodes, recomputed(tmp_path / "steps.npz", scale))
    assert evaluate(simulator, request, "cpu", quiet) == first, "one seed on the CPU: the same episodes"
    other = evaluate(simulator, protocol.Evaluate(policy, 3, 6, 0, "", exam_seconds=0), "cpu", quiet)
    assert other.episodes != first.episodes


def test_a_fall_is_a_termination_that_is_no_time_out_and_ends_the_episode_for_good(tmp_path):
    simulator = simulators.load("fake")
    policy = _trained_fake(simulator, tmp_path, {"env.fall_step": 3})
    result = evaluate(
        simulator, protocol.Evaluate(policy, 4, 5, 0, str(tmp_path / "steps.npz"), exam_seconds=0), "cpu", quiet
    )
    assert [(episode.length, episode.fell) for episode in result.episodes] == [(8, False), (3, True)] * 2
    assert result.episodes[1].total_reward == pytest.approx(result.episodes[0].total_reward * 3 / 8)
    assert_same(result.episodes, recomputed(tmp_path / "steps.npz", 0.25))


def _trained_fake(simulator: Simulator, folder: Path, parameters: dict) -> protocol.Policy:
    config = simulator.load_config(simulator.resolve("flat"))
    simulator.apply(config, parameters)
    env = simulator.make_env(config, seed=1, device="cpu")
    simulator.save(simulator.make_runner(env, config, None), folder / "model_0.pt")
    return protocol.Policy(str(folder / "model_0.pt"), "flat", parameters)


@pytest.mark.parametrize("fault", ["nan", "inf"])
def test_a_return_that_is_no_number_is_no_evaluation(fault, tmp_path):
    simulator = simulators.load("fake")
    policy = _trained_fake(simulator, tmp_path, {"env.play_fault": fault})
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(simulator, protocol.Evaluate(policy, 2, 5, 0, "", exam_seconds=0), "cpu", quiet)


def test_steps_are_counted_through_the_ends_of_episodes_and_what_goes_on_at_the_end_is_cut_off(tmp_path):
    simulator = simulators.load("fake")
    policy = _trained_fake(simulator, tmp_path, {"env.fall_step": 3})

    def played(steps: int) -> list[tuple[int, int, bool, bool]]:
        result = evaluate(simulator, protocol.Evaluate(policy, 2, 5, steps, "", exam_seconds=0), "cpu", quiet)
        return [(each.env, each.length, each.fell, each.cut_off) for each in result.episodes]

    assert played(2) == [(0, 2, False, True), (1, 2, False, True)]
    assert played(8) == [(0, 8, False, False), (1, 3, True, False), (1, 3, True, False), (1, 2, False, True)]
    assert played(9) == [
        (0, 8, False, False),
        (0, 1, False, True),
        (1, 3, True, False),
        (1, 3, True, False),
        (1, 3, True, False),
    ]


def test_a_reset_begins_new_episodes_and_gives_observations_as_a_step_does(simulator, policy):
    with playing(simulator, policy, "play", num_envs=2, seed=3, device="cpu") as play, torch.inference_mode():
        observations = play.env.get_observations()
        for _ in range(3):
            observations, *_ = play.env.step(play.actor(observations))
        assert play.env.episode_length_buf.tolist() == [3, 3]
        begun = reset(play.env)
        assert play.env.episode_length_buf.tolist() == [0, 0]
        assert {name: each.shape for name, each in begun.items()} == {
            name: each.shape for name, each in observations.items()
        }


def test_the_viewer_shows_a_policy_for_as_long_as_it_is_told(simulator, policy):
    opened: list[str] = []
    request = protocol.View(policy, 2, 3, steps=2, viewer="browser")
    if simulator.name == "fake":
        with pytest.raises(ConfigError, match="fake has no viewer"):
            view(simulator, request, "cpu", opened.append)
        assert not opened
    else:
        view(simulator, request, "cpu", opened.append)
        assert [address.rpartition(":")[0] for address in opened] == ["http://127.0.0.1"]


def older(content: dict[str, Any], rsl_rl: int) -> dict[str, Any]:
    """The checkpoint as an older rsl_rl would have written it."""
    spread = {"distribution.std_param": "std", "distribution.log_std_param": "log_std"}
    weights: dict[str, torch.Tensor] = content["actor_state_dict"]
    actor = {spread.get(name, name): tensor for name, tensor in weights.items()}
    if rsl_rl == 4:
        return content | {"actor_state_dict": actor}
    model: dict[str, torch.Tensor] = {}
    for owner, weights in (("actor", actor), ("critic", content["critic_state_dict"])):
        old = {"mlp.": f"{owner}.", "obs_normalizer.": f"{owner}_obs_normalizer."}
        for name, tensor in weights.items():
            model[re.sub(r"^(mlp|obs_normalizer)\.", lambda match, old=old: old[match[0]], name)] = tensor
    kept = {name: each for name, each in content.items() if name not in ("actor_state_dict", "critic_state_dict")}
    return kept | {"model_state_dict": model}


@pytest.mark.parametrize("rsl_rl", [3, 4])
def test_a_checkpoint_of_an_older_rsl_rl_is_the_very_same_policy_and_is_exported(simulator, policy, rsl_rl, tmp_path):
    content = torch.load(policy.checkpoint, weights_only=True)
    file = tmp_path / "model_1.pt"
    torch.save(older(content, rsl_rl), file)
    assert ("model_state_dict" in torch.load(file, weights_only=True)) == (rsl_rl == 3)
    old = protocol.Policy(str(file), policy.task, policy.parameters)
    actions = []
    for each in (policy, old):
        with playing(simulator, each, "play", num_envs=2, seed=3, device="cpu") as play, torch.inference_mode():
            actions.append(play.actor(reset(play.env)))
    assert torch.equal(*actions)
    read = read_checkpoint(file)
    assert read.keys() == content.keys()
    assert read["critic_state_dict"].keys() == content["critic_state_dict"].keys()
    (tmp_path / "policy").mkdir()
    export(simulator, protocol.Export(old, str(tmp_path / "policy"), {}, {}), "cpu")
    assert PolicyPaths(tmp_path / "policy").description.exists()


def test_the_optimizer_counts_the_spread_first_as_older_versions_did(simulator, policy):
    with playing(simulator, policy, "play", num_envs=2, seed=3, device="cpu") as play:
        first, *others = (name for name, _ in cast(torch.nn.Module, play.actor).named_parameters())
    assert first.startswith("distribution.")
    assert all(name.startswith("mlp.") for name in others)


def test_exported_files_give_the_checkpoints_actions_for_any_number_of_robots(simulator, policy, tmp_path):
    export(
        simulator,
        protocol.Export(policy, str(tmp_path), {"sweep": "s", "checkpoint": "model_1.pt"}, {"score": 0.9}),
        "cpu",
    )
    paths = PolicyPaths(tmp_path)
    description = json.loads(paths.description.read_text())
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "checkpoint.pt",
        "policy.json",
        "policy.onnx",
        "policy.pt",
        "policy.py",
    ], "one ONNX file, no second one with weights"
    size = sum(term["size"] for term in description["observations"])
    session = onnxruntime.InferenceSession(str(paths.onnx))
    script = torch.jit.load(paths.torchscript)
    with playing(simulator, policy, "play", num_envs=1, seed=3, device="cpu") as play:
        actor = play.actor
    for robots in (1, 7):
        observations = torch.randn(robots, size)
        actions = np.asarray(session.run([description["output"]], {description["input"]: observations.numpy()})[0])
        expected = actor(TensorDict({actor.obs_groups[0]: observations})).detach()  # one group: its whole input
        assert actions.shape == (robots, len(description["actions"]))
        assert np.abs(actions - expected.numpy()).max() < 1e-5
        assert (script(observations) - expected).abs().max() < 1e-5
    assert max(description["differences"][name] for name in ("policy.onnx", "policy.pt")) < 1e-5
    assert description["differences"]["observations"] == 1000
    assert (description["sweep"], description["simulator"]) == ("s", simulator.name)
    for name, digest in description["sha256"].items():
        printed = subprocess.run(["sha256sum", tmp_path / name], capture_output=True, text=True, check=True).stdout
        assert printed.split()[0] == digest


def test_the_runtime_moves_the_joints_as_the_checkpoint_does(simulator, policy, tmp_path):
    export(simulator, protocol.Export(policy, str(tmp_path), {}, {}), "cpu")
    runtime = Policy.load(tmp_path)
    actions = runtime.description["actions"]
    default, scale = (torch.tensor([each[name] for each in actions]) for name in ("default_position", "scale"))
    with playing(simulator, policy, "exam", num_envs=1, seed=3, device="cpu") as play, torch.inference_mode():
        observations = reset(play.env)
        for _ in range(20):
            seen = torch.cat([observations[group] for group in play.actor.obs_groups], dim=-1)[0]
            measured, at = {}, 0
            for term in runtime.description["observations"]:
                part = seen[at : at + term["size"]] / torch.tensor(term["scale"])
                at += term["size"]
                measured[term["name"]] = part + torch.tensor(term["offset"] or 0.0)
            measured.pop("last_action", None)  # its own
            action = play.actor(observations)
            np.testing.assert_allclose(runtime(measured), (default + scale * action)[0], atol=1e-4)
            observations, *_ = play.env.step(action)


def test_a_checkpoint_that_is_none_is_told_in_a_sentence(tmp_path):
    path = tmp_path / "model_1.pt"
    with pytest.raises(PolicyError, match=r"model_1.pt cannot be read: No such file or directory"):
        read_actor(path)
    good = {"actor_state_dict": {"mlp.0.weight": torch.ones(2, 3)}}
    torch.save(good, path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], json.dumps({"iter": 3}).encode()):
        path.write_bytes(content)
        with pytest.raises(PolicyError, match="is no rsl_rl checkpoint: it is damaged, or another kind of file"):
            read_actor(path)
    for content in (
        [1, 2],
        {"iter": 3},
        {"actor_state_dict": 3},
        {"actor_state_dict": {"a": 1}},
        {"model_state_dict": {}},
    ):
        torch.save(content, path)
        with pytest.raises(PolicyError, match="it has no actor_state_dict"):
            read_actor(path)
    torch.save({"actor_state_dict": {"std": torch.tensor(math.nan)}}, path)
    with pytest.raises(PolicyError, match="not all finite"):
        read_actor(path)


class Evil:
    """Pickled, it would run a command when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch evil",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"actor_state_dict": Evil()}, "model_1.pt")
    with pytest.raises(PolicyError, match="is no rsl_rl checkpoint"):
        read_actor(Path("model_1.pt"))
    assert not Path("evil").exists()


def test_a_checkpoint_of_another_observation_size_or_network_is_told_with_both_sizes(simulator, policy, tmp_path):
    content = torch.load(policy.checkpoint, weights_only=True)
    weights = content["actor_state_dict"]
    columns = weights["mlp.0.weight"].shape[1]

    def refused(changes: dict[str, torch.Tensor | None]) -> str:
        changed = {name: tensor for name, tensor in {**weights, **changes}.items() if tensor is not None}
        torch.save({**content, "actor_state_dict": changed}, tmp_path / "model_2.pt")
        other = protocol.Policy(str(tmp_path / "model_2.pt"), "flat", SHORT)
        with (
            pytest.raises(PolicyError) as error,
            playing(simulator, other, "play", num_envs=1, seed=1, device="cpu"),
        ):
            pass
        return str(error.value)

    task_id = simulator.resolve("flat")
    last = max((name for name in weights if name.endswith(".weight")), key=lambda name: int(name.split(".")[1]))
    actions = weights[last].shape[0]
    assert refused({last: weights[last][:-1]}).endswith(
        f"gives actions of {actions - 1} numbers, and {task_id} takes {actions}"
    )
    wide = torch.ones(weights["mlp.0.weight"].shape[0], columns + 187)
    assert f"takes observations of {columns + 187} numbers, and {task_id} gives {columns}" in refused(
        {"mlp.0.weight": wide}
    )
    assert "only the task's network has 'mlp.0.bias'" in refused({"mlp.0.bias": None})
    assert "only the checkpoint has 'mlp.9.bias'" in refused({"mlp.9.bias": wide})
    assert "'mlp.0.bias' is [3], and [" in refused({"mlp.0.bias": torch.ones(3)})


def test_a_task_that_is_not_there_is_told(simulator, policy):
    other = protocol.Policy(policy.checkpoint, "flta", {})
    with (
        pytest.raises(ConfigError, match="did you mean 'flat'"),
        playing(simulator, other, "play", num_envs=1, seed=1, device="cpu"),
    ):
        pass


def test_a_caption_leaves_the_picture_below_it_alone():
    from go1_sweep.simulators.base import RobotState
    from go1_sweep.trial.video import captioned

    three = torch.tensor([[0.5, -0.25, 0.125]])
    frame = np.full((480, 640, 3), 7, dtype=np.uint8)
    written = captioned(frame, RobotState(three, three, three, torch.ones(1)), 1.5)
    assert written.shape == frame.shape
    assert (written[:100] > 200).any()
    assert (written[120:] == 7).all()


def test_the_film_of_the_fake_is_h264_of_the_asked_length_at_real_speed(tmp_path):
    from go1_sweep.trial.video import film

    simulator = simulators.load("fake")
    policy = _trained_fake(simulator, tmp_path, {})
    film(simulator, protocol.Film(policy, 1, 31, 3, str(tmp_path / "video.mp4")), "cpu", quiet)
    reader: Any = imageio.get_reader(tmp_path / "video.mp4")
    meta = reader.get_meta_data()
    assert (meta["codec"], meta["pix_fmt"].split("(")[0], meta["size"]) == ("h264", "yuv420p", (640, 480))
    assert reader.count_frames() == 11
    assert meta["fps"] == pytest.approx(1 / (0.02 * 3), rel=1e-3)
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["video.mp4"]


def test_a_film_that_the_encoder_did_not_finish_is_not_published(tmp_path):
    from go1_sweep.trial.video import _publish

    final, whole, torn = (tmp_path / name for name in ("final.mp4", "whole.mp4", "torn.mp4"))
    imageio.mimwrite(whole, [np.zeros((64, 64, 3), dtype=np.uint8)] * 20, fps=10)
    torn.write_bytes(whole.read_bytes()[:-200])
    for file, frames in ((torn, 20), (whole, 21), (tmp_path / "none.mp4", 1)):
        with pytest.raises(OSError, match=f"did not write all {frames} pictures"):
            _publish(file, final, frames)
        assert not final.exists()
    _publish(whole, final, 20)
    assert final.read_bytes() == whole.read_bytes()
