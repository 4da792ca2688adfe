"""Runs an exported policy: numpy and onnxruntime alone, in this one file, for Python 3.8 and later.

Each bundle has a copy of it. On the robot, every ``policy.step_seconds``::

    policy = Policy.load("best")
    policy.reset()
    targets = policy({"base_ang_vel": ..., "joint_pos": ..., ...})

The targets are for position controllers with ``policy.stiffness`` and ``policy.damping``.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
"""Of ``policy.json``; another one is refused."""

DESCRIPTION, NETWORK = "policy.json", "policy.onnx"

LAST_ACTION = "last_action"
"""The observation that the policy makes itself."""

BEYOND = 0.2
"""So far a joint may be measured beyond its limits [rad]; what is further is a wrong order, sign or offset."""


class BundleError(Exception):
    """The folder holds no bundle, or not what was exported: a sentence."""


class Policy:
    """A policy as it was exported.

    Attributes:
        description: what ``policy.json`` says.
        inputs: of a call: how many numbers each observation is, by its name.
        joints: that the policy moves, in the order of its targets.
        step_seconds: from one call to the next [s].
        stiffness: of each joint's controller in training [N m/rad]; NaN where that was a network.
        damping: likewise [N m s/rad].
        torque_limits: of each joint's motor in training [N m].
        command_limits: the least and the greatest command in training, (2, 3) [m/s, m/s, rad/s].
        action: the network's last output, (joints,); 0 after a reset.
    """

    def __init__(self, description: dict[str, Any], session: Any) -> None:
        """See ``load``; ``session``: of onnxruntime, for the network."""
        actions = description["actions"]

        def of_joints(name: str) -> np.ndarray:
            return np.array([joint[name] for joint in actions], dtype=float)

        self.description = description
        self.joints: list[str] = [joint["name"] for joint in actions]
        self.step_seconds: float = description["step_seconds"]
        self.stiffness, self.damping = of_joints("stiffness"), of_joints("damping")
        self.torque_limits = of_joints("torque_limit")
        self.command_limits = _limits(description["command_limits"])
        self._scale, self._default = of_joints("scale"), of_joints("default_position")
        self._target_limits = _limits([joint["target_limits"] for joint in actions])
        self._action_limit = np.inf if description["action_clip"] is None else description["action_clip"]
        self._session, self._input = session, description["input"]
        self._terms: list[_Term] = []
        for each in description["observations"]:
            begin = self._terms[-1].place.stop if self._terms else 0
            self._terms.append(_Term(each, begin, description))
        self.inputs: dict[str, int] = {term.name: term.size for term in self._terms if term.name != LAST_ACTION}
        self._row = np.zeros((1, self._terms[-1].place.stop), dtype=np.float32)
        self.reset()

    @classmethod
    def load(cls, folder: str | Path) -> Policy:
        """The policy in a folder that go1_sweep has exported; of its files, a robot needs two.

        Raises:
            BundleError: a file is missing, is not what was exported, or is of another format.
        """
        import onnxruntime  # a simulator that exports need not have it

        folder = Path(folder)
        try:
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder / DESCRIPTION} cannot be read: {error}") from None
        found = description.get("format") if isinstance(description, dict) else None
        if found != FORMAT:
            raise BundleError(f"{folder / DESCRIPTION} is of format {found}, and this is for format {FORMAT}")
        for name, expected in description["sha256"].items():
            file = folder / name
            if name != NETWORK and not file.exists():
                continue
            try:
                content = file.read_bytes()
            except OSError as error:
                raise BundleError(f"{file} cannot be read: {error.strerror}") from None
            if hashlib.sha256(content).hexdigest() != expected:
                raise BundleError(f"{file} is not the file that was exported: its SHA-256 is another")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the network is small: threads would wait for each other
        session = onnxruntime.InferenceSession(str(folder / NETWORK), options, providers=["CPUExecutionProvider"])
        return cls(description, session)

    def reset(self) -> None:
        """Begin anew: nothing was done yet, and what is measured first is all that there is of the past."""
        self.action = np.zeros(len(self.joints), dtype=np.float32)
        for term in self._terms:
            term.past.clear()

    def __call__(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The joints' targets, (joints,) [rad].

        Args:
            observation: what is measured now, by the names of ``inputs``, each as ``policy.json`` describes it. A
                command is clipped to ``command_limits``.

        Raises:
            ValueError: one is missing, unknown, of another size, not finite, or nothing that a joint can do; or what
                the network made of it is not finite. It is as if there had been no call.
        """
        if observation.keys() != self.inputs.keys():
            raise ValueError(f"the policy takes {', '.join(self.inputs)}, and was given {', '.join(observation)}")
        for term in self._terms:
            self._row[0, term.place] = term.with_past(observation.get(term.name, self.action))
        (actions,) = self._session.run(None, {self._input: self._row})
        action = np.clip(actions[0], -self._action_limit, self._action_limit)
        if not np.isfinite(action).all():
            raise ValueError("what the network gives is not finite")
        self.action = action
        for term in self._terms:
            term.keep()
        return np.clip(self._default + self._scale * action, *self._target_limits)

    def places(self, order: str) -> np.ndarray:
        """Where the joints of another order are among ``joints``.

        ``targets[policy.places("unitree_sdk")]`` are the targets in the order of the SDK's motors.

        Args:
            order: ``simulator`` (in which the policy was trained), ``unitree_sdk`` or ``mujoco``.
        """
        return np.array([self.joints.index(joint) for joint in self.description["joint_order"][order]])


