"""The page: a Go1 that whoever opens it can steer, and what comes of that. All who have it open share one robot."""

from __future__ import annotations

import contextlib
import functools
import io
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import numpy as np
from viser import GuiSliderHandle, GuiUplotHandle, Icon, ViserServer, uplot

from go1_sweep.deploy.driving import SECONDS_KEPT, Drive, Loop
from go1_sweep.deploy.gate import Gate
from go1_sweep.deploy.policy import Policy
from go1_sweep.deploy.scene import Scene
from go1_sweep.errors import BadInput

COMMANDS: tuple[tuple[str, str, Any, Any], ...] = (
    ("Forward", "m/s", "I", "K"),
    ("Left", "m/s", "U", "O"),
    ("Turn left", "rad/s", "J", "L"),
)
"""A number of the command: its name, its unit, and the keys for more and for less of it."""

STEP = 0.1
"""Of a key [m/s or rad/s]."""

SPEEDS = {"0.25x": 0.25, "0.5x": 0.5, "1x": 1.0, "2x": 2.0, "4x": 4.0}

COLORS = ("#c2410c", "#1864ab")
"""Of what was commanded, and of what came of it; dark enough to be read as text."""

LEGEND = f"""The last {SECONDS_KEPT:.0f} s: <span style="color:{COLORS[0]}">commanded</span> and
<span style="color:{COLORS[1]}">actual</span>."""

KEYS = """**Keys**, each press a step of 0.1:
**I** / **K** faster forward or backward, **U** / **O** left or right, **J** / **L** turn left or right,
**0** stop, **X** push, **P** pause, **R** reset.
They act unless a field here has the focus: a click beside the panel takes it away.
The arrows and W A S D move the camera."""

PLOT_SECONDS = 0.2
"""From one drawing of the plots, and of the figures, to the next."""


