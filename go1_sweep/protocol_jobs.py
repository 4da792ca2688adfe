"""The messages of ``protocol.py`` that are about a trained policy: what a worker does with it, and what it says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """A trained policy.

    Attributes:
        checkpoint: its file.
        task: that it was trained on.
        parameters: that it was trained with.
    """

    checkpoint: str
    task: str
    parameters: dict[str, bool | int | float | str]


@dataclass(frozen=True)
class Evaluate:
    """Judge in the exam (see ``exam.py``); or play in the play variant, one episode in each env, or a number of steps.

    Attributes:
        num_envs: side by side.
        seed: of the envs.
        steps: of play that each env takes, through the ends of its episodes; 0: until it has ended one.
        trajectories: the ``.npz`` file for what happened in every step; empty: it is not kept.
        exam_seconds: that the exam lasts [s]; 0: it is play.
    """

    policy: Policy
    num_envs: int
    seed: int
    steps: int
    trajectories: str
    exam_seconds: float


@dataclass(frozen=True)
class Episode:
    """What became of one robot.

    Attributes:
        total_reward: the return, not discounted.
        length: steps.
        lin_vel_rmse: of the horizontal velocity in the base frame from the commanded one [m/s].
        ang_vel_rmse: of the yaw rate from the commanded one [rad/s].
        speed: mean of the horizontal one [m/s].
        power: mean of what the motors put in, over the robot's weight [W/N].
        target_rate: how fast the joints' target positions change, root mean square over steps and joints [rad/s].
        fell: whether a termination ended it that is no time-out.
        cut_off: whether it still went on when the play was over.
        env: its place among the envs.
    """

    total_reward: float
    length: int
    lin_vel_rmse: float
    ang_vel_rmse: float
    speed: float
    power: float
    target_rate: float
    fell: bool
    cut_off: bool
    env: int


@dataclass(frozen=True)
class Evaluated:
    """The answer to ``Evaluate``.

    Attributes:
        versions: of what the play rests on.
        episodes: by env, and in the order in which they were played.
        max_length: of an episode, or of the exam, in steps.
        step_seconds: that a step stands for.
    """

    task_id: str
    versions: dict[str, str]
    max_length: int
    step_seconds: float
    episodes: list[Episode]


@dataclass(frozen=True)
class Film:
    """Film one robot.

    Attributes:
        seed: of the env.
        length: steps to play.
        interval: every how many steps a picture is taken.
        video: the ``.mp4`` file; complete when it is there.
    """

    policy: Policy
    seed: int
    length: int
    interval: int
    video: str


@dataclass(frozen=True)
class Export:
    """Write the policy as ONNX and TorchScript, with its description and the checkpoint.

    Attributes:
        folder: for the files; exists.
        origin: where the policy comes from, for its description.
        exam: how it did there, likewise.
    """

    policy: Policy
    folder: str
    origin: dict[str, str]
    exam: dict[str, float]


@dataclass(frozen=True)
class View:
    """Show the policy in the simulator's viewer until that is closed.

    Attributes:
        seed: of the envs.
        steps: after which the viewer closes itself; 0: never.
        viewer: ``window`` or ``browser``.
    """

    policy: Policy
    num_envs: int
    seed: int
    steps: int
    viewer: str


@dataclass(frozen=True)
class Working:
    """A job is not done yet, and the worker is well; sent every few seconds.

    Attributes:
        done: steps.
        steps: that there are at most.
    """

    done: int
    steps: int


@dataclass(frozen=True)
class Viewing:
    """The viewer is open.

    Attributes:
        address: for a browser; empty: in a window.
    """

    address: str


@dataclass(frozen=True)
class Finished:
    """``Film`` or ``Export`` is done, and the files are complete; or ``View`` is over."""


@dataclass(frozen=True)
class Refused:
    """The job cannot be done.

    Attributes:
        why: one line for people.
        is_bad_input: whether what was asked for is at fault, such as a checkpoint of another task.
    """

    why: str
    is_bad_input: bool = False


Job = Evaluate | Film | Export | View
"""What a worker does with a trained policy."""

Note = Working | Viewing
"""What is told while a job lasts."""

Answer = Evaluated | Finished | Refused
"""What comes of a job."""
