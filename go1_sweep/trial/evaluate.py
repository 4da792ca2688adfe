"""How well a policy walks in the play variant, without learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from go1_sweep import protocol
from go1_sweep.paths import replacing
from go1_sweep.simulators.base import RobotState, Simulator
from go1_sweep.trial.policy import playing, reset


def evaluate(
    simulator: Simulator, request: protocol.Evaluate, device: str, pulse: Callable[[int, int], None]
) -> protocol.Evaluated:
    """Play until each env has ended one episode, equally many per env however soon they fall; or so many steps.

    A velocity counts where the policy saw it: before each of its actions, so that the state after the reset of
    an env is never taken for the end of its last episode.

    Args:
        simulator: that plays.
        request: what.
        device: where.
        pulse: called in each step, with how many are done and how many there are at most.

    Raises:
        PolicyError: see ``playing``.
        FloatingPointError: a reward or velocity was not finite.
    """
    with (
        playing(simulator, request.policy, num_envs=request.num_envs, seed=request.seed, device=device) as play,
        torch.inference_mode(),
    ):
        max_length = int(play.env.max_episode_length)
        steps = request.steps or max_length
        recording = _Recording(request.num_envs, device, one_each=not request.steps, keeps=bool(request.trajectories))
        observations = reset(play.env)
        for step in range(steps):
            pulse(step, steps)
            state = simulator.robot_state(play.env)
            observations, rewards, dones, extras = play.env.step(play.actor(observations))
            play.actor.reset(dones)
            recording.add(state, rewards, dones.bool(), extras["time_outs"].bool())
            if not recording.is_alive.any():
                break
        step_seconds = simulator.step_seconds(play.env)
        task_id = play.config.task_id
    if request.trajectories:
        recording.save(Path(request.trajectories))
    return protocol.Evaluated(task_id, simulator.versions(), max_length, step_seconds, recording.episodes())


class _Recording:
    """What happened to each robot, in its first episode or in all."""

    def __init__(self, num_envs: int, device: str, *, one_each: bool, keeps: bool) -> None:
        """Begin; ``one_each``: nothing counts after an env's first episode. ``keeps``: every step, for ``save``."""
        self._one_each = one_each
        self._ended: list[protocol.Episode] = []
        self._steps: list[dict[str, np.ndarray]] | None = [] if keeps else None
        self.is_alive = torch.ones(num_envs, dtype=torch.bool, device=device)
        self._sums = torch.zeros(num_envs, 4, dtype=torch.float64, device=device)
        """Of the episodes that go on: rewards, steps, and the squares of both velocities' errors."""

    def add(self, state: RobotState, rewards: torch.Tensor, dones: torch.Tensor, time_outs: torch.Tensor) -> None:
        """Take a step: the state before it, and what came of it; tensors over the envs."""
        alive = self.is_alive
        if self._steps is not None:
            step = {"alive": alive, "reward": rewards, "done": dones, "time_out": time_outs, **vars(state)}
            self._steps.append({name: tensor.cpu().numpy().copy() for name, tensor in step.items()})
        lin_error = (state.lin_vel[:, :2] - state.command[:, :2]).double().square().sum(dim=1)
        ang_error = (state.ang_vel[:, 2] - state.command[:, 2]).double().square()
        step_sums = torch.stack([rewards.double(), torch.ones_like(lin_error), lin_error, ang_error], dim=1)
        self._sums += torch.where(alive[:, None], step_sums, 0.0)
        ended = alive & dones
        self._ended += self._episodes(ended, fell=~time_outs)
        self._sums[ended] = 0.0
        if self._one_each:
            self.is_alive = alive & ~dones

    def episodes(self) -> list[protocol.Episode]:
        """Those that have ended and those that go on, by env; what goes on counts as far as it came."""
        going_on = self._episodes(self._sums[:, 1] > 0, fell=torch.zeros_like(self.is_alive), cut_off=True)
        return sorted(self._ended + going_on, key=lambda episode: episode.env)

    def _episodes(self, of: torch.Tensor, fell: torch.Tensor, *, cut_off: bool = False) -> list[protocol.Episode]:
        """The episodes of some envs, which are picked by a mask, as far as they are now."""
        sums = self._sums[of]
        if not sums.isfinite().all():
            raise FloatingPointError("a reward or a velocity was not finite in play")
        rows = zip(of.nonzero()[:, 0].tolist(), fell[of].tolist(), sums.tolist(), strict=True)
        return [
            protocol.Episode(total, int(length), math.sqrt(lin / length), math.sqrt(ang / length), fall, cut_off, env)
            for env, fall, (total, length, lin, ang) in rows
        ]

    def save(self, path: Path) -> None:
        """Write each step's arrays, stacked: (steps, num_envs, ...)."""
        assert self._steps is not None
        arrays: dict[str, Any] = {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **arrays)
