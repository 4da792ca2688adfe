"""What an exported policy is outside the trainer: a runtime for the robot, and its proof in plain MuJoCo."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from go1_sweep import exam  # noqa: E402
from go1_sweep.deploy import BundleError, Policy, policy  # noqa: E402
from go1_sweep.evaluation import Evaluation  # noqa: E402
from go1_sweep.protocol import Episode  # noqa: E402
from go1_sweep.simulators.policy_interface import UNITREE_SDK, ObservationTerm, PolicyInterface  # noqa: E402

FLAT, ROUGH = (Path("benchmarks/results").resolve() / f"{task}_shared_h100" for task in ("flat", "rough"))
"""Policies that walk: trained on GPUs."""


def joint(name: str, scale: float = 0.5, default: float = 0.25) -> dict[str, Any]:
    gains = {"stiffness": 20.0, "damping": 0.5, "torque_limit": 23.7}
    return {
        "name": name, "scale": scale, "default_position": default, **gains, "position_limits": [-1.0, 1.0],
        "target_limits": None,
    }  # fmt: skip


def term(name: str, parts: list[str], history: int = 1, **rest: Any) -> dict[str, Any]:
    size = len(parts) * history
    return {
        "name": name, "size": size, "unit": "", "parts": parts, "offset": None, "clip": None, "scale": 1.0,
        "history": history, **rest,
    }  # fmt: skip


def bundle(folder: Path, observations: list[dict[str, Any]], picked: list[int], **rest: Any) -> Path:
    """A policy with so many joints, each of whose actions is one of its inputs."""
    size = sum(each["size"] for each in observations)
    weights = np.eye(size, dtype=np.float32)[:, picked]
    ends = {"obs": size, "actions": len(picked)}
    taken, given = ([onnx.helper.make_tensor_value_info(name, 1, ["batch", ends[name]])] for name in ends)
    node = onnx.helper.make_node("MatMul", ["obs", "weights"], ["actions"])
    constants = [onnx.numpy_helper.from_array(weights, "weights")]
    graph = onnx.helper.make_graph([node], "policy", taken, given, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "policy.onnx")
    joints = [f"joint {i}" for i in range(len(picked))]
    description = {
        "format": policy.FORMAT, "step_seconds": 0.02, "input": "obs", "observations": observations,
        "actions": [joint(name) for name in joints], "action_clip": None, "joint_order": {"simulator": joints[::-1]},
        "command_limits": [[-1.0, 1.0], [-0.5, 0.5], [-0.25, 0.25]],
        "sha256": {"policy.onnx": hashlib.sha256((folder / "policy.onnx").read_bytes()).hexdigest()},
    }  # fmt: skip
    (folder / "policy.json").write_text(json.dumps(description | rest))
    return folder


def test_an_observation_is_offset_clipped_and_scaled_and_an_action_becomes_a_target(tmp_path):
    observed = term("joint_vel", ["a", "b"], offset=[1.0, 0.0], clip=[-2.0, 2.0], scale=[0.5, 2.0])
    ours = Policy.load(bundle(tmp_path, [observed], [0, 1]))
    assert ours.inputs == {"joint_vel": 2} and ours.joints == ["joint 0", "joint 1"]
    np.testing.assert_allclose(ours({"joint_vel": [2.0, 5.0]}), [0.25 + 0.5 * (0.5 * 1.0), 0.25 + 0.5 * (2.0 * 2.0)])
    np.testing.assert_allclose(ours.action, [0.5, 4.0])
    assert list(ours.places("simulator")) == [1, 0]
    limited = {"actions": [joint("a") | {"target_limits": [0.0, 0.3]}, joint("b")], "action_clip": 3.0}
    ours = Policy.load(bundle(tmp_path, [observed], [0, 1], **limited))
    np.testing.assert_allclose(ours({"joint_vel": [2.0, 5.0]}), [0.3, 0.25 + 0.5 * 3.0])


def test_history_is_oldest_first_and_begins_with_what_was_measured_first(tmp_path):
    observations = [term("one", ["x"], history=3), term("last_action", ["a", "b", "c"], history=2)]
    ours = Policy.load(bundle(tmp_path, observations, [0, 1, 2]))
    assert ours.inputs == {"one": 1}
    given = []
    for measured in (1.0, 2.0, 3.0, 4.0):
        ours({"one": [measured]})
        given.append(list(ours.action))
    assert given == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert list(ours._row[0]) == [2, 3, 4, 1, 1, 2, 1, 2, 3], "the last actions before, of which the first were 0"
    ours.reset()
    ours({"one": [9.0]})
    assert list(ours._row[0]) == [9, 9, 9, 0, 0, 0, 0, 0, 0]


def test_what_cannot_be_right_is_refused_and_changes_nothing(tmp_path):
    observations = [term("joint_pos", ["joint 0", "joint 1"], history=2, unit="rad"), term("command", ["x", "y", "z"])]
    ours = Policy.load(bundle(tmp_path, observations, [0, 2]))
    ours({"joint_pos": [0.5, 0.5], "command": [9.0, -9.0, 0.125]})
    assert list(ours._row[0, 4:]) == [1.0, -0.5, 0.125], "commands are clipped to those of training"
    before = ours._row.copy()
    wrong = {
        "the policy takes joint_pos, command, and was given joint_pos": {"joint_pos": [0, 0]},
        "and was given joint_pos, command, more": {"joint_pos": [0, 0], "command": [0, 0, 0], "more": 1},
        "joint_pos is 2 numbers, not 3": {"joint_pos": [0, 0, 0], "command": [0, 0, 0]},
        "command is not finite": {"joint_pos": [0, 0], "command": [0, np.nan, 0]},
        "joint_pos: joint 1 at -1.5 rad is more than a Go1 can do": {"joint_pos": [0, -1.5], "command": [0, 0, 0]},
    }
    for sentence, observation in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            ours(observation)
    ours({"joint_pos": [0.25, 0.25], "command": [0, 0, 0]})
    assert list(ours._row[0, :4]) == [0.5, 0.5, 0.25, 0.25] and list(before[0, :4]) == [0.5] * 4


def test_what_was_measured_in_other_units_or_by_a_broken_sensor_is_refused():
    ours = Policy.load(FLAT)
    standing = {name: np.zeros(size) for name, size in ours.inputs.items()} | {
        "joint_pos": ours.default_positions,
        "projected_gravity": [0.0, 0.0, -1.0],
    }
    targets = ours(standing)
    wrong = {
        "projected_gravity is of length 9.81, not 1": {"projected_gravity": [0.0, 0.0, -9.81]},
        "projected_gravity is of length 0, not 1": {"projected_gravity": np.zeros(3)},
        r"base_ang_vel: z at -90 rad/s is more than a Go1 can do": {"base_ang_vel": [0.0, 0.0, -90.0]},
        r"joint_vel: FR_thigh_joint at 573 rad/s is more": {"joint_vel": [0.0, 573.0, *[0.0] * 10]},
        r"imu_lin_vel: x at 1e\+30 m/s is more": {"imu_lin_vel": [1e30, 0.0, 0.0]},
        r"joint_pos: FR_thigh_joint at 51 rad is more": {"joint_pos": [5.0 / 57, 51.0, -103.0] * 4},
    }
    for sentence, measured in wrong.items():
        with pytest.raises(ValueError, match=sentence):
            ours(standing | measured)
    ours.reset()
    np.testing.assert_array_equal(ours(standing), targets)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("given", [np.nan, np.inf])
def test_what_the_network_makes_of_it_is_refused_where_it_is_not_finite(given, clip, tmp_path, monkeypatch):
    ours = Policy.load(bundle(tmp_path, [term("one", ["x"])], [0], action_clip=clip))
    monkeypatch.setattr(ours, "_session", SimpleNamespace(run=lambda *_: [np.array([[given]], dtype=np.float32)]))
    with pytest.raises(ValueError, match="what the network gives is not finite"):
        ours({"one": 0.0})
    assert list(ours.action) == [0.0]


def test_a_policy_that_knows_no_limits_of_its_command_takes_any(tmp_path):
    ours = Policy.load(bundle(tmp_path, [term("command", ["x", "y", "z"])], [0], command_limits=[]))
    ours({"command": [9.0, 9.0, 9.0]})
    assert list(ours.action) == [9.0] and ours.command_limits.shape == (2, 3)


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda entries: entries.pop(name)


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda entries: entries.update(changes)


@pytest.mark.parametrize(
    ("where", "damage", "sentence"),
    [
        ((), _without("actions"), "actions is missing"),
        ((), _without("sha256"), "sha256 is missing"),
        ((), _with(sha256={}), "sha256.policy.onnx is missing"),
        ((), _with(step_seconds="x"), "step_seconds cannot be 'x'"),
        ((), _with(step_seconds=0), "step_seconds cannot be 0"),
        ((), _with(observations=[]), r"observations cannot be \[\]"),
        ((), _with(observations=None), "observations cannot be None"),
        ((), _with(actions=[1]), r"actions\[0\] cannot be 1"),
        ((), _with(command_limits=[[0, 1]]), r"command_limits cannot be \[\[0, 1\]\]"),
        ((), _with(joint_order=[]), r"joint_order cannot be \[\]"),
        ((), _with(input="x"), r"onnx has \['obs', 5, 2\] .* \['x', 5, 2\]"),
        (("actions", 1), _with(scale=10**400), r"actions\[1\].scale cannot be 1000"),
        (("actions", 1), _without("scale"), r"actions\[1\].scale is missing"),
        (("actions", 1), _with(default_position=np.nan), r"actions\[1\].default_position cannot be nan"),
        (("actions", 0), _with(position_limits=[2, 1]), r"actions\[0\].position_limits cannot be \[2, 1\]"),
        (("actions", 0), _with(target_limits="ab"), r"actions\[0\].target_limits cannot be 'ab'"),
        (("observations", 0), _without("parts"), r"observations\[0\].parts is missing"),
        (("observations", 0), _with(history=0), r"observations\[0\].history cannot be 0"),
        (("observations", 0), _with(scale=["x"]), r"observations\[0\].scale cannot be \['x'\]"),
        (("observations", 0), _with(size=3), r"observations\[0\].size cannot be 3"),
        (("observations", 0), _with(scale=[]), r"observations\[0\].scale cannot be \[\]"),
        (("observations", 0), _with(offset=[0, 0]), r"observations\[0\].offset cannot be \[0, 0\]"),
        (("observations", 1), _with(parts=["x"], size=1), r"observations\[1\].size cannot be 1"),
        ((), lambda all: all["actions"].pop(), r"onnx has \['obs', 5, 2\] .* policy.json \['obs', 5, 1\]"),
        (
            (),
            lambda all: all["observations"].pop(),
            r"onnx has \['obs', 5, 2\] .* \['obs', 2, 2\]",
        ),
    ],
)
def test_a_description_that_cannot_be_is_refused_with_the_entry_that_is_wrong(where, damage, sentence, tmp_path):
    observations = [term("one", ["x"], history=2), term("command", ["x", "y", "z"])]
    bundle(tmp_path, observations, [0, 1])
    description = json.loads((tmp_path / "policy.json").read_text())
    entries = description
    for key in where:
        entries = entries[key]
    damage(entries)
    (tmp_path / "policy.json").write_text(json.dumps(description))
    with pytest.raises(BundleError, match=f"^{tmp_path}/policy.*{sentence}"):
        Policy.load(tmp_path)


def test_a_network_that_onnxruntime_cannot_run_is_refused(tmp_path):
    bundle(tmp_path, [term("one", ["x"])], [0])
    (tmp_path / "policy.onnx").write_bytes(b"of another time")
    description = json.loads((tmp_path / "policy.json").read_text())
    description["sha256"]["policy.onnx"] = hashlib.sha256(b"of another time").hexdigest()
    (tmp_path / "policy.json").write_text(json.dumps(description))
    with pytest.raises(BundleError, match=r"policy.onnx cannot be run by onnxruntime \d.*: "):
        Policy.load(tmp_path)


def test_a_bundle_that_is_not_what_was_exported_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"policy.json cannot be read: .*No such file"):
        Policy.load(tmp_path)
    bundle(tmp_path, [term("one", ["x"])], [0], format=policy.FORMAT + 1)
    with pytest.raises(BundleError, match=f"is of format {policy.FORMAT + 1}, and this is for format {policy.FORMAT}"):
        Policy.load(tmp_path)
    bundle(tmp_path, [term("one", ["x"])], [0])
    with open(tmp_path / "policy.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"policy.onnx is not the file that was exported"):
        Policy.load(tmp_path)
    (tmp_path / "policy.onnx").unlink()
    with pytest.raises(BundleError, match=r"policy.onnx cannot be read: No such file"):
        Policy.load(tmp_path)


ALONE = """
import sys
class Blocked:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("torch", "ray", "mujoco", "mjlab", "rsl_rl", "go1_sweep", "scipy", "pydantic"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[1])
from policy import Policy
ours = Policy.load(sys.argv[2])
print(ours({name: [0.0] * size for name, size in ours.inputs.items() if name != "joint_pos"}
           | {"joint_pos": [0.1, 0.9, -1.8, -0.1, 0.9, -1.8] * 2, "projected_gravity": [0.0, 0.0, -1.0]}).shape)
