"""What rsl_rl and the tasks log, and the column of ``logs.csv`` that it becomes."""

from __future__ import annotations

NEUTRAL_NAMES = {
    "Train/mean_reward": "mean_reward",
    "Train/mean_episode_length": "mean_episode_length",
    "Loss/value": "value_loss",
    "Loss/value_function": "value_loss",
    "Loss/surrogate": "surrogate_loss",
    "Loss/entropy": "entropy",
    "Loss/learning_rate": "learning_rate",
    "Policy/mean_std": "action_std",
    "Policy/mean_noise_std": "action_std",
    "Perf/collection_time": "collection_seconds",
    "Perf/collection time": "collection_seconds",
    "Perf/learning_time": "learning_seconds",
}
"""rsl_rl's tag, of 5 and of 3 -> our column. A tag that is not here is a column under its own name."""

OF_TASKS = {
    "Curriculum/terrain_levels/mean": "terrain_level",
    "Curriculum/terrain_levels": "terrain_level",
    "Episode_Reward/track_linear_velocity": "track_linear_velocity",
    "Episode_Reward/track_lin_vel_xy_exp": "track_linear_velocity",
    "Episode_Reward/track_angular_velocity": "track_angular_velocity",
    "Episode_Reward/track_ang_vel_z_exp": "track_angular_velocity",
}
"""Tags of mjlab's and Isaac Lab's tasks -> our column: the terrain's level, which only rough has, and two parts of the
reward, per second of a whole episode."""

LEFT_OUT = ("Train/mean_reward/time", "Train/mean_episode_length/time", "Perf/total_fps")
"""Tags that say again what another column says."""


OURS = ("kl", "steps_per_second")
"""Columns that we add, and that a score may be made of."""


def column(tag: str) -> str:
    """The column that a tag becomes; a column stays what it is."""
    return OF_TASKS.get(tag) or NEUTRAL_NAMES.get(tag, tag)


def is_paid_by(metric: str, term: str) -> bool:
    """Whether a column (or tag) is made of a term of the task's reward: ``mean_reward`` of each."""
    return column(metric) in ("mean_reward", column(f"Episode_Reward/{term}"))
