"""The page of csf play: the server, the controls, the saved page, and both in a browser."""

from __future__ import annotations

import base64
import io
import re
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import browser
import numpy as np
import pytest
import torch
from conftest import ROOT
from runs import fork

from csf.errors import ConfigError
from csf.play.session import Session
from csf.play.skills import angle
from csf.play.source import Source

viser = pytest.importorskip("viser", reason="needs viser: pip install viser mjviser")

import msgspec  # noqa: E402 - a requirement of viser
from websockets import Subprotocol  # noqa: E402 - a requirement of viser
from websockets.sync.client import connect  # noqa: E402 - a requirement of viser

from csf.play import __main__ as play  # noqa: E402
from csf.play import camera as cameras  # noqa: E402
from csf.play import replay, server  # noqa: E402
from csf.play.panel import open_page  # noqa: E402

PACKAGED = "packaged:ant"
FORMATS = ROOT / "tests/golden/formats"
CPU = torch.device("cpu")


class Stage:
    """A player with its panel on a server, in a thread of its own."""

    def __init__(self, cp_path: str, count: int = 4) -> None:
        self.session = Session(Source(cp_path, CPU, 1), count, 0)
        self.stop = threading.Event()

    @contextmanager
    def on(self) -> Iterator[Stage]:
        with server.serving("127.0.0.1", 0) as self.server:
            self.panel = open_page(self.server, self.session)
            self.player = self.panel.player
            thread = threading.Thread(target=self.player.run, args=(self.stop.is_set,))
            thread.start()
            try:
                yield self
            finally:
                self.stop.set()
                thread.join(10)
                self.session.close()
        assert not thread.is_alive()

    def ask(self, request: Any) -> None:
        """Let the player execute a request, and wait until the panel shows its result."""
        done = threading.Event()
        self.panel.ask(request)
        self.player.ask(self.panel.draw)
        self.player.ask(done.set)
        assert done.wait(30)

    def start_again(self) -> None:
        """As it was at the start, for the next test."""
        self.player.playing, self.player.speed, self.session.restarts = True, 1.0, True
        self.panel._resize(4)
        self.panel._set_layout("together")
        self.panel.select(None)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.get_port()}"


@pytest.fixture(scope="module")
def opened() -> Iterator[Stage]:
    with Stage(PACKAGED).on() as found:
        yield found


@pytest.fixture
def stage(opened: Stage) -> Stage:
    """A page that all tests share, since starting and stopping a server takes a second."""
    opened.ask(opened.start_again)
    return opened


