"""How well a policy walks, without learning: in the exam, or in the task's play variant."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rsl_rl.env import VecEnv

from go1_sweep import exam, protocol
from go1_sweep.paths import replacing
from go1_sweep.simulators.base import RobotState, Simulator
from go1_sweep.trial.policy import Play, playing, reset


def evaluate(
    simulator: Simulator, request: protocol.Evaluate, device: str, pulse: Callable[[int, int], None]
) -> protocol.Evaluated:
    """Play until the exam is over, until each env has ended one episode, or so many steps.

    Equally many episodes per env count however soon they fall. A velocity counts where the policy saw it: before
    each of its actions, so that the state after the reset of an env is never taken for the end of its last episode.

    Args:
        simulator: that plays.
        request: what.
        device: where.
        pulse: called in each step, with how many are done and how many there are at most.

    Raises:
        PolicyError: see ``playing``.
        FloatingPointError: a reward or velocity was not finite.
    """
    is_exam, envs = request.exam_seconds > 0, request.num_envs
    purpose = "exam" if is_exam else "play"
    with (
        playing(simulator, request.policy, purpose, num_envs=envs, seed=request.seed, device=device) as play,
        torch.inference_mode(),
    ):
        step_seconds = simulator.step_seconds(play.env)
        max_length = round(request.exam_seconds / step_seconds) if is_exam else int(play.env.max_episode_length)
        steps = request.steps or max_length
        recording = _Recording(
            envs,
            device,
            _target_scale(simulator, play, device) / step_seconds,
            one_each=not request.steps,
            keeps=bool(request.trajectories),
        )
        commands = begin_exam(simulator, play.env) if is_exam else None
        observations = reset(play.env)
        for step in range(steps):
            pulse(step, steps)
            if commands is not None:
                simulator.set_command(play.env, commands)
            state = simulator.robot_state(play.env)
            actions = play.actor(observations)
            observations, rewards, dones, extras = play.env.step(actions)
            play.actor.reset(dones)
            recording.add(state, actions, rewards, dones.bool(), extras["time_outs"].bool())
            if not recording.is_alive.any():
                break
        task_id = play.config.task_id
    if request.trajectories:
        recording.save(Path(request.trajectories))
    return protocol.Evaluated(task_id, simulator.versions(), max_length, step_seconds, recording.episodes())


def begin_exam(simulator: Simulator, env: VecEnv) -> torch.Tensor:
    """Give each robot its terrain, from its reset on; the commands, shape (num_envs, 3), to be set in each step."""
    robots = range(env.num_envs)
    simulator.set_terrain(env, torch.tensor([exam.difficulty_of(each) for each in robots], device=env.device))
    return torch.tensor([exam.COMMANDS[exam.command_of(each)] for each in robots], device=env.device)


def _target_scale(simulator: Simulator, play: Play, device: str) -> torch.Tensor:
    """How far each number of an action moves its joint's target [rad], shape (num_actions,)."""
    return torch.tensor([action.scale for action in simulator.interface(play.env, play.config).actions], device=device)


class _Recording:
    """What happened to each robot, in its first episode or in all."""

    def __init__(self, num_envs: int, device: str, target_scale: torch.Tensor, *, one_each: bool, keeps: bool) -> None:
        """Begin.

        Args:
            num_envs: side by side.
            device: where the tensors are.
            target_scale: what turns the change of an action into the speed of the joints' targets [rad/s].
            one_each: nothing counts after an env's first episode.
            keeps: every step, for ``save``.
        """
        self._one_each = one_each
        self._ended: list[protocol.Episode] = []
        self._steps: list[dict[str, np.ndarray]] | None = [] if keeps else None
        self.is_alive = torch.ones(num_envs, dtype=torch.bool, device=device)
        self._target_scale = target_scale
        self._last_actions: torch.Tensor | None = None
        self._sums = torch.zeros(num_envs, 7, dtype=torch.float64, device=device)
        """Of the episodes that go on: steps, rewards, squares of both velocities' errors, speed, power, and squares
        of the targets' speed (from an episode's second step on)."""

    def add(
        self,
        state: RobotState,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        dones: torch.Tensor,
        time_outs: torch.Tensor,
    ) -> None:
        """Take a step: the state before it, what was done, and what came of it; tensors over the envs."""
        alive = self.is_alive
        if self._steps is not None:
            step = {"alive": alive, "action": actions, "reward": rewards, "done": dones, "time_out": time_outs}
            self._steps.append({name: tensor.cpu().numpy().copy() for name, tensor in (step | vars(state)).items()})
        if self._last_actions is None:
            self._last_actions = actions.clone()
        is_first = (self._sums[:, 0] == 0.0)[:, None]
        changes = torch.where(is_first, 0.0, actions - self._last_actions) * self._target_scale
        self._last_actions = actions.clone()
        step_sums = torch.stack(
            [
                torch.ones_like(rewards),
                rewards,
                (state.lin_vel[:, :2] - state.command[:, :2]).square().sum(dim=1),
                (state.ang_vel[:, 2] - state.command[:, 2]).square(),
                state.lin_vel[:, :2].norm(dim=1),
                state.power,
                changes.square().mean(dim=1),
            ],
            dim=1,
        )
        self._sums += torch.where(alive[:, None], step_sums.double(), 0.0)
        ended = alive & dones
        self._ended += self._episodes(ended, fell=~time_outs)
        self._sums[ended] = 0.0
        if self._one_each:
            self.is_alive = alive & ~dones

    def episodes(self) -> list[protocol.Episode]:
        """Those that have ended and those that go on, by env; what goes on counts as far as it came."""
        going_on = self._episodes(self._sums[:, 0] > 0, fell=torch.zeros_like(self.is_alive), cut_off=True)
        return sorted(self._ended + going_on, key=lambda episode: episode.env)

    def _episodes(self, of: torch.Tensor, fell: torch.Tensor, *, cut_off: bool = False) -> list[protocol.Episode]:
        """The episodes of some envs, which are picked by a mask, as far as they are now."""
        sums = self._sums[of]
        if not sums.isfinite().all():
            raise FloatingPointError("a reward or a velocity was not finite in play")
        rows = zip(of.nonzero()[:, 0].tolist(), fell[of].tolist(), sums.tolist(), strict=True)
        return [
            protocol.Episode(
                total_reward=total,
                length=int(length),
                lin_vel_rmse=math.sqrt(lin / length),
                ang_vel_rmse=math.sqrt(ang / length),
                speed=speed / length,
                power=power / length,
                target_rate=math.sqrt(changes / max(length - 1, 1)),
                fell=fall,
                cut_off=cut_off,
                env=env,
            )
            for env, fall, (length, total, lin, ang, speed, power, changes) in rows
        ]

    def save(self, path: Path) -> None:
        """Write each step's arrays, stacked: (steps, num_envs, ...)."""
        assert self._steps is not None
        arrays: dict[str, Any] = {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez_compressed(file, **arrays)
