"""What mjlab has of Isaac Lab: managers that say what a policy's input is, and terrain with levels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from go1_sweep.simulators.entries import ConfigError
from go1_sweep.simulators.policy_interface import ObservationTerm

AXES = ["x", "y", "z"]

GRAVITY = 9.81
"""[m/s^2]"""

GRAVITY_DIRECTION = {
    "name": "projected_gravity",
    "quantity": "direction of gravity in the base frame, a unit vector",
    "unit": "",
    "parts": AXES,
}

COMMAND = {
    "name": "command",
    "quantity": "commanded velocity in the base frame",
    "unit": "m/s, m/s, rad/s",
    "parts": ["forward", "left", "turn left"],
}
"""The description of a velocity command."""


def observation_term(term: str, shape: tuple[int, ...], cfg: Any, **rest: Any) -> ObservationTerm:
    """A part of a policy's input.

    Args:
        term: its name in its manager.
        shape: of what it gives for one env.
        cfg: of the term.
        rest: what its configuration does not say, perhaps its name.
    """
    return ObservationTerm(
        **{"name": term, "term": term, **rest},
        size=torch.Size(shape).numel(),
        clip=None if cfg.clip is None else list(cfg.clip),
        scale=1.0 if cfg.scale is None else torch.as_tensor(cfg.scale).tolist(),
        history=max(1, cfg.history_length),
    )


def velocity_command(env: Any) -> Any:
    """The term of an env's command manager that commands a velocity.

    Raises:
        ConfigError: there is none.
    """
    for name in env.command_manager.active_terms:
        term = env.command_manager.get_term(name)
        if hasattr(term, "vel_command_b"):
            return term
    raise ConfigError("the task has no velocity command, so that nothing says how well its robot follows")


def command_limits(commands: Iterable[Any]) -> list[list[float]]:
    """The least and the greatest velocity command, by its parts; none where no command's configuration has ranges."""
    for each in commands:
        ranges: Any = getattr(each, "ranges", None)
        if hasattr(ranges, "lin_vel_x"):
            return [list(limits) for limits in (ranges.lin_vel_x, ranges.lin_vel_y, ranges.ang_vel_z)]
    return []


def last_action(joints: list[str]) -> dict[str, Any]:
    """The description of the policy's last output."""
    quantity = "the policy's last output, clipped to action_clip; 0 before the first"
    return {"name": "last_action", "quantity": quantity, "unit": "", "parts": joints}


def height_scan(points: torch.Tensor, offset: float) -> dict[str, Any]:
    """The description of a scan of the ground at points, (number, 3), in the base frame [m]."""
    return {
        "name": "height_scan",
        "quantity": "height of the base above the ground, at points x and y meters forward and left of it",
        "unit": "m",
        "parts": [f"x={x:+.2f} y={y:+.2f}" for x, y, _ in points.tolist()],
        "offset": [offset] * len(points),
    }


def undescribed(simulator: str, function: Any) -> dict[str, Any]:
    """The description of what a function gives that is not known here."""
    name = getattr(function, "__name__", type(function).__name__)
    return {"quantity": f"what {simulator}'s {name} gives", "unit": "", "parts": []}


def of_joints(
    env: Any, cfg: Any, name: str, quantity: str, unit: str, default: Callable[[Any], torch.Tensor]
) -> dict[str, Any]:
    """The description of a quantity of the joints that a term observes, relative to its default.

    Args:
        env: whose term it is.
        cfg: of the term.
        name: of the observation.
        quantity: in words.
        unit: of it.
        default: takes it from the robot's data, shape (num_envs, num_joints).
    """
    asset = cfg.params.get("asset_cfg")
    robot = env.scene[asset.name if asset else "robot"]
    given = asset.joint_ids if asset else slice(None)
    ids = list(range(robot.num_joints))[given] if isinstance(given, slice) else [int(i) for i in given]
    parts, offset = [robot.joint_names[i] for i in ids], default(robot.data)[0, ids].tolist()
    return {"name": name, "quantity": quantity, "unit": unit, "parts": parts, "offset": offset}


def first_row(value: torch.Tensor | float, term: Any) -> list[float]:
    """The value of the first env for each number of an action, from one for all or one per env and number."""
    return torch.as_tensor(value).cpu().broadcast_to(term.num_envs, term.action_dim)[0].tolist()


def specific_power(torques: torch.Tensor, velocities: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """See ``RobotState.power``.

    Args:
        torques: of the motors, (num_envs, num_joints) [N m].
        velocities: of the joints, (num_envs, num_joints) [rad/s].
        mass: of the robot [kg].
    """
    return (torques * velocities).clamp(min=0.0).sum(dim=1) / (mass * GRAVITY)


def place_on_terrain(terrain: Any, difficulty: torch.Tensor) -> None:
    """Give each env an origin on a level, in columns one after the other: see ``Simulator.set_terrain``."""
    if terrain is None or terrain.terrain_origins is None:
        return
    rows, columns = terrain.terrain_origins.shape[:2]
    levels = (difficulty * (rows - 1)).round().to(terrain.terrain_levels)
    envs = torch.arange(len(levels), device=levels.device)
    terrain.terrain_levels[:] = levels
    # One more for each round of levels, so that no level meets the same columns only.
    terrain.terrain_types[:] = (envs + envs // columns).to(terrain.terrain_types) % columns
    terrain.env_origins[:] = terrain.terrain_origins[terrain.terrain_levels, terrain.terrain_types]


def levels_on_same_terrain(
    levels: torch.Tensor, types: torch.Tensor, curriculum: dict[str, torch.Tensor]
) -> torch.Tensor:
    """The terrain level of each env, (num_envs,), from a curriculum of perhaps another number of envs.

    Each takes that of an env on the same kind of terrain; where there was none, it keeps its own.

    Args:
        levels: of the envs now.
        types: of the envs now.
        curriculum: with ``terrain_levels`` and ``terrain_types``.
    """
    levels = levels.clone()
    kept_levels, kept_types = curriculum["terrain_levels"].to(levels), curriculum["terrain_types"].to(types)
    for kind in types.unique():
        envs = (types == kind).nonzero().flatten()
        kept = kept_levels[kept_types == kind]
        if len(kept):
            levels[envs] = kept[torch.arange(len(envs), device=kept.device) % len(kept)]
    return levels
