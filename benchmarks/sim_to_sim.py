"""What an exported policy does in plain MuJoCo, whole and with what could have been lost on its way, and a film of it.

python benchmarks/sim_to_sim.py [BUNDLE] [--video FILE.mp4]
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from go1_sweep import exam
from go1_sweep.deploy.go1 import Go1, mujoco
from go1_sweep.deploy.policy import Policy
from go1_sweep.deploy.sim_to_sim import driven
from go1_sweep.evaluation import figures

RESULTS = Path(__file__).parent / "results"
SIZE = (368, 480)
FRAMES_PER_SECOND = 25


def main() -> None:
    """Print the table; write the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=RESULTS / "flat_shared_h100")
    parser.add_argument("--video", type=Path)
    options = parser.parse_args()
    whole = Policy.load(options.bundle)
    if options.video:
        film(whole, options.video)
        return
    steps = round(exam.SECONDS / whole.step_seconds)
    print(f"{options.bundle.name}, MuJoCo {version('mujoco')}, {exam.SECONDS:g} s a command\n")
    print("| | score | off by | off by | stayed up |\n|---|---|---|---|---|")
    for name, change in CHANGES.items():
        description = copy.deepcopy(whole.description)
        change(description)
        policy = Policy(description, whole._session)
        robot = Go1(policy)
        of = figures([driven(policy, robot, env, steps) for env in range(len(exam.COMMANDS))], steps)
        off = f"{of.lin_vel_rmse:.2f} m/s | {of.ang_vel_rmse:.2f} rad/s"
        print(f"| {name} | {of.score:.3f} | {off} | {of.survival_rate:.0%} |", flush=True)


def film(policy: Policy, file: Path) -> None:
    """Four commands, one after the other, each for three seconds."""
    robot = Go1(policy)
    camera = mujoco.MjvCamera()
    camera.distance, camera.azimuth, camera.elevation = 1.6, 130.0, -18.0
    robot.model.vis.headlight.ambient[:] = 0.5
    every = round(1 / (policy.step_seconds * FRAMES_PER_SECOND))
    writer: Any = imageio.get_writer(file, fps=FRAMES_PER_SECOND)
    with mujoco.Renderer(robot.model, *SIZE) as renderer, writer:
        for name in ("forward", "turn left", "left", "backward"):
            for step in range(round(3.0 / policy.step_seconds)):
                robot.act(policy(robot.observe(np.array(exam.COMMANDS[name]))))
                if step % every == 0:
                    camera.lookat[:] = robot.data.body("trunk").xpos
                    renderer.update_scene(robot.data, camera)
                    writer.append_data(renderer.render())


def _each(what: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        for joint in description["actions"]:
            joint[what] *= factor

    return change


def _reordered(description: dict[str, Any]) -> None:
    """As Isaac Lab has them: all hips, all thighs, all calves."""
    description["actions"] = [description["actions"][3 * leg + kind] for kind in range(3) for leg in (1, 0, 3, 2)]


def _legs_exchanged(description: dict[str, Any]) -> None:
    actions = description["actions"]
    description["actions"] = [*actions[3:6], *actions[:3], *actions[6:]]


def _measured_exchanged(description: dict[str, Any]) -> None:
    for term in description["observations"]:
        if term["name"] == "joint_pos":
            term["parts"] = [*term["parts"][3:6], *term["parts"][:3], *term["parts"][6:]]


def _no_offset(description: dict[str, Any]) -> None:
    for term in description["observations"]:
        if term["name"] == "joint_pos":
            term["offset"] = None


def _gains(factor: float) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        _each("stiffness", factor)(description)
        _each("damping", factor)(description)

    return change


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "as exported": lambda description: None,
    "targets of both front legs exchanged": _legs_exchanged,
    "targets in Isaac Lab's order": _reordered,
    "positions of both front legs exchanged": _measured_exchanged,
    "default positions not subtracted": _no_offset,
    "half the scale": _each("scale", 0.5),
    "0.7 of the scale": _each("scale", 0.7),
    "1.5 times the scale": _each("scale", 1.5),
    "half the gains": _gains(0.5),
    "twice the gains": _gains(2.0),
    "a fifth of the damping": _each("damping", 0.2),
}

if __name__ == "__main__":
    main()
