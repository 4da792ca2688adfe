"""Films a policy: an H.264 file that browsers play, from a camera that follows the robot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from go1_sweep import protocol
from go1_sweep.paths import replacing
from go1_sweep.simulators.base import RobotState, Simulator
from go1_sweep.trial.policy import playing, reset

FRAME_SIZE = (640, 480)
"""Pixels, multiples of 16 as H.264 likes them; a software renderer takes hardly longer than for 320x240."""

COMMANDS = ((0.8, 0.0, 0.0), (0.5, 0.0, 0.5), (0.0, 0.4, 0.0), (-0.5, 0.0, 0.0))
"""What is commanded in each quarter of the film: forward and sideways [m/s], turning [rad/s].

Within the ranges that flat and rough train on from their first step.
"""


def film(simulator: Simulator, request: protocol.Film, device: str, pulse: Callable[[int, int], None]) -> None:
    """Play the policy for ``length`` steps and film every ``interval``-th, at real speed.

    Args:
        simulator: that plays.
        request: what.
        device: where.
        pulse: called in each step, with how many are done and how many there are.

    Raises:
        PolicyError: see ``playing``.
        OSError: the file cannot be written, or there is no encoder.
    """
    with (
        tempfile.TemporaryDirectory(prefix="go1_sweep-") as scratch,
        playing(
            simulator, request.policy, "play", num_envs=1, seed=request.seed, device=device, frame_size=FRAME_SIZE
        ) as play,
        torch.inference_mode(),
    ):
        step_seconds = simulator.step_seconds(play.env)
        file = Path(scratch, "video.mp4")
        frames = 0
        observations = reset(play.env)
        with _writer(file, 1.0 / (step_seconds * request.interval)) as video:
            for step in range(request.length):
                pulse(step, request.length)
                simulator.set_command(play.env, torch.tensor(COMMANDS[step * len(COMMANDS) // request.length]))
                if step % request.interval == 0:
                    frame = simulator.render(play.env)
                    video.append_data(captioned(frame, simulator.robot_state(play.env), step * step_seconds))
                    frames += 1
                observations, *_ = play.env.step(play.actor(observations))
        _publish(file, Path(request.video), frames)


def _publish(file: Path, final: Path, frames: int) -> None:
    """Move the video to its place if it is whole: the encoder's end, on a full disk for instance, goes unnoticed."""
    try:
        with imageio.get_reader(file) as reader:
            whole = cast(Any, reader).count_frames() == frames
    except OSError:
        whole = False
    if not whole:
        raise OSError(f"the encoder did not write all {frames} pictures; is there room in {file.parent.parent}?")
    with replacing(final) as beside:
        shutil.copyfile(file, beside)


def _writer(path: Path, fps: float) -> Any:
    """An encoder; its index comes first in the file, so that a browser plays what it has loaded so far."""
    return imageio.get_writer(
        path, fps=fps, codec="libx264", pixelformat="yuv420p", output_params=["-movflags", "+faststart"]
    )


def captioned(frame: np.ndarray, state: RobotState, seconds: float) -> np.ndarray:
    """The picture, (height, width, 3) of uint8, with the first robot's commanded and actual velocity written on it."""
    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    line = image.height // 20
    font = ImageFont.load_default(line * 0.8)
    actual = (*state.lin_vel[0, :2].tolist(), state.ang_vel[0, 2].item())
    rows = [
        (f"{seconds:.1f} s", ("forward m/s", "left m/s", "turn left rad/s")),
        ("command", [f"{value:+.2f}" for value in state.command[0].tolist()]),
        ("actual", [f"{value:+.2f}" for value in actual]),
    ]
    for y, (name, cells) in enumerate(rows):
        for x, cell in enumerate((name, *cells)):
            at = (line // 2 + x * image.width // 5, line // 2 + y * line)
            draw.text(at, cell, fill="white", font=font, stroke_width=1, stroke_fill="black")  # terrain may be white
    return np.asarray(image)