class Page:
    """What a browser shows of a loop, and what it tells it."""

    def __init__(self, server: ViserServer, loop: Loop, drives: Mapping[str, Drive]) -> None:
        """Build it.

        Args:
            server: of the page.
            loop: that drives.
            drives: that one can choose from, by their names.
        """
        self._server, self._loop, self._drives = server, loop, drives
        self._told_at, self._newest = 0.0, None
        self._scene = Scene(server.scene, loop.drive.robot)
        server.initial_camera.position, server.initial_camera.look_at = (-1.1, -1.2, 0.75), (0.0, 0.0, 0.2)
        server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        server.gui.main_panel.dock_right()  # beside the robot, not before it
        self._add_choice()
        self._figures = server.gui.add_markdown("")
        self._sliders = self._add_command()
        self._add_course()
        server.gui.add_markdown(LEGEND)
        self._plots = [self._add_plot(name, unit) for name, unit, *_ in COMMANDS]
        server.gui.add_markdown(KEYS)
        self._suit(loop.drive.policy)

    def show(self) -> None:
        """What is now."""
        drive = self._loop.drive
        with self._server.atomic():
            self._scene.show(drive.robot)
            if time.monotonic() - self._told_at >= PLOT_SECONDS:
                self._told_at = time.monotonic()
                self._tell(drive)

    def _tell(self, drive: Drive) -> None:
        state = "It fell, and stands up soon" if drive.lies else "On its feet"
        pace = "paused" if self._loop.is_paused else f"{self._loop.reached:.2f}x"
        x, y = drive.robot.data.qpos[:2]
        forward, left, turn = drive.robot.velocity
        self._figures.content = (
            f"**{state}**; falls: {drive.falls}, pushes: {drive.pushes}  \n"
            f"{forward:z.2f} m/s forward, {left:z.2f} m/s left, turns {turn:z.2f} rad/s  \n"
            f"at x {x:z.1f} m, y {y:z.1f} m; speed of time: {pace}"
        )
        newest = drive.past[-1] if drive.past else None
        if newest is not self._newest:
            self._newest = newest
            past = np.array(drive.past).reshape(-1, 2, len(COMMANDS))
            seconds = drive.policy.step_seconds * np.arange(1.0 - len(past), 1.0)
            for i, plot in enumerate(self._plots):
                plot.data = (seconds, past[:, 0, i], past[:, 1, i])

    def _add_choice(self) -> None:
        choice = self._server.gui.add_dropdown("Policy", tuple(self._drives))

        def choose() -> None:
            drive = self._drives[choice.value]
            self._loop.choose(drive)
            self._suit(drive.policy)

        choice.on_update(self._asking(choose))

    def _add_command(self) -> list[GuiSliderHandle[float]]:
        gui = self._server.gui
        with gui.add_folder("Command"):
            sliders = [gui.add_slider(f"{name} [{unit}]", -1.0, 1.0, 0.05, 0.0) for name, unit, *_ in COMMANDS]
            stop = gui.add_button("Stop", icon=Icon.HAND_STOP)

        def obey() -> None:
            told = np.array([slider.value for slider in sliders])
            if np.isfinite(told).all():
                self._loop.command = told
            else:
                halt()

        def add(slider: GuiSliderHandle[float], much: float) -> None:
            slider.value = float(np.clip(round(slider.value + much, 2), slider.min, slider.max))

        def halt() -> None:
            for slider in sliders:
                slider.value = 0.0

        for slider, (name, _, more, less) in zip(sliders, COMMANDS, strict=True):
            slider.on_update(self._asking(obey))
            self._on_key(more, f"{name}: more", functools.partial(add, slider, STEP))
            self._on_key(less, f"{name}: less", functools.partial(add, slider, -STEP))
        self._on_key("0", "Stop", halt)
        stop.on_click(self._asking(halt))
        return sliders

    def _add_course(self) -> None:
        gui, loop = self._server.gui, self._loop
        push = gui.add_button("Push", icon=Icon.HAND_MOVE)
        pause = gui.add_button("Pause", icon=Icon.PLAYER_PAUSE)
        reset = gui.add_button("Reset", icon=Icon.RELOAD)
        speed = gui.add_dropdown("Speed", tuple(SPEEDS), initial_value="1x")

        def change_pause() -> None:
            loop.is_paused = not loop.is_paused
            pause.label, pause.icon = ("Go on", Icon.PLAYER_PLAY) if loop.is_paused else ("Pause", Icon.PLAYER_PAUSE)

        def change_speed() -> None:
            loop.speed = SPEEDS[speed.value]

        for button, key, what in (
            (push, "X", lambda: loop.drive.push()),
            (pause, "P", change_pause),
            (reset, "R", lambda: loop.drive.reset()),
        ):
            button.on_click(self._asking(what))
            self._on_key(key, button.label, what)
        speed.on_update(self._asking(change_speed))

    def _add_plot(self, name: str, unit: str) -> GuiUplotHandle:
        empty = np.zeros(0)
        return self._server.gui.add_uplot(
            (empty, empty, empty),
            (uplot.Series(), *(uplot.Series(stroke=color, width=2) for color in COLORS)),
            title=f"{name} [{unit}]",
            legend=uplot.Legend(show=False),
            aspect=2.8,
        )

    def _suit(self, policy: Policy) -> None:
        """Have the sliders and the plots go as far as it was trained to."""
        for slider, plot, (low, high) in zip(self._sliders, self._plots, policy.command_limits.T, strict=True):
            slider.min, slider.max = float(low), float(high)
            slider.value = float(np.clip(slider.value, low, high))
            reach = 1.25 * max(-slider.min, slider.max)
            plot.scales = {
                "x": uplot.Scale(time=False, auto=False, range=(-SECONDS_KEPT, 0.0)),
                "y": uplot.Scale(auto=False, range=(-reach, reach)),
            }

    def _on_key(self, key: Any, label: str, what: Callable[[], None]) -> None:
        self._server.gui.add_command(label, hotkey=key).on_trigger(self._asking(what))

    def _asking(self, what: Callable[[], None]) -> Callable[[object], Coroutine[None, None, None]]:
        """What has the loop do that: one thread alone drives, and one thing comes after the other.

        Whoever was let in can send anything, and viser passes on an option that is none, or breaks a control by it:
        what cannot be done then is left, and the robot goes on.
        """

        def do() -> None:
            with contextlib.suppress(Exception):
                what()

        async def ask(_: object) -> None:
            self._loop.ask(do)

        return ask


class _Server(ViserServer):
    def request_share_url(self, verbose: bool = True) -> None:
        """Refuse what every page could ask for: a tunnel to anybody, through a server of others."""


@contextlib.contextmanager
def serving(gate: Gate) -> Iterator[ViserServer]:
    """An empty page.

    Raises:
        BadInput: somebody else has just taken the port.
    """
    silence = io.StringIO()  # viser tells of itself
    with contextlib.redirect_stdout(silence), gate.guarding():
        server = _Server(host=gate.host, port=gate.port, label="go1_sweep", verbose=False)
    try:
        if server.get_port() != gate.port:  # it tries the next one
            raise BadInput(f"--port: {gate.port} is in use")
        yield server
    finally:
        with contextlib.redirect_stdout(silence):
            server.stop()
