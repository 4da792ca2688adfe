"""Writes a policy for use outside the trainer: ONNX, TorchScript, and what its numbers mean."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from go1_sweep import protocol
from go1_sweep.checkpoint import sha256
from go1_sweep.deploy import policy as runtime
from go1_sweep.paths import PolicyPaths, write_json
from go1_sweep.simulators.base import Actor, Simulator
from go1_sweep.trial.checkpoints import PolicyError, read_checkpoint
from go1_sweep.trial.policy import Play, playing

NUM_ENVS = 20
STEPS = 50
"""The exported files are checked on the observations of that many envs and steps."""

SEED = 0

INPUT, OUTPUT = "obs", "actions"
"""The names in the ONNX file."""

TOLERANCE = 1e-5
"""How far an exported file's actions may be off the checkpoint's, relative to the largest action or 1."""


def export(simulator: Simulator, request: protocol.Export, device: str) -> None:
    """Write ``checkpoint.pt``, ``policy.onnx``, ``policy.pt``, ``policy.py``, and last ``policy.json``.

    Raises:
        PolicyError: see ``playing``; the policy is recurrent; or a file does not give the checkpoint's actions.
        ConfigError: the task's actions are none that can be described.
        OSError: a file cannot be written.
    """
    paths = PolicyPaths(Path(request.folder))
    checkpoint = Path(request.policy.checkpoint)
    with playing(simulator, request.policy, "play", num_envs=NUM_ENVS, seed=SEED, device=device) as play:
        if play.actor.is_recurrent:
            raise PolicyError(f"{checkpoint} is a recurrent policy: those are not exported")
        interface = simulator.interface(play.env, play.config)
        step_seconds = simulator.step_seconds(play.env)
        observations, actions = _observe(play)
        actor = copy.deepcopy(play.actor).cpu()
        task_id = play.config.task_id
    expected = sum(term.size for term in interface.observations)
    if observations.shape[1] != expected:
        raise PolicyError(f"{task_id}: the policy takes {observations.shape[1]} numbers, and {expected} are described")
    shutil.copyfile(checkpoint, paths.checkpoint)
    shutil.copyfile(runtime.__file__, paths.runtime)
    _write_torchscript(actor, paths.torchscript)
    _write_onnx(actor, observations, paths.onnx)
    differences = {
        paths.torchscript.name: _difference(torch.jit.load(paths.torchscript)(observations), actions),
        paths.onnx.name: _difference(_run_onnx(paths.onnx, observations), actions),
    }
    bound = TOLERANCE * max(1.0, actions.abs().max().item())
    for name, difference in differences.items():
        if not difference <= bound:
            raise PolicyError(f"{name} gives actions that are up to {difference:.2g} off the checkpoint's")
    described = dataclasses.asdict(interface)
    del described["joints"]  # which joint_order has
    description: dict[str, Any] = {
        "format": runtime.FORMAT,
        "task": request.policy.task,
        "task_id": task_id,
        "simulator": simulator.name,
        "versions": simulator.versions(),
        **request.origin,
        "parameters": request.policy.parameters,
        "step_seconds": step_seconds,
        "input": INPUT,
        "output": OUTPUT,
        "normalizer": "inside the network",
        **described,
        "joint_order": interface.joint_order,
        "command_limits": _command_limits(simulator, request.policy),
        "warnings": interface.warnings,
        "exam": request.exam,
        "differences": {"observations": len(observations), "max_action": actions.abs().max().item(), **differences},
        "sha256": {
            path.name: sha256(path) for path in (paths.checkpoint, paths.onnx, paths.torchscript, paths.runtime)
        },
    }
    write_json(paths.description, description)


def _command_limits(simulator: Simulator, policy: protocol.Policy) -> list[list[float]]:
    config = simulator.load_config(simulator.resolve(policy.task))
    simulator.apply(config, policy.parameters)
    iterations = read_checkpoint(Path(policy.checkpoint)).get("iter", 0)
    return simulator.command_limits(config, iterations * config.agent.num_steps_per_env)


def _observe(play: Play) -> tuple[torch.Tensor, torch.Tensor]:
    """What the policy sees while it plays, and what it does: rows of (observation,) and (action,) on the CPU.

    The actions are computed on the CPU in full precision, as an exported file does it.
    """
    actor = copy.deepcopy(play.actor).cpu()
    seen, done = [], []
    observations = play.env.get_observations()
    with torch.inference_mode():
        for _ in range(STEPS):
            on_cpu = observations.to("cpu")
            seen.append(torch.cat([on_cpu[group] for group in actor.obs_groups], dim=-1).clone())
            done.append(actor(on_cpu))
            observations, *_ = play.env.step(play.actor(observations))
    return torch.cat(seen), torch.cat(done)


def _write_torchscript(actor: Actor, path: Path) -> None:
    torch.jit.script(actor.as_jit().eval()).save(path)


def _write_onnx(actor: Actor, observations: torch.Tensor, path: Path) -> None:
    """One file with a free batch size.

    The exporter that is not deprecated writes the weights into a second file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            actor.as_jit().eval(),
            (observations[:1],),
            str(path),
            opset_version=18,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"} for name in (INPUT, OUTPUT)},
            dynamo=False,
        )


def _run_onnx(path: Path, observations: torch.Tensor) -> torch.Tensor:
    """By onnxruntime or, since Isaac Lab does not bring that, by the standard's own implementation in ``onnx``."""
    try:
        from onnxruntime import InferenceSession

        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except ModuleNotFoundError:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    (actions,) = session.run(None, {INPUT: observations.numpy()})
    return torch.from_numpy(np.asarray(actions))


def _difference(actions: torch.Tensor, expected: torch.Tensor) -> float:
    return (actions - expected).abs().max().item()