def wait(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


# ---- the server


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on host=127.0.0.1 port={port}: .*in use; accepted: "):
            server.check_address("127.0.0.1", port)


def test_a_host_of_another_machine_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on host=192\.0\.2\.1 port=0: .*; accepted: "):
        server.check_address("192.0.2.1", 0)


def command() -> None:
    """csf play, in a process of its own."""
    # A shell that starts the tests in the background ignores SIGINT, and its children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["csf.play", PACKAGED, "port=0", "open=false"]
    play.main()


def visit(address: str, most: int = 16) -> Any:
    """Connect a visitor that keeps this number of messages, and then lets the server wait."""
    return connect(
        address.replace("http", "ws"),
        subprotocols=[Subprotocol(f"viser-v{viser.__version__}")],
        max_size=None,
        max_queue=most,
        proxy=None,
        close_timeout=0.1,  # seconds; a server that has ended does not answer
    )


def test_ctrl_c_ends_the_command_at_once_even_if_a_visitor_does_not_answer(tmp_path: Path) -> None:
    child = fork(tmp_path / "log", command)
    wait(lambda: child.log.exists() and "Ctrl-C" in child.said)
    found = re.search(r"open (http://\S+) ", child.said)
    assert found
    with visit(found[1]) as one, visit(found[1], 1):
        for _ in range(10):
            assert one.recv(60)
        child.kill(signal.SIGINT)
        began = time.monotonic()
        assert child.wait() == 0, child.said
        assert time.monotonic() - began < 4
    assert child.said.splitlines()[2:] == ["ended"]


def test_it_listens_on_this_machine_only(stage: Stage) -> None:
    with urllib.request.urlopen(stage.address, timeout=60) as page:
        assert b"<html" in page.read()
    port = stage.server.get_port()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        if local.endswith(f":{port:04X}") and state == "0A":
            assert local.startswith("0100007F")
            return
    pytest.fail("nothing listens")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no checkpoint is given; accepted: "),
        (["nowhere"], "cp_path=nowhere: no such file or folder"),
        ([str(FORMATS / "csf"), "bodies=33"], "bodies is 33; accepted: an integer of at least 1 and at most 32"),
        ([str(FORMATS / "csf"), "port=70000"], "port is 70000; accepted: "),
        ([str(FORMATS / "csf"), "save=skills.webm"], "save=skills.webm; accepted: a name that ends in .html"),
        ([str(FORMATS / "csf"), "save=/nowhere/skills.html"], "save=/nowhere/skills.html: there is no folder /nowhere"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["csf.play", *words])
    with pytest.raises(SystemExit) as ended:
        play.main()
    assert str(ended.value).startswith(f"error: {message}")
    assert "\n" not in str(ended.value)


# ---- the controls


def test_a_refused_request_is_shown_and_the_bodies_go_on(stage: Stage) -> None:
    stage.ask(lambda: stage.panel.pick([0.0, float("nan")]))
    assert "skill is [0.0, nan]; accepted: 2 finite numbers" in stage.panel.status.content
    before = stage.player.session.time
    wait(lambda: stage.session.time != before)
    stage.ask(lambda: stage.panel.pick([0.0, 1.0]))
    assert "accepted" not in stage.panel.status.content


def say(visitor: Any, kind: str, **fields: Any) -> None:
    """Send a message of the page to the server, as any program could."""
    visitor.send(msgspec.msgpack.encode({"type": kind, **fields}))


LOOKS = {"wxyz": (1.0, 0, 0, 0), "position": (0.0, -3, 3), "fov": 1.0, "near": 0.01, "far": 1e3, "image_height": 800,
         "image_width": 900, "look_at": (0.0, 0, 0), "up_direction": (0.0, 0, 1)}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        ("bodies", 99, "bodies is 99; accepted: 1 to 32"),
        ("direction", -90, "direction is -90; accepted: 0 to 360"),
        ("speed", "<b>fast", "speed is '&lt;b&gt;fast'; accepted: 1/4 x, 1/2 x, 1 x, 2 x, 4 x, as fast as possible"),
        ("layout", "", "layout is ''; accepted: together, ghosts, side by side"),
        ("body", "5", "body is '5'; accepted: all, 1, 2, 3, 4"),
        ("", "explode", "button is 'explode'; accepted: play/pause, step, reset"),
    ],
)
def test_what_no_page_would_send_is_refused_and_the_input_restored(
    stage: Stage, label: str, value: object, message: str
) -> None:
    inputs = stage.server.gui._gui_input_handle_from_uuid
    handle: Any = next(each for each in inputs.values() if each.label == label)
    before = handle.value
    with visit(stage.address) as visitor:
        say(visitor, "ViewerCameraMessage", **LOOKS)
        say(visitor, "GuiUpdateMessage", uuid=handle._impl.uuid, updates={"value": value})
        wait(lambda: message.replace("'", "&#x27;") in stage.panel.status.content)
        if label:
            wait(lambda: handle.value == before)
        assert stage.player.playing, "this is no bug"


def test_a_visitor_whose_page_has_no_size_is_served_like_others(stage: Stage) -> None:
    with visit(stage.address) as visitor, visit(stage.address) as other:
        say(visitor, "ViewerCameraMessage", **{**LOOKS, "image_height": 0, "position": (float("nan"),) * 3})
        say(other, "ViewerCameraMessage", **LOOKS)
        wait(lambda: len(stage.server.get_clients()) == 2)
        stage.ask(stage.panel._reset)
        before = stage.session.time
        wait(lambda: stage.session.time > before + 3)


