"""What the numbers that go into a policy and come out of it mean."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ObservationTerm:
    """A part of the policy's input: ``scale * clip(measured - offset)``, with its history, oldest first.

    Attributes:
        name: as the simulator calls it.
        size: how many numbers it is, its history included.
        quantity: what is measured, in words.
        unit: of what is measured; empty where it has none.
        parts: the name of each number of one step, such as joints or axes.
        offset: of each number of one step, in the unit; ``None``: nothing is subtracted.
        clip: the bounds, in the unit; ``None``: not clipped.
        scale: one factor or one a number.
        delay: the least and the greatest age of the measurement in training [steps].
        history: how many steps it holds.
    """

    name: str
    size: int
    quantity: str
    unit: str
    parts: list[str]
    offset: list[float] | None = None
    clip: list[float] | None = None
    scale: float | list[float] = 1.0
    delay: list[int] = field(default_factory=lambda: [0, 0])
    history: int = 1


@dataclass(frozen=True)
class JointAction:
    """What one number of the policy's output means: target [rad] = default_position + scale * action.

    Attributes:
        name: of the joint.
        scale: [rad].
        default_position: [rad].
        stiffness: of the position controller [N m/rad]; ``None``: it is no such controller, but a network.
        damping: of the position controller [N m s/rad]; ``None``: likewise.
        target_limits: the bounds that the target is clipped to [rad]; ``None``: not clipped.
    """

    name: str
    scale: float
    default_position: float
    stiffness: float | None
    damping: float | None
    target_limits: list[float] | None


@dataclass(frozen=True)
class PolicyInterface:
    """All that a robot must know of a policy's input and output.

    Attributes:
        observations: in the order of the input.
        actions: in the order of the output.
        action_clip: the policy's output is clipped to plus and minus this; ``None``: not clipped.
    """

    observations: list[ObservationTerm]
    actions: list[JointAction]
    action_clip: float | None