class _Term:
    """An observation: the next part of the network's input."""

    def __init__(self, term: dict[str, Any], begin: int, description: dict[str, Any]) -> None:
        self.name: str = term["name"]
        self.size = term["size"] // term["history"]
        self.place = slice(begin, begin + term["size"])
        self._steps = term["history"] - 1
        self._now = np.zeros(self.size)
        self.past: deque[np.ndarray] = deque(maxlen=self._steps)
        """What was measured before, oldest first, as the network takes it."""
        self._parts: list[str] = term["parts"]
        self._offset = np.array(term["offset"] or 0.0)
        self._clip = _limits([term["clip"]])
        self._scale = np.array(term["scale"])
        self._measurable = _limits([None])
        if self.name == "joint_pos":
            limits = {joint["name"]: joint["position_limits"] for joint in description["actions"]}
            self._measurable = np.add(_limits([limits.get(joint) for joint in self._parts]), [[-BEYOND], [BEYOND]])
        self._command = _limits(description["command_limits"] if self.name == "command" else [None])

    def with_past(self, value: Any) -> np.ndarray:
        """What the network takes, (size * history,), oldest first, for what is measured now."""
        self._now = now = self._prepared(value)
        return np.concatenate([*(self.past or self._steps * [now]), now]) if self._steps else now

    def keep(self) -> None:
        """What was measured now is of the past."""
        self.past.extend([self._now] if self.past else self._steps * [self._now])

    def _prepared(self, value: Any) -> np.ndarray:
        measured = np.asarray(value, dtype=float).ravel()
        if measured.size != self.size:
            raise ValueError(f"{self.name} is {self.size} numbers, not {measured.size}")
        if not np.isfinite(measured).all():
            raise ValueError(f"{self.name} is not finite: {measured}")
        low, high = self._measurable
        beyond = (measured < low) | (measured > high)
        if beyond.any():
            joint = self._parts[int(beyond.argmax())]
            raise ValueError(f"{self.name}: {joint} at {measured[beyond][0]:.2f} rad is beyond what the joint can do")
        clipped = np.clip(np.clip(measured, *self._command) - self._offset, *self._clip)
        return self._scale * clipped


def _limits(pairs: list[Any]) -> np.ndarray:
    """The lower and the upper limits, (2, number); infinite where there are none."""
    return np.array([pair or (-np.inf, np.inf) for pair in pairs], dtype=float).reshape(-1, 2).T
