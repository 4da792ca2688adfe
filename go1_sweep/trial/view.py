"""Shows a policy in the simulator's own viewer."""

from __future__ import annotations

from collections.abc import Callable

from go1_sweep import protocol
from go1_sweep.simulators.base import Simulator
from go1_sweep.trial.policy import playing, reset


def view(simulator: Simulator, request: protocol.View, device: str, opened: Callable[[str], None]) -> None:
    """Play until the viewer is closed.

    Args:
        simulator: that plays.
        request: what.
        device: where.
        opened: called once, with the address for a browser, or nothing for a window.

    Raises:
        PolicyError: see ``playing``.
        ConfigError: the simulator has no viewer.
    """
    with playing(
        simulator, request.policy, "play", num_envs=request.num_envs, seed=request.seed, device=device
    ) as play:
        reset(play.env)
        simulator.view(play.env, play.actor, in_window=request.viewer == "window", steps=request.steps, opened=opened)
