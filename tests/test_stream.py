"""``stream``: exported policies drive a Go1 live in plain MuJoCo, on a page in a browser."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from browser import CHROMIUM, needs_browser
from conftest import start, wait_for

pytest.importorskip("mjlab")

import imageio.v3 as imageio
import msgspec
import viser
import websockets.sync.client
from playwright.sync_api import ConsoleMessage, FloatRect, Request, sync_playwright
from playwright.sync_api import Page as PlaywrightPage

from go1_sweep import cli
from go1_sweep.deploy import driving, scene, stream
from go1_sweep.deploy.driving import LIES_SECONDS, PUSH, Drive, Loop
from go1_sweep.deploy.gate import Gate, gate
from go1_sweep.deploy.page import Page, serving
from go1_sweep.paths import SweepPaths
from go1_sweep.terminal import Terminal

BUNDLE = Path(__file__).parent.parent / "benchmarks/results/flat_shared_h100"
"""Of a policy that walks."""

FORWARD = np.array([0.8, 0.0, 0.0])


@pytest.fixture(scope="module")
def loaded() -> Drive:
    return Drive(BUNDLE)


@pytest.fixture
def drive(loaded) -> Drive:
    loaded.reset()
    loaded.past.clear()
    loaded.falls = loaded.pushes = 0
    return loaded


def test_a_policy_walks_as_it_is_told(drive):
    for _ in range(150):
        drive.step(FORWARD)
    x, y = drive.robot.data.qpos[:2]
    assert x > 1.5 and abs(y) < 0.5 and drive.falls == 0
    told, done = np.array(drive.past)[-50:].mean(axis=0)
    assert told == pytest.approx(FORWARD)
    assert done == pytest.approx(FORWARD, abs=0.25)


def test_no_command_goes_beyond_what_the_policy_was_trained_for(drive):
    drive.step(np.array([9.0, -9.0, 9.0]))
    assert drive.past[-1][0] == pytest.approx([1.0, -1.0, 0.5])


def test_who_falls_lies_there_and_stands_up_again(drive):
    drive.robot.data.qpos[3:7] = [0.0, 1.0, 0.0, 0.0]
    drive.step(FORWARD)
    assert (drive.lies, drive.falls) == (True, 1)
    steps = round(LIES_SECONDS / drive.policy.step_seconds)
    for _ in range(steps - 2):
        drive.step(FORWARD)
    assert drive.lies
    for _ in range(10):
        drive.step(FORWARD)
    assert (drive.lies, drive.falls, drive.robot.has_fallen) == (False, 1, False)


def test_a_joint_that_no_go1_could_have_moved_so_is_a_fall(drive):
    drive.robot.data.qpos[7:] = 3.0
    drive.step(FORWARD)
    assert (drive.lies, drive.falls) == (True, 1)


def test_a_push_comes_from_any_side_and_is_as_strong_from_each(drive):
    sides = []
    for _ in range(2):
        drive.reset()
        before = drive.robot.data.qvel[:3].copy()
        drive.push()
        sides.append(drive.robot.data.qvel[:3] - before)
    assert [np.linalg.norm(side) for side in sides] == pytest.approx([PUSH, PUSH])
    assert sides[0][2] == 0.0 and not np.allclose(*sides)


def test_a_mesh_with_fewer_vertices_looks_the_same(drive):
    model = drive.robot.model
    for mesh in range(model.nmesh):
        vertices, faces = scene._mesh(model, mesh)  # pyright: ignore[reportPrivateUsage]
        fewer, triangles = scene._coarser(vertices, faces)  # pyright: ignore[reportPrivateUsage]
        assert len(triangles) < len(faces) / 3
        assert triangles.min() == 0 and triangles.max() == len(fewer) - 1
        for end in (np.min, np.max):
            assert end(fewer, axis=0) == pytest.approx(end(vertices, axis=0), abs=scene.GRAIN)
        assert all(len(set(triangle)) == 3 for triangle in triangles)


class Time:
    """A clock that sleep alone moves, and what takes so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until: float) -> None:
        self.now, self.until, self.costs = 0.0, until, 0.0
        monkeypatch.setattr(driving.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(driving.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        if self.now >= self.until:
            raise KeyboardInterrupt


class Counted:
    """A drive that counts its steps, each of which takes as long as is said."""

    def __init__(self, clock: Time) -> None:
        self.clock, self.steps = clock, 0
        self.policy = SimpleNamespace(step_seconds=0.02)

    def step(self, command: np.ndarray) -> None:
        self.steps += 1
        self.clock.now += self.clock.costs
        if self.clock.now >= self.clock.until:
            raise KeyboardInterrupt


def run(loop: Loop) -> int:
    """How often somebody was shown something until the time was over."""
    shown = []
    with contextlib.suppress(KeyboardInterrupt):
        loop.run(lambda: shown.append(None))
    return len(shown)


@pytest.mark.parametrize(("speed", "steps"), [(0.25, 50), (1.0, 200), (4.0, 800)])
def test_time_passes_as_fast_as_it_should(monkeypatch, speed, steps):
    clock = Time(monkeypatch, until=4.0)
    clock.costs = 0.001
    drive = Counted(clock)
    loop = Loop(drive)  # pyright: ignore[reportArgumentType]
    loop.speed = speed
    shown = run(loop)
    assert drive.steps == pytest.approx(steps, abs=2)
    assert loop.reached == pytest.approx(speed, rel=0.05)
    assert min(steps, 200) - 2 <= shown <= 4.0 / driving.SHOWN_SECONDS[0], "each step, or as many as an eye can tell"


def test_a_machine_that_is_too_slow_says_so_and_still_shows_what_happens(monkeypatch):
    clock = Time(monkeypatch, until=4.0)
    clock.costs = 0.04
    drive = Counted(clock)
    loop = Loop(drive)  # pyright: ignore[reportArgumentType]
    shown = run(loop)
    assert drive.steps == 100
    assert loop.reached == pytest.approx(0.5, rel=0.05)
    assert 30 <= shown <= 50, "ten times a second, at least"


def test_what_was_lost_is_not_caught_up_with_in_a_rush(monkeypatch):
    clock = Time(monkeypatch, until=4.0)
    drive = Counted(clock)
    loop = Loop(drive)  # pyright: ignore[reportArgumentType]
    loop.ask(lambda: setattr(clock, "now", 2.0))
    run(loop)
    assert drive.steps == pytest.approx(100, abs=6)


def test_in_a_pause_time_stands_still_and_what_is_asked_for_is_done(monkeypatch):
    clock = Time(monkeypatch, until=1.0)
    drive = Counted(clock)
    loop = Loop(drive)  # pyright: ignore[reportArgumentType]
    loop.is_paused = True
    asked = []
    loop.ask(lambda: asked.append(clock.now))
    assert run(loop) > 10
    assert (drive.steps, len(asked)) == (0, 1)


def refused(capsys, *arguments: str | Path) -> str:
    assert cli.main(["stream", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def changed(folder: Path, **changes: object) -> Path:
    """A copy of the bundle with other entries in its description."""
    shutil.copytree(BUNDLE, folder, ignore=lambda _, names: {name for name in names if "policy." not in name})
    description = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(description | changes))
    return folder


def test_what_is_no_bundle_is_refused_in_a_sentence_that_says_what_makes_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, "best") == "error: best: there is no such folder"
    Path("trial").mkdir()
    assert refused(capsys, "trial") == ("error: trial is no folder of an exported policy (policy.json), nor of a sweep")
    Path("trial/model_3.pt").touch()
    for place in ("trial", "trial/model_3.pt"):
        assert refused(capsys, place) == (
            f"error: {place} holds no exported policy; this makes one: python -m go1_sweep export {place} --out DIR"
        )
    Path("sweep").mkdir()
    SweepPaths(Path("sweep")).spec.touch()
    assert refused(capsys, "sweep").endswith("python -m go1_sweep export sweep --out DIR")


def test_a_bundle_that_is_not_what_was_exported_is_refused(tmp_path, capsys):
    assert "is of format 0, and this is for format 1" in refused(capsys, changed(tmp_path / "old", format=0))
    assert "is damaged" in refused(capsys, changed(tmp_path / "damaged", actions=None))
    other = changed(tmp_path / "other")
    description = json.loads((other / "policy.json").read_text())
    for joint in description["actions"]:
        joint["name"] = f"A1_{joint['name']}"
    (other / "policy.json").write_text(json.dumps(description))
    assert refused(capsys, other) == "error: a Go1 has no joint A1_FR_hip_joint"
    (other / "policy.onnx").write_bytes(b"another")
    assert "its SHA-256 is another" in refused(capsys, other)
    (other / "policy.json").write_text("{")
    assert "cannot be read" in refused(capsys, other)


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch, capsys):
    def missing(folder: Path) -> None:
        raise ModuleNotFoundError("No module named 'mjlab'", name="mjlab")

    monkeypatch.setattr(stream, "Drive", missing)
    assert refused(capsys, BUNDLE) == "error: stream needs the package mjlab: pip install 'go1_sweep[mjlab]'"


def test_where_nobody_can_listen_is_refused(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(capsys, BUNDLE, f"--port={port}") == (
            f"error: Nobody can listen on 127.0.0.1, port {port}: Address already in use"
        )
    for host in ("no.such.host.invalid", ""):
        assert f"--host: {host} is no address of this machine" in refused(capsys, BUNDLE, f"--host={host}")
    assert "Nobody can listen on 192.0.2.1, port 8080 to 8179" in refused(capsys, BUNDLE, "--host=192.0.2.1")
    assert "expected a number from 1 to 65535, not '0'" in refused(capsys, BUNDLE, "--port=0")


def test_of_a_sweep_the_winner_drives_first_and_its_other_finalists_can_be_chosen(tmp_path, monkeypatch):
    paths = SweepPaths(tmp_path / "runs")
    changed(paths.best.folder)
    for trial in ("0008", "baseline", "0002", "0005"):  # the winner's is of an earlier end of the sweep
        changed(paths.trial(trial).exported.folder)
    scores = {"baseline": 0.8, "0002": 0.95, "0008": 0.9, "0006": 0.7}  # 0006 could not be exported
    candidates = [{"trial": trial, "overall": {"score": score}} for trial, score in scores.items()]
    paths.result.write_text(json.dumps({"winner": {"trial": "0002"}, "candidates": candidates}))
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    class Silent:
        def __init__(self, *given: Any) -> None:
            names.extend(given[-1])

        def show(self) -> None:
            raise KeyboardInterrupt

    terminal = cast(Terminal, SimpleNamespace(viewing=lambda address: None))
    monkeypatch.setattr(stream, "Page", Silent)
    stream.stream([Path("runs"), BUNDLE], "127.0.0.1", None, terminal)
    folders = ["runs/best", "runs/trials/0008/exported", "runs/trials/baseline/exported", str(BUNDLE)]
    assert [name.partition(" (")[2] for name in names] == [f"{folder})" for folder in folders]


def get(address: str, **headers: str) -> tuple[int, str, str]:
    """The status, the page and the cookie that it sets."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers.get("Set-Cookie", "").partition(";")[0]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), ""


def connected(address: str, **headers: str) -> bool:
    """Whether the page's data can be had there."""
    try:
        with connection(address, **headers) as found:
            return bool(found.recv(timeout=10))
    except websockets.InvalidStatus:
        return False


def connection(address: str, **headers: str) -> websockets.sync.client.ClientConnection:
    protocol = websockets.Subprotocol(f"viser-v{viser.__version__}")
    return websockets.sync.client.connect(
        address.replace("http", "ws"), subprotocols=[protocol], additional_headers=headers, close_timeout=0.1
    )


def test_who_listens_for_others_wants_a_token_and_nobody_else_does():
    assert gate("127.0.0.1", None).token is None
    one, other = gate("0.0.0.0", None), gate("0.0.0.0", None)
    assert one.token and other.token and one.token != other.token
    assert one.address == f"http://{socket.gethostname()}:{one.port}/?token={one.token}"


def test_without_the_token_nobody_gets_the_page_nor_what_it_shows():
    free = gate("127.0.0.1", None)
    with serving(Gate(free.host, free.port, free.host, "secret")) as server:
        server.gui.add_markdown("the robot")
        address = free.address
        assert get(address)[0] == get(f"{address}/?token=other")[0] == 403
        assert "with its token" in get(address)[1]
        status, page, cookie = get(f"{address}/?token=secret")
        assert status == 200 and "<html" in page
        assert get(address, Cookie=f"a=b; {cookie}")[0] == 200
        assert connected(address, Cookie=cookie) and connected(f"{address}/?token=secret")
        assert not connected(address) and not connected(address, Cookie=f"{cookie}r")
        assert not connected(address, Cookie=cookie, Origin="http://elsewhere.example")


def test_no_page_of_another_site_can_steer():
    free = gate("127.0.0.1", None)
    with serving(free) as server:
        server.gui.add_markdown("the robot")
        for host in ("localhost", "127.0.0.1:99", "[::1]:8080"):
            assert get(free.address, Host=host)[0] == 200, "a tunnel"
        # A name that its owner has pointed here meanwhile: to a browser the page and what it asks are one site.
        renamed = {"Host": "elsewhere.example:8080", "Origin": "http://elsewhere.example:8080"}
        assert get(free.address, **renamed)[0] == 403 and not connected(free.address, **renamed)
        assert connected(free.address, Origin=free.address)
        assert not connected(free.address, Origin="http://elsewhere.example")
        server.request_share_url()
        assert server._share_tunnel is None  # pyright: ignore[reportPrivateUsage]


@contextlib.contextmanager
def streaming(*drives: Drive, paused: bool = False) -> Iterator[tuple[Loop, Page, str]]:
    """A page with its loop in a thread."""
    loop, over = Loop(drives[0]), threading.Event()
    loop.is_paused = paused
    entrance = gate("127.0.0.1", None)

    def end() -> None:
        raise KeyboardInterrupt

    def go_on() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            loop.run(page.show)
        over.set()

    with serving(entrance) as server:
        page = Page(server, loop, {f"policy {i}": drive for i, drive in enumerate(drives)})
        threading.Thread(target=go_on, daemon=True).start()
        try:
            yield loop, page, entrance.address
        finally:
            loop.ask(end)
            assert over.wait(10)


def test_many_pages_at_once_some_of_which_never_read_are_all_served_and_the_robot_goes_on(drive):
    with streaming(drive) as (loop, _, address), contextlib.ExitStack() as stack:
        loop.command = FORWARD
        pages = [stack.enter_context(connection(address)) for _ in range(12)]
        for page in pages[:6]:
            for _ in range(20):
                assert page.recv(timeout=10)
        pages[0].socket.close()
        wait_for(lambda: drive.robot.data.qpos[0] > 0.3, 20, "the robot")
        assert pages[1].recv(timeout=10)


CAMERA = {
    "type": "ViewerCameraMessage", "wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0] * 3, "fov": 1.0, "near": 0.1,
    "far": 10.0, "image_height": 1, "image_width": 1, "look_at": [0.0] * 3, "up_direction": [0.0, 0.0, 1.0],
}  # fmt: skip
"""By which viser knows a page."""


FORGED = {
    "Forward [m/s]": ({"value": math.nan}, {"value": math.inf}, {"value": 1e9}, {"value": "x"}, {"value": []}),
    "Policy": ({"value": "x"}, {"value": None}, {"value": []}),
    "Speed": ({"value": "x"}, {"value": None}, {"value": 0.0}),
}
BROKEN = {label: ({"props": {}}, {"removed": True}, {"none": 1}) for label in ("Forward [m/s]", "Policy", "Pause")}


@pytest.mark.parametrize(
    ("label", "updates"), [(label, each) for of in (FORGED, BROKEN) for label in of for each in of[label]]
)
def test_what_no_page_of_ours_sends_neither_ends_the_drive_nor_reaches_the_robot(drive, label, updates):
    with streaming(drive) as (loop, page, address), connection(address) as forger:
        gui: Any = page._server.gui  # pyright: ignore[reportPrivateUsage]
        controls = {each.label: uuid for uuid, each in gui._gui_input_handle_from_uuid.items()}
        keys = {each.label: uuid for uuid, each in gui._command_handle_from_uuid.items()}

        def send(**message: object) -> None:
            forger.send(msgspec.msgpack.encode(message))

        send(**CAMERA)
        send(type="GuiUpdateMessage", uuid=controls[label], updates=updates)
        for key in ("Forward: more", "Pause", "Pause"):
            send(type="CommandTriggerMessage", uuid=keys[key])
        send(type="GuiUpdateMessage", uuid=controls["Push"], updates={"value": True})
        wait_for(lambda: drive.pushes == 1, 20, "what was sent last")
        assert np.isfinite(loop.command).all() and loop.speed == 1.0 and loop.drive is drive
        assert np.isfinite(np.array(drive.past)).all()


def test_the_page_is_where_the_terminal_says_and_ctrl_c_closes_it(tmp_path):
    command = start("stream", str(BUNDLE), cwd=tmp_path)
    assert command.process.stdout is not None
    address = ""
    while not address and (line := command.process.stdout.readline()):
        address = next((word for word in line.split() if word.startswith("http://")), "")
    status, page, _ = get(address)
    assert status == 200 and "<html" in page
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, err = command.finish(30)
    assert (code, err) == (0, "")


@contextlib.contextmanager
def browsing(address: str, complaints: list[str]) -> Iterator[PlaywrightPage]:
    """The page in a browser, which may ask nobody else; it hears of what goes wrong there."""

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.removeprefix("blob:").startswith(address):
            complaints.append(f"asked {request.url}")

    flags = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 900, "height": 560})
        page.set_default_timeout(60_000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        page.goto(address)
        yield page
        browser.close()


PLOTTED = "Object.values(window.__viserTestpoints.uplots).map(plot => plot.chart.data.map(row => row.length))"
"""Of each plot how long its rows are."""

BESIDE = FloatRect(x=0, y=200, width=480, height=360)
"""What of the page shows the robot, and nothing else."""


@needs_browser
def test_who_opens_the_page_steers_the_robot_and_sees_it_walk(drive, tmp_path):
    other, complaints = Drive(BUNDLE), []
    with (
        streaming(drive, other, paused=True) as (loop, _, address),
        browsing(address, complaints) as page,
    ):
        page.get_by_text("paused").wait_for()  # a robot that stands still is cheap to draw
        for key in "iijji":
            page.keyboard.press(key)
        wait_for(lambda: loop.command == pytest.approx([0.3, 0.0, 0.2]), 60, "the keys")
        page.keyboard.press("0")
        wait_for(lambda: not loop.command.any(), 60, "a stop")

        track = page.locator(".mantine-Slider-root").first
        width = (track.bounding_box() or {"width": 0.0})["width"]
        track.click(position={"x": 0.9 * width, "y": 5})
        wait_for(lambda: loop.command[0] == pytest.approx(0.8, abs=0.11), 60, "the slider")
        page.get_by_role("button", name="Push").click()
        page.get_by_text("pushes: 1").wait_for()
        assert drive.pushes == 1

        for chosen, option in (("policy 0", "policy 1"), ("1x", "4x")):
            page.get_by_role("combobox").and_(page.locator(f"[value='{chosen}']")).click()
            page.get_by_role("option", name=option, exact=True).click()
        wait_for(lambda: loop.drive is other and loop.speed == 4.0, 60, "another policy, faster")

        before = page.screenshot(clip=BESIDE)
        page.get_by_role("button", name="Pause").click()
        wait_for(lambda: other.robot.data.qpos[0] > 1.0, 60, "the robot")
        page.keyboard.press("p")  # that a field of the page has no more
        page.get_by_text("paused").wait_for()
        after = page.screenshot(clip=BESIDE)
        page.screenshot(path=tmp_path / "page.png")
        seen = [np.asarray(imageio.imread(each, extension=".png"), dtype=float) for each in (before, after)]
        assert np.abs(seen[1] - seen[0]).max() > 50, "another picture of the robot"
        rows = page.evaluate(PLOTTED)
        assert len(rows) == 3 and all(length > 10 for plot in rows for length in plot)

        page.keyboard.press("r")
        wait_for(lambda: other.robot.data.qpos[0] == 0.0, 60, "a reset")
    assert complaints == []