"""


def test_the_runtime_is_one_file_that_needs_neither_torch_nor_ray_nor_a_simulator(tmp_path):
    shutil.copy(policy.__file__, tmp_path)
    command = [sys.executable, "-I", "-c", ALONE, tmp_path, FLAT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("(12,)\n", "")


STEPS = 200


def as_in_exam() -> Evaluation:
    """An exam in which each robot did about as both policies did in theirs."""
    walked = {"lin_vel_rmse": 0.16, "ang_vel_rmse": 0.15, "speed": 0.4, "power": 0.1, "target_rate": 6.0}
    episodes = [Episode(0.0, STEPS, **walked, fell=False, cut_off=True, env=env) for env in range(48)]
    return Evaluation("0002", "model_250.pt", "", (), True, "flat", {}, STEPS, 0.02, {1: episodes})


@pytest.mark.parametrize("folder", [FLAT, ROUGH], ids=["flat", "rough"])
def test_a_policy_that_walks_in_its_simulator_walks_in_plain_mujoco(folder, tmp_path):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy import sim_to_sim

    found = sim_to_sim.compared(folder, as_in_exam())
    assert found.agrees and found.score > 0.85, found.sentence
    assert [name for name, *_ in found.rows()] == [*exam.COMMANDS, "all"]
    assert all(here.survival_rate == 1.0 and here.lin_vel_rmse < 0.35 for _, here, _ in found.rows())
    found.save(tmp_path / "sim_to_sim.json")
    written = json.loads((tmp_path / "sim_to_sim.json").read_text())
    assert (written["agrees"], written["score"]) == (True, found.score)
    assert written["commands"]["fast"]["mujoco"]["lin_vel_rmse"] < 0.35


@pytest.mark.parametrize("what", ["joints of the targets", "joints of the measurements", "scale", "gains"])
def test_what_was_lost_on_the_way_out_of_the_trainer_shows_in_plain_mujoco(what, tmp_path):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy import sim_to_sim

    description = json.loads((FLAT / "policy.json").read_text())
    actions = description["actions"]
    by_kind = [3 * leg + kind for kind in range(3) for leg in (1, 0, 3, 2)]  # as Isaac Lab has them
    match what:
        case "joints of the targets":
            description["actions"] = [actions[i] for i in by_kind]
        case "joints of the measurements":
            for each in description["observations"]:
                if each["name"].startswith("joint_"):
                    each["parts"] = [each["parts"][i] for i in by_kind]
        case "scale":
            description["actions"] = [each | {"scale": 0.5 * each["scale"]} for each in actions]
        case "gains":
            description["actions"] = [each | {"stiffness": 0.5 * each["stiffness"]} for each in actions]
    shutil.copy(FLAT / "policy.onnx", tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(description))
    found = sim_to_sim.compared(tmp_path, as_in_exam())
    assert not found.agrees and "does NOT do outside the trainer" in found.sentence


def test_a_policy_that_gives_nothing_from_the_first_step_on_falls(monkeypatch):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy import sim_to_sim
    from go1_sweep.deploy.go1 import Go1

    ours = Policy.load(FLAT)
    nothing = SimpleNamespace(run=lambda *_: [np.full((1, 12), np.nan, dtype=np.float32)])
    monkeypatch.setattr(ours, "_session", nothing)
    episode = sim_to_sim.driven(ours, Go1(ours), 0, STEPS)
    assert (episode.fell, episode.length, episode.target_rate) == (True, 1, 0.0)


@pytest.mark.parametrize("step_seconds", [0.02, 0.015, 0.005, 0.0009])
def test_a_control_period_takes_as_long_as_it_is(step_seconds, monkeypatch):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import PHYSICS_SECONDS, Go1

    ours = Policy.load(FLAT)
    monkeypatch.setattr(ours, "step_seconds", step_seconds)
    robot = Go1(ours)
    for _ in range(100):
        robot.act(robot.data.ctrl.copy())
    assert robot.data.time == pytest.approx(100 * step_seconds)
    assert robot.model.opt.timestep <= PHYSICS_SECONDS


def test_what_mujoco_cannot_follow_is_a_fall_and_leaves_no_file_and_no_word(tmp_path, monkeypatch, capfd):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import Go1

    monkeypatch.chdir(tmp_path)
    robot = Go1(Policy.load(FLAT))
    robot.push(np.array([1e5, 0.0, 0.0]))
    for _ in range(20):
        robot.act(robot.data.ctrl.copy())
    assert robot.has_fallen
    robot.reset()
    assert not robot.has_fallen
    assert (list(tmp_path.iterdir()), *capfd.readouterr()) == ([], "", "")


def test_the_ground_is_measured_where_the_scan_looks_for_it_however_the_robot_leans(tmp_path):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import Go1, mujoco

    ours = Policy.load(ROUGH)
    robot = Go1(ours)
    points = next(each["parts"] for each in ours.description["observations"] if each["name"] == "height_scan")
    for turned, lean in ((0.0, 0.0), (1.0, 0.0), (-2.0, 0.3)):
        quaternion = np.zeros(4)
        mujoco.mju_euler2Quat(quaternion, np.array([turned, lean, 0.0]), "zyx")
        robot.data.qpos[:7] = [3.0, -2.0, 0.5, *quaternion]
        mujoco.mj_forward(robot.model, robot.data)
        np.testing.assert_allclose(robot.observe(np.zeros(3))["height_scan"], 0.5, atol=1e-6)
        leaning = robot.observe(np.zeros(3))["projected_gravity"]
        np.testing.assert_allclose(leaning, [np.sin(lean), 0.0, -np.cos(lean)], atol=1e-6)
    assert len(points) == 187 and (points[0], points[16]) == ("x=-0.80 y=-0.50", "x=+0.80 y=-0.50")


def test_the_models_joints_are_in_the_order_that_is_told():
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import model_file, mujoco

    model = mujoco.MjModel.from_xml_path(str(model_file()))
    assert [model.joint(i).name for i in range(1, model.njnt)] == UNITREE_SDK


def test_a_robot_begins_where_training_did():
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import Go1

    ours = Policy.load(FLAT)
    assert ours.default_positions.tolist() == [each["default_position"] for each in ours.description["actions"]]
    assert Go1(ours).observe(np.zeros(3))["joint_pos"] == pytest.approx(ours.default_positions)


def test_whoever_builds_a_robot_is_warned_of_what_it_does_not_measure_and_of_what_nobody_knows():
    observed = ["base_ang_vel", "joint_pos", "base_lin_vel", "height_scan", "feet_air_time", "last_action", "command"]
    terms = [ObservationTerm(name, name, 1, "", "", ["x"]) for name in observed]
    warned = PolicyInterface(terms, [], None, [], 4).warnings
    assert [each.partition(":")[0] for each in warned[:-1]] == ["base_lin_vel", "height_scan", "feet_air_time"]
    assert "nothing here knows" in warned[2] and warned[-1] == "this policy was never tried on a robot"


def test_a_policy_for_another_robot_is_not_tried(tmp_path):
    pytest.importorskip("mjlab")
    from go1_sweep.deploy.go1 import Go1

    with pytest.raises(BundleError, match="nobody can measure one of a Go1 in MuJoCo"):
        Go1(Policy.load(bundle(tmp_path, [term("one", ["x"])], [0])))
    with pytest.raises(BundleError, match="a Go1 has no joint joint 0"):
        Go1(Policy.load(bundle(tmp_path, [term("projected_gravity", ["x", "y", "z"])], [0])))
