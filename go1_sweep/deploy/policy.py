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
from collections.abc import Callable, Mapping
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

POSSIBLE = {"m": 10.0, "m/s": 20.0, "rad/s": 60.0}
"""What is measured in that unit is no more than that, either way, on a Go1: else it is degrees, or a broken sensor."""

UNIT = 0.2
"""So far from 1 may the length of a unit vector be."""


class BundleError(Exception):
    """The folder holds no bundle, or not what was exported: a sentence."""


class Policy:
    """A policy as it was exported.

    Attributes:
        description: what ``policy.json`` says.
        inputs: of a call: how many numbers each observation is, by its name.
        joints: that the policy moves, in the order of its targets.
        default_positions: of the joints, where training begins [rad].
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
        self.command_limits = _limits(description["command_limits"] or 3 * [None])
        self.default_positions, self._scale = of_joints("default_position"), of_joints("scale")
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
            BundleError: a file is missing, damaged, not what was exported, or of another format; or this onnxruntime
                cannot run the network.
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
        if fault := _fault(description, ENTRIES, "") or _size_fault(description):
            raise BundleError(f"{folder / DESCRIPTION} is damaged: {fault}")
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
        network, providers = str(folder / NETWORK), ["CPUExecutionProvider"]
        try:
            session = onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # it has a class for each
            version = onnxruntime.__version__
            raise BundleError(f"{network} cannot be run by onnxruntime {version}: {error}") from None
        taken, given = session.get_inputs()[0], session.get_outputs()[0]
        found = [taken.name, taken.shape[-1], given.shape[-1]]
        size = sum(term["size"] for term in description["observations"])
        described = [description["input"], size, len(description["actions"])]
        if found != described:
            raise BundleError(f"{network} has {found} as its input and numbers in and out, {DESCRIPTION} {described}")
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
            ValueError: one is missing, unknown, of another size, not finite, or more than a Go1 can do; or what the
                network made of it is not finite. It is as if there had been no call.
        """
        if observation.keys() != self.inputs.keys():
            raise ValueError(f"the policy takes {', '.join(self.inputs)}, and was given {', '.join(observation)}")
        for term in self._terms:
            self._row[0, term.place] = term.with_past(observation.get(term.name, self.action))
        (actions,) = self._session.run(None, {self._input: self._row})
        if not np.isfinite(actions).all():
            raise ValueError("what the network gives is not finite")
        self.action = action = np.clip(actions[0], -self._action_limit, self._action_limit)
        for term in self._terms:
            term.keep()
        return np.clip(self.default_positions + self._scale * action, *self._target_limits)

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
        self._unit: str = term["unit"]
        most = POSSIBLE.get(self._unit, np.inf)
        self._measurable = _limits([[-most, most]])
        if self.name == "joint_pos" and self._parts:
            limits = {joint["name"]: joint["position_limits"] for joint in description["actions"]}
            self._measurable = np.add(_limits([limits.get(joint) for joint in self._parts]), [[-BEYOND], [BEYOND]])
        self._command = _limits((self.name == "command" and description["command_limits"]) or [None])

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
            i = int(beyond.argmax())
            part = self._parts[i] if self._parts else i
            raise ValueError(f"{self.name}: {part} at {measured[i]:.4g} {self._unit} is more than a Go1 can do")
        if self.name == "projected_gravity" and abs(length := float(np.linalg.norm(measured)) - 1.0) > UNIT:
            raise ValueError(f"{self.name} is of length {length + 1.0:.4g}, not 1")
        clipped = np.clip(np.clip(measured, *self._command) - self._offset, *self._clip)
        return self._scale * clipped


def _limits(pairs: list[Any]) -> np.ndarray:
    """The lower and the upper limits, (2, number); infinite where there are none."""
    return np.array([pair or (-np.inf, np.inf) for pair in pairs], dtype=float).reshape(-1, 2).T


LARGEST = float(np.finfo(np.float32).max)


def _is_number(found: Any) -> bool:
    return type(found) in (int, float) and -LARGEST <= found <= LARGEST


def _is_count(found: Any) -> bool:
    return type(found) is int and found > 0


def _is_text(found: Any) -> bool:
    return isinstance(found, str)


def _is_list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda found: isinstance(found, list) and all(map(of, found))


def _is_range(found: Any) -> bool:
    return _is_list(_is_number)(found) and len(found) == 2 and found[0] <= found[1]


def _or_none(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda found: found is None or of(found)


ENTRIES: dict[str, Any] = {
    "step_seconds": lambda found: _is_number(found) and found > 0,
    "input": _is_text,
    "observations": [
        {
            "name": _is_text,
            "size": _is_count,
            "unit": _is_text,
            "parts": _is_list(_is_text),
            "offset": _or_none(_is_list(_is_number)),
            "clip": _or_none(_is_range),
            "scale": lambda found: _is_number(found) or (_is_list(_is_number)(found) and found),
            "history": _is_count,
        }
    ],
    "actions": [
        {
            "name": _is_text,
            "scale": _is_number,
            "default_position": _is_number,
            "stiffness": _or_none(_is_number),
            "damping": _or_none(_is_number),
            "torque_limit": _or_none(_is_number),
            "position_limits": _is_range,
            "target_limits": _or_none(_is_range),
        }
    ],
    "action_clip": _or_none(lambda found: _is_number(found) and found > 0),
    "joint_order": lambda found: isinstance(found, dict) and all(map(_is_list(_is_text), found.values())),
    "command_limits": lambda found: _is_list(_is_range)(found) and len(found) in (0, 3),
    "sha256": {NETWORK: _is_text},
}
"""What is read of a description."""


def _fault(found: Any, wanted: Any, entry: str) -> str:
    """What is wrong with an entry; empty: nothing."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name, each in wanted.items():
            inner = f"{entry}.{name}" if entry else name
            if fault := _fault(found[name], each, inner) if name in found else f"{inner} is missing":
                return fault
        return ""
    if isinstance(wanted, list) and isinstance(found, list) and found:
        return next(filter(None, (_fault(each, wanted[0], f"{entry}[{i}]") for i, each in enumerate(found))), "")
    return "" if callable(wanted) and wanted(found) else f"{entry} cannot be {found!r:.60}"


def _size_fault(description: dict[str, Any]) -> str:
    """Which observation is of another size than what is said of its numbers; empty: none."""
    for i, term in enumerate(description["observations"]):
        size, rest = divmod(term["size"], term["history"])
        if rest or (term["name"] == "command" and description["command_limits"] and size != 3):
            return f"observations[{i}].size cannot be {term['size']}"
        for name in ("parts", "offset", "scale"):
            said = term[name]
            if isinstance(said, list) and said and len(said) != size:
                return f"observations[{i}].{name} cannot be {said!r:.60}"
    return ""
