"""What the numbers that go into a policy and come out of it mean."""

from __future__ import annotations

from dataclasses import dataclass, field

UNITREE_SDK = [f"{leg}_{joint}_joint" for leg in ("FR", "FL", "RR", "RL") for joint in ("hip", "thigh", "calf")]
"""The Go1's joints in the order of the SDK's motors (unitree_legged_sdk, quadruped.h), and of MuJoCo's model of it."""

_VELOCITY = (
    "no sensor of the Go1 measures how fast it moves: that must be estimated, from its legs and its IMU say, or the "
    "policy be trained without it"
)
NOT_MEASURED = {
    "base_lin_vel": _VELOCITY,
    "imu_lin_vel": _VELOCITY,
    "height_scan": "no sensor of the Go1 measures the ground around it: it must come from a map, made of its cameras' "
    "pictures say, or the policy be trained without it",
}
"""What a policy may observe, and a robot cannot; by the name of the observation."""

MEASURED = ("base_ang_vel", "projected_gravity", "joint_pos", "joint_vel", "last_action", "command")
"""What a robot measures, or is told; likewise."""

NOT_MEASURED_TERMS = ("base_lin_vel", "height_scan")
"""What the tasks of both simulators call it."""


@dataclass(frozen=True)
class ObservationTerm:
    """A part of the policy's input: ``scale * clip(measured - offset)``, with its history, oldest first.

    Attributes:
        name: the same from each simulator; of what is not known here, the simulator's own.
        term: as the simulator calls it.
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
    term: str
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
        torque_limit: the most that the motor gives [N m]; ``None``: without limit.
        position_limits: between which the joint can move [rad].
        target_limits: the bounds that the target is clipped to [rad]; ``None``: not clipped.
    """

    name: str
    scale: float
    default_position: float
    stiffness: float | None
    damping: float | None
    torque_limit: float | None
    position_limits: list[float]
    target_limits: list[float] | None


@dataclass(frozen=True)
class PolicyInterface:
    """All that a robot must know of a policy's input and output.

    Attributes:
        observations: in the order of the input.
        actions: in the order of the output.
        action_clip: the policy's output is clipped to plus and minus this; ``None``: not clipped.
        joints: of the robot, in the simulator's order.
        decimation: how many steps of the physics an action is held.
    """

    observations: list[ObservationTerm]
    actions: list[JointAction]
    action_clip: float | None
    joints: list[str]
    decimation: int

    @property
    def joint_order(self) -> dict[str, list[str]]:
        """The joints in the order of the simulator and, if they are a Go1's, of others."""
        orders = {"simulator": self.joints}
        if sorted(self.joints) == sorted(UNITREE_SDK):
            orders |= {"unitree_sdk": UNITREE_SDK, "mujoco": UNITREE_SDK}
        return orders

    @property
    def warnings(self) -> list[str]:
        """What stands between the policy and the robot, a sentence each."""
        unknown = "nothing here knows whether a sensor of the Go1 measures it"
        names = [each.name for each in self.observations if each.name not in MEASURED]
        found = [f"{name}: {NOT_MEASURED.get(name, unknown)}" for name in names]
        if any(each.stiffness is None for each in self.actions):
            found.append("in training the motors were a network: stiffness and damping for the robot are not known")
        return [*found, "this policy was never tried on a robot"]