def test_a_body_that_another_visitor_has_removed_is_refused(stage: Stage) -> None:
    stage.ask(lambda: stage.panel.select(9))
    assert "body is 10; accepted: all, or 1 to 4" in stage.panel.status.content
    assert stage.panel.ids == [0, 1, 2, 3]
    stage.ask(lambda: stage.panel.turn(1.0, -1))
    assert "body is 0; accepted: all, or 1 to 4" in stage.panel.status.content


def test_text_from_a_visitor_is_escaped(stage: Stage) -> None:
    stage.ask(lambda: stage.panel.aim("<script>alert(1)</script>"))
    assert "<script>" not in stage.panel.status.content
    assert "&lt;script&gt;" in stage.panel.status.content


def test_a_bug_pauses_and_does_not_end_the_server(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    stage.ask(lambda: 1 / 0)
    assert "ZeroDivisionError" in stage.panel.status.content
    assert "Traceback" in capfd.readouterr().err
    assert not stage.player.playing
    stage.ask(stage.panel._toggle)
    before = stage.session.time
    wait(lambda: stage.session.time != before)


def test_turning_all_keeps_the_differences(stage: Stage) -> None:
    before = [angle(skill) for skill in stage.session.skill]
    stage.ask(lambda: stage.panel.turn(1.0))
    after = [angle(skill) for skill in stage.session.skill]
    assert (np.subtract(after, before) % (2 * np.pi)).tolist() == pytest.approx([1.0] * 4, abs=1e-5)


def test_the_selected_body_alone_is_turned(stage: Stage) -> None:
    before = stage.session.skill.copy()
    stage.ask(lambda: stage.panel.select(2))
    stage.ask(lambda: stage.panel.turn(1.0))
    assert angle(stage.session.skill[2]) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_array_equal(np.delete(stage.session.skill, 2, 0), np.delete(before, 2, 0))
    assert stage.panel.body.value == "3"


def test_every_number_of_bodies_and_layout_is_drawn(stage: Stage) -> None:
    for count, layout in ((1, "ghosts"), (32, "side by side"), (7, "together")):
        stage.ask(lambda count=count: stage.panel._resize(count))
        stage.ask(lambda layout=layout: stage.panel._set_layout(layout))
        drawn = sum(len(handle.batched_positions) for handle in stage.player.scene.handles)
        assert drawn == 13 * count  # a torso and four legs of three parts
        assert not stage.panel.message


def test_a_click_on_the_floor_is_a_goal_at_that_point(stage: Stage) -> None:
    class Event:
        ray_origin, ray_direction = (0.0, -2.0, 2.0), (0.1, 1.0, -1.0)

    stage.panel.pointer.on_floor(Event)
    wait(lambda: stage.session.goals.active.all())
    np.testing.assert_allclose(stage.session.goals.place, [[0.2, 0.0]] * 4, atol=1e-6)


@pytest.mark.parametrize("direction", [(0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 0.0, -1e-9), (float("nan"), 0.0, -1.0)])
def test_a_click_beside_the_floor_is_no_goal(stage: Stage, direction: tuple[float, ...]) -> None:
    assert stage.panel.pointer.hit((0.0, 0.0, 1.0), direction, 0.0) is None


def test_goals_and_skills_of_a_controller_are_off(tmp_path: Path) -> None:
    with Stage(str(FORMATS / "controller")).on() as found:
        found.ask(lambda: found.panel.aim([1.0, 0.0]))
        assert "goals cannot be set: the controller chooses the skills" in found.panel.status.content
        found.ask(lambda: found.panel.pick([1.0, 0.0]))
        assert "skills cannot be picked: the controller chooses the skills" in found.panel.status.content
        assert found.player.scene.knobs is not None, "the chosen skills are shown"


def test_memory_of_the_server_does_not_grow_with_steps(stage: Stage) -> None:
    """Every message replaces an earlier one of the same kind, so that a visitor who comes late gets no history."""
    stage.player.playing = False
    buffer = stage.server._websock_server._broadcast_buffer
    sizes = []
    for _ in range(10):
        stage.ask(stage.panel._reset)
        for _ in range(19):
            stage.ask(stage.player.advance)
        sizes.append(len(buffer.message_from_id))
    assert abs(sizes[9] - sizes[2]) < 5, sizes  # the newest piece of the paths is drawn or not


# ---- the cameras


class Client:
    """A visitor as viser describes it; `says` is what its browser reports about the camera."""

    client_id = 1

    def __init__(self) -> None:
        self.camera = SimpleNamespace(
            position=np.array([0.0, -1.0, 1.0]), look_at=np.zeros(3), image_width=900, image_height=900, client=self
        )
        self.told: Callable[[Any], None] = lambda camera: None
        self.camera.on_update = lambda told: setattr(self, "told", told)

    def atomic(self) -> AbstractContextManager[None]:
        return nullcontext()

    def says(self, position: Any) -> None:
        self.camera.position = np.asarray(position, float)
        self.told(self.camera)


@pytest.fixture
def visitor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> tuple[cameras.Cameras, Client]:
    """A visitor of a paused page, whose camera only moves when a test says so."""
    stage.ask(lambda: setattr(stage.player, "playing", False))
    client = Client()
    hall = SimpleNamespace(
        initial_camera=SimpleNamespace(), get_clients=lambda: {1: client},
        on_client_connect=lambda came: came(client), on_client_disconnect=lambda left: None,
    )  # fmt: skip
    monkeypatch.setattr(cameras, "DELAY", 1e-6)
    return cameras.Cameras(hall, stage.player.scene), client


def test_everything_is_in_view_wherever_the_bodies_are(stage: Stage) -> None:
    scene = stage.player.scene
    for layout in ("together", "side by side"):
        stage.ask(lambda layout=layout: stage.panel._set_layout(layout))
        for _ in range(30):
            stage.ask(stage.player.advance)
        stage.ask(lambda: setattr(stage.player, "playing", False))
        view = cameras.view_of(scene, 1.5)
        away = view.position - view.target
        away /= np.linalg.norm(away)
        right = np.cross([0, 0, 1], away)
        right /= np.linalg.norm(right)
        for place in scene.frame.tracked + scene.lanes():
            depth = (view.position - place) @ away
            up = abs((place - view.target) @ np.cross(away, right)) / depth
            aside = abs((place - view.target) @ right) / depth
            assert up < np.tan(cameras.FOV / 2)
            assert aside < 1.5 * np.tan(cameras.FOV / 2)


def test_a_camera_is_moved_until_its_visitor_moves_it(visitor: tuple[cameras.Cameras, Client]) -> None:
    moved, client = visitor
    moved.update()
    there = np.array(client.camera.position)
    np.testing.assert_allclose(there, cameras.view_of(moved.scene).position)
    client.says(there + 1e-6)  # what was sent, as numbers of 32 bits
    moved.scene._outermost += 5.0
    moved.update()
    assert np.linalg.norm(client.camera.position - there) > 1
    client.says([1.0, 2.0, 3.0])
    moved.update()
    np.testing.assert_array_equal(client.camera.position, [1.0, 2.0, 3.0])
    moved.fit(1)
    moved.update()
    np.testing.assert_allclose(client.camera.position, cameras.view_of(moved.scene).position)


# ---- the saved page


def recorded(text: str) -> dict[str, Any]:
    """The recording in a saved page."""
    import zstandard

    found = re.search(r'__VISER_EMBED_DATA__="([^"]+)"', text)
    assert found
    inner = zstandard.ZstdDecompressor().decompressobj().decompress(base64.b64decode(found[1])[8:])
    length = int.from_bytes(inner[:8], "little")
    return dict(msgspec.msgpack.decode(inner[8 : 8 + length]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page that the command has saved, alone in its folder."""
    file = tmp_path_factory.mktemp("saved") / "skills.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["csf.play", PACKAGED, f"save={file}", "bodies=4"])
        play.main()
    return file


def test_a_saved_page_has_the_whole_episode_and_a_title(saved: Path) -> None:
    text = saved.read_text()
    session = Session(Source(PACKAGED, CPU, 1), 1, 0)
    assert f"<title>Skills of {session.source.title}</title>" in text
    seconds = session.worlds.max_steps * session.seconds_per_step + replay.AFTER
    assert recorded(text)["durationSeconds"] == pytest.approx(seconds)
    assert list(saved.parent.iterdir()) == [saved]


# ---- in a browser

needs_browser = pytest.mark.skipif(browser.PROGRAM is None, reason="needs a browser: apt-get install chromium")


def errors(page: browser.Page) -> list[str]:
    """Errors in the console."""
    return [line for line in page.complaints() if '"type": "error"' in line or '"level": "error"' in line]


def directions(address: str) -> np.ndarray:
    """Directions [8] in degrees in which bodies with skills at every 45 degrees of the circle go."""
    session = Session(Source(address, CPU, 1), 8, 0)
    for i, radians in enumerate(np.arange(8) * np.pi / 4):
        session.pick([i], [np.cos(radians), np.sin(radians)])
    while not session.ended:
        session.step()
    return np.degrees([angle(place) for place in session.coord])


def wrapped(degrees: np.ndarray) -> np.ndarray:
    """The same angles between -180 and 180 degrees."""
    return (degrees + 180) % 360 - 180


def test_a_skill_that_turns_around_turns_the_direction_of_a_point_around() -> None:
    found = directions("packaged:point")
    turns = wrapped(np.diff([*found, found[0]]))
    assert abs(abs(turns.sum()) - 360) < 1, turns  # once around, in either sense
    assert (np.sign(turns) == np.sign(turns[0])).all(), turns


def test_ants_with_opposite_skills_walk_apart() -> None:
    found = directions(PACKAGED)
    assert np.abs(wrapped(found[:4] - found[4:])).mean() > 90, found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.chromium(tmp_path_factory.mktemp("profile"), webgl=True) as found:
        yield found


@pytest.mark.long
@needs_browser
def test_the_page_in_a_browser(stage: Stage, page: browser.Page) -> None:
    stage.ask(lambda: stage.panel._resize(1))
    page.open(stage.address, 1000, 500)
    wait(stage.server.get_clients, 300)
    set_number(page, "direction", "90")
    wait(lambda: abs(angle(stage.session.skill[0]) - np.pi / 2) < 1e-3, 300)
    x, y = 450, 330  # a place on the floor, between the two panels
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    wait(lambda: stage.session.goals.active.all(), 300)
    radius = min(stage.session.worlds.success_radii)
    wait(lambda: stage.session.goals.measures().get(f"hit_{radius:g}") == 1.0, 300)
    assert not errors(page)
    assert all(address.startswith((stage.address, "blob:")) for address in page.requests())


def set_number(page: browser.Page, label: str, value: str) -> None:
    """Type a number into the field beside a label."""
    find = f"""(() => {{
        let row = [...document.querySelectorAll('label')].find(each => each.textContent.trim() === '{label}');
        while (row && !row.querySelector('input[type=text]')) row = row.parentElement;
        if (row) {{ const field = row.querySelector('input[type=text]'); field.focus(); field.select(); }}
        return Boolean(row); }})()"""
    wait(lambda: page.evaluate(find), 300)
    page.call("Input.insertText", text=value)
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13)


@pytest.mark.long
@needs_browser
def test_the_saved_page_opens_alone(saved: Path, page: browser.Page) -> None:
    page.open(saved, 700, 500)
    wait(lambda: page.evaluate("1") and any("Embedded data loaded" in line for line in page.complaints()), 300)
    wait(lambda: colors(page) > 100, 300)
    assert not errors(page)
    assert all(address == saved.as_uri() or address.startswith("blob:") for address in page.requests())


def colors(page: browser.Page) -> int:
    """The number of colors of the page, in steps of 16: few before the scene is drawn."""
    from PIL import Image

    with Image.open(io.BytesIO(page.picture())) as image:
        return len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3) // 16, axis=0))
