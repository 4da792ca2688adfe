"""How well a policy walks: one episode in each env of the play variant, without learning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from go1_sweep import protocol
from go1_sweep.paths import replacing
from go1_sweep.simulators.base import RobotState, Simulator
from go1_sweep.trial.policy import playing


def evaluate(
    simulator: Simulator, request: protocol.Evaluate, device: str, pulse: Callable[[], None]
) -> protocol.Evaluated:
    """Play until each env has ended one episode: equally many per env, however soon they fall.

    A velocity counts where the policy saw it: before each of its actions, so that the state after the reset of
    an env is never taken for the end of its last episode.

    Args:
        simulator: that plays.
        request: what.
        device: where.
        pulse: called in each step.

    Raises:
        PolicyError: see ``playing``.
        FloatingPointError: a reward or velocity was not finite.
    """
    with (
        playing(simulator, request.policy, num_envs=request.num_envs, seed=request.seed, device=device) as play,
        torch.inference_mode(),
    ):
        max_length = int(play.env.max_episode_length)
        recording = _Recording(request.num_envs, device, keeps_steps=bool(request.trajectories))
        observations = play.env.get_observations()
        for _ in range(max_length):
            pulse()
            state = simulator.robot_state(play.env)
            observations, rewards, dones, extras = play.env.step(play.actor(observations))
            recording.add(state, rewards, dones.bool(), extras["time_outs"].bool())
            if not recording.is_alive.any():
                break
        step_seconds = simulator.step_seconds(play.env)
        task_id = play.config.task_id
    if request.trajectories:
        recording.save(Path(request.trajectories))
    return protocol.Evaluated(task_id, simulator.versions(), max_length, step_seconds, recording.episodes())


class _Recording:
    """What happened to each robot in its first episode."""

    def __init__(self, num_envs: int, device: str, *, keeps_steps: bool) -> None:
        def zeros() -> torch.Tensor:
            return torch.zeros(num_envs, dtype=torch.float64, device=device)

        self.is_alive = torch.ones(num_envs, dtype=torch.bool, device=device)
        self._fell = torch.zeros_like(self.is_alive)
        self._total_reward, self._length, self._lin_error, self._ang_error = zeros(), zeros(), zeros(), zeros()
        self._steps: list[dict[str, np.ndarray]] | None = [] if keeps_steps else None

    def add(self, state: RobotState, rewards: torch.Tensor, dones: torch.Tensor, time_outs: torch.Tensor) -> None:
        """Take a step: the state before it, and what came of it; tensors over the envs."""
        alive = self.is_alive
        if self._steps is not None:
            step = {"alive": alive, "reward": rewards, "done": dones, "time_out": time_outs, **vars(state)}
            self._steps.append({name: tensor.cpu().numpy().copy() for name, tensor in step.items()})
        lin_error = (state.lin_vel[:, :2] - state.command[:, :2]).double().square().sum(dim=1)
        ang_error = (state.ang_vel[:, 2] - state.command[:, 2]).double().square()
        self._total_reward += torch.where(alive, rewards.double(), 0.0)
        self._length += alive
        self._lin_error += torch.where(alive, lin_error, 0.0)
        self._ang_error += torch.where(alive, ang_error, 0.0)
        self._fell |= alive & dones & ~time_outs
        self.is_alive = alive & ~dones

    def episodes(self) -> list[protocol.Episode]:
        """One per env."""
        columns = (
            self._total_reward,
            self._length,
            (self._lin_error / self._length).sqrt(),
            (self._ang_error / self._length).sqrt(),
        )
        if not all(column.isfinite().all() for column in columns):
            raise FloatingPointError("a reward or a velocity was not finite in play")
        rows = zip(*(column.tolist() for column in columns), self._fell.tolist(), strict=True)
        return [protocol.Episode(total, int(length), lin, ang, fell) for total, length, lin, ang, fell in rows]

    def save(self, path: Path) -> None:
        """Write each step's arrays, stacked: (steps, num_envs, ...)."""
        assert self._steps is not None
        arrays: dict[str, Any] = {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **arrays)
