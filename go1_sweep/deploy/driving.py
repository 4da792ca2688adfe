"""A policy that drives its robot for as long as somebody looks, in real time. It knows nobody who looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from go1_sweep.deploy.go1 import Go1
from go1_sweep.deploy.policy import BundleError, Policy

PUSH = 1.0
"""What a push adds to the velocity of the robot's base [m/s]."""

LIES_SECONDS = 2.0
"""So long a robot that fell lies there before it stands again."""

SECONDS_KEPT = 10.0
"""Of the past, for plots."""

SHOWN_SECONDS = (0.015, 0.1)
"""From one look at the robot to the next: at least, and at most where there is no time to spare."""

BEHIND_SECONDS = 0.1
"""What is lost beyond that is not caught up with: the robot would rush."""


class Drive:
    """A Go1 and the policy that drives it.

    Attributes:
        policy: of the bundle.
        robot: in plain MuJoCo, on flat ground.
        falls: how often it fell.
        pushes: how often it was pushed.
        past: of each step kept, what it was told and what it did, (2, 3) [m/s, m/s, rad/s].
    """

    def __init__(self, folder: Path) -> None:
        """Load it.

        Args:
            folder: of the bundle.

        Raises:
            BundleError: it is no bundle, or no policy for a Go1 in MuJoCo.
            ModuleNotFoundError: mjlab, which brings the model, or onnxruntime is not installed.
        """
        try:
            self.policy = Policy.load(folder)
            self.robot = Go1(self.policy)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the bundle in {folder} is damaged: {type(error).__name__} {error}") from None
        self._random = np.random.default_rng()
        self.falls = self.pushes = 0
        self.past: deque[np.ndarray] = deque(maxlen=round(SECONDS_KEPT / self.policy.step_seconds))
        self.reset()

    @property
    def lies(self) -> bool:
        """Whether it has fallen and not stood up yet."""
        return self._lies_for > 0.0

    def reset(self) -> None:
        """Stand where it began."""
        self.robot.reset()
        self.policy.reset()
        self._targets = self.robot.data.ctrl.copy()
        self._lies_for = 0.0

    def push(self) -> None:
        """From any side."""
        self.pushes += 1
        toward = self._random.uniform(0.0, 2 * np.pi)
        self.robot.push(PUSH * np.array([np.cos(toward), np.sin(toward), 0.0]))

    def step(self, command: np.ndarray) -> None:
        """Let a control period pass.

        Args:
            command: forward and left [m/s], turning left [rad/s], (3,).
        """
        told = np.clip(command, *self.policy.command_limits)
        if self.lies:
            self._lies_for -= self.policy.step_seconds
            if not self.lies:
                self.reset()
        else:
            try:
                self._targets = self.policy(self.robot.observe(told))
            except ValueError:  # it has moved a joint as no Go1 can
                self._fall()
        self.robot.act(self._targets)
        if self.robot.has_fallen and not self.lies:
            self._fall()
        self.past.append(np.array([told, self.robot.velocity]))

    def _fall(self) -> None:
        self.falls += 1
        self._lies_for = LIES_SECONDS


class Loop:
    """Lets one of several drives go on; told from other threads what to do.

    Attributes:
        drive: that goes on.
        command: see ``Drive.step``.
        speed: simulated over real time, as it should be.
        is_paused: whether time stands still.
        reached: simulated over real time, as it is.
    """

    def __init__(self, drive: Drive) -> None:
        self.drive = drive
        self.command = np.zeros(3)
        self.speed = 1.0
        self.is_paused = False
        self.reached = 1.0
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def ask(self, what: Callable[[], None]) -> None:
        """Have that done between two steps."""
        self._asked.put(what)

    def choose(self, drive: Drive) -> None:
        """Go on with another one, from its beginning; to be asked for."""
        drive.reset()
        drive.past.clear()
        self.drive = drive

    def run(self, show: Callable[[], None]) -> None:
        """Go on for ever.

        Args:
            show: called when somebody could see a difference, and there is time for it.
        """
        least, most = SHOWN_SECONDS
        due = shown_at = time.monotonic()
        meter = _Meter()
        while True:
            while not self._asked.empty():
                self._asked.get()()
            passed = 0.0 if self.is_paused else self.drive.policy.step_seconds
            if not self.is_paused:
                self.drive.step(self.command)
            due += passed / self.speed or least
            self.reached = meter.reached(passed)
            now = time.monotonic()
            if now - shown_at >= (least if now < due else most):
                shown_at = now
                show()
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
            elif now > due + BEHIND_SECONDS:
                due = now


class _Meter:
    """How much time was simulated in the last second."""

    def __init__(self) -> None:
        self._since, self._passed, self._reached = time.monotonic(), 0.0, 1.0

    def reached(self, passed: float) -> float:
        """Simulated over real time, when that much more was simulated [s]."""
        self._passed += passed
        if (real := time.monotonic() - self._since) >= 1.0:
            self._since, self._reached, self._passed = time.monotonic(), self._passed / real, 0.0
        return self._reached
