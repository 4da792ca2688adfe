"""The README.md of an exported policy: what it is, how well it walks, how it is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from go1_sweep.paths import PolicyPaths, write_atomically
from go1_sweep.wording import figures_of, title

if TYPE_CHECKING:
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

| file | what it is |
|---|---|
| `policy.onnx` | for onnxruntime: `{input}` (batch, {observation_size}) to `{output}` (batch, {action_size}), float32 |
| `policy.pt` | the same as TorchScript |
| `policy.json` | what each number of the input and the output is, with units, gains and where the policy comes from |
| `checkpoint.pt` | the rsl_rl checkpoint that both were made of |
| `evaluation.json` | how it and its rivals did in the exam |
{video_row}
The normalization of the observations is inside the network: it takes them as `policy.json` lists them, each
`scale * clip(measured - offset)`. An action, clipped to `action_clip` where that is given, becomes a joint target by
`default_position + scale * action` [rad], clipped to `target_limits` where those are given, every {step_seconds:g} s:

    import json, numpy as np, onnxruntime

    description = json.load(open("policy.json"))
    session = onnxruntime.InferenceSession("policy.onnx")
    observation = np.zeros((1, {observation_size}), dtype=np.float32)   # {observation_names}
    (action,) = session.run(None, {{"{input}": observation}})
    targets = [joint["default_position"] + joint["scale"] * a for joint, a in zip(description["actions"], action[0])]
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
    films = {paths.video: "the policy, walking by command", paths.baseline_video: "the baseline's, told the same"}
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
        video_row="".join(f"| `{path.name}` | {what} |\n" for path, what in films.items() if path.exists()),
        input=description["input"],
        output=description["output"],
        observation_size=sum(term["size"] for term in description["observations"]),
        observation_names=", ".join(term["name"] for term in description["observations"]),
        action_size=len(description["actions"]),
    )
    write_atomically(paths.readme, text)


def _origin(description: dict[str, object]) -> str:
    trial = description.get("trial")
    sweep = f"From {title(str(trial))} of the sweep {description['sweep']}: " if trial else ""
    versions = description["versions"]
    assert isinstance(versions, dict)
    simulator = description["simulator"]
    return f"{sweep}`{description['checkpoint']}`, trained on `{description['task_id']}` with {simulator}" + (
        f" {versions[simulator]}." if simulator in versions else "."
    )
