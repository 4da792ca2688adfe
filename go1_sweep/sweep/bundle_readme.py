"""The README.md of an exported policy: what it is, how well it walks, how it is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from go1_sweep.deploy.policy import LAST_ACTION
from go1_sweep.paths import PolicyPaths, write_atomically
from go1_sweep.wording import figures_of, title

if TYPE_CHECKING:
    from go1_sweep.deploy.sim_to_sim import SimToSim
    from go1_sweep.evaluation import Figures
    from go1_sweep.sweep.final import Outcome

TEXT = """\
# A Unitree Go1 walking policy

{origin}

| in the exam | {names} |
|---|{rule}
{rows}
{verdict}
{episodes} robots had {max_length} steps of {step_seconds:g} s each in `{task_id}`, with noise and pushes as in
training and seeds that neither training nor the selection of the policy used. Errors are root mean squares over all
steps, and the cost of transport is the motors' work over weight times distance. In parentheses: 95% intervals of
other draws of all that is random in it.
Every robot is in `evaluation.json`.{video}
{sim_to_sim}
## On the robot

**The policy was never tried on a real robot.** Hang it up first, and keep a hand on what stops it.
{warnings}
`policy.py` runs it, with numpy and onnxruntime alone (Python 3.8 or later); it needs `policy.onnx` and `policy.json`
beside it. Every {step_seconds:g} s:

```python
import time

from policy import Policy

policy = Policy.load(".")
motors = policy.places("unitree_sdk")  # which of the policy's joints each motor of the SDK is
joints = motors.argsort()  # and the other way round: measured[joints] is in the policy's order
while True:
    began = time.monotonic()
    targets = policy(
        {{
{inputs}
        }}
    )
    # motor i: position targets[motors[i]] rad, stiffness policy.stiffness[motors[i]], damping policy.damping[motors[i]]
    time.sleep(max(0.0, began + policy.step_seconds - time.monotonic()))
```

Before the first call have the motors take the joints slowly to `policy.default_positions` [rad], where training begins.
Where a call raises, no target is to be trusted, nor the last one: damp the motors (stiffness 0), and begin again with
`policy.reset()`.

Joints are told and measured in the order of `policy.joints`:
{joints}.
What cannot be right (a number too many, NaN, degrees, a joint beyond its limits) raises a `ValueError`, and a bundle
that is damaged or exchanged a `BundleError`. Commands are clipped to those of training: {commands}.
The normalization of the observations is inside the network; history and the last action are the runtime's business.

Without it: the input of the network is the observations as `policy.json` lists them, one after the other, each
`scale * clip(measured - offset)`. An action, clipped to `action_clip` where that is given, becomes a joint target by
`default_position + scale * action` [rad], clipped to `target_limits` where those are given. The controllers of training
have `stiffness` [N m/rad], `damping` [N m s/rad] and `torque_limit` [N m] of each joint.

| file | what it is |
|---|---|
| `policy.onnx` | for onnxruntime: `{input}` (batch, {observation_size}) to `{output}` (batch, {action_size}), float32 |
| `policy.pt` | the same as TorchScript |
| `policy.json` | what each number of the input and the output is, with units, gains and where the policy comes from |
| `policy.py` | runs them |
| `checkpoint.pt` | the rsl_rl checkpoint that all were made of |
| `evaluation.json` | how it and its rivals did in the exam |
{more_rows}| `SHA256SUMS` | of every file: `sha256sum --check SHA256SUMS` |
"""

IN_MUJOCO = """
## In another simulator

{sentence}.
There `policy.py` alone drove a Go1 of MuJoCo Menagerie on flat ground, told the same as in the exam, without noise and
pushes; beside it the robots of the exam, of rough ground the easiest.

| command | off by, MuJoCo | off by, exam | stayed up, MuJoCo | stayed up, exam |
|---|---|---|---|---|
{rows}
"""


def write(paths: PolicyPaths, outcome: Outcome) -> None:
    """Write it, after the files that it describes.

    Raises:
        OSError: it cannot be written.
    """
    winner = outcome.winner
    beside = outcome.beside
    description = json.loads(paths.description.read_text(encoding="utf-8"))
    columns = [figures_of(each.summary()) for each in (winner, *([beside] if beside else []))]
    rows = [" | ".join([f"| {row[0][0]}", *(figure for _, figure in row)]) + " |" for row in zip(*columns, strict=True)]
    more = {
        paths.sim_to_sim: "how it did in plain MuJoCo",
        paths.video: "the policy, walking by command",
        paths.baseline_video: "the baseline's, told the same",
    }
    text = TEXT.format(
        origin=_origin(description),
        episodes=winner.num_episodes,
        names="this policy | the baseline's" if beside else "this policy",
        rule="---|" * len(columns),
        rows="\n".join(rows),
        verdict=f"\n{outcome.verdict.sentence}\n" if outcome.verdict else "",
        max_length=winner.max_length,
        step_seconds=winner.step_seconds,
        task_id=winner.task_id,
        video="" if paths.video.exists() else f"\nThere is no video: {outcome.no_video}.",
        more_rows="".join(f"| `{path.name}` | {what} |\n" for path, what in more.items() if path.exists()),
        sim_to_sim=_in_mujoco(outcome.sim_to_sim),
        warnings="".join(f"\n- {each}" for each in description["warnings"]) + "\n",
        inputs="\n".join(_input(term) for term in description["observations"] if term["name"] != LAST_ACTION),
        joints=", ".join(joint["name"] for joint in description["actions"]),
        commands=_commands(description),
        input=description["input"],
        output=description["output"],
        observation_size=sum(term["size"] for term in description["observations"]),
        action_size=len(description["actions"]),
    )
    write_atomically(paths.readme, text)


def _in_mujoco(tried: SimToSim | None) -> str:
    if tried is None:
        return "\nIt was not tried in another simulator.\n"

    def off_by(figures: Figures) -> str:
        return f"{figures.lin_vel_rmse:.2f} m/s, {figures.ang_vel_rmse:.2f} rad/s"

    rows = [
        f"| {name} | {off_by(here)} | {off_by(there)} | {here.survival_rate:.0%} | {there.survival_rate:.0%} |"
        for name, here, there in tried.rows()
    ]
    return IN_MUJOCO.format(sentence=tried.sentence, rows="\n".join(rows))


def _input(term: dict[str, Any]) -> str:
    """A line of the call."""
    size, unit = term["size"] // term["history"], f" [{term['unit']}]" if term["unit"] else ""
    return f'            "{term["name"]}": ...,  # ({size},) {term["quantity"]}{unit}'


def _commands(description: dict[str, Any]) -> str:
    found = [
        f"{part} {low:g} to {high:g} {unit}"
        for term in description["observations"]
        if term["name"] == "command"
        for part, (low, high), unit in zip(
            term["parts"], description["command_limits"], term["unit"].split(", "), strict=False
        )
    ]
    return ", ".join(found) or "none"


def _origin(description: dict[str, object]) -> str:
    trial = description.get("trial")
    sweep = f"From {title(str(trial))} of the sweep {description['sweep']}: " if trial else ""
    versions = description["versions"]
    assert isinstance(versions, dict)
    simulator = description["simulator"]
    return f"{sweep}`{description['checkpoint']}`, trained on `{description['task_id']}` with {simulator}" + (
        f" {versions[simulator]}." if simulator in versions else "."
    )
