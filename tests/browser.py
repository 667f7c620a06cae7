"""A page as headless Chromium sees it, over the DevTools protocol: it works without a script in the page."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

SECONDS = 90.0  # after which the browser is taken to hang
PROGRAM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--remote-debugging-port=0"]
FLAGS += ["--autoplay-policy=no-user-gesture-required"]
# Without a GPU, WebGL is rendered in software.
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


class Page:
    """A tab; what the page says and asks for is kept."""

    def __init__(self, socket: Connection) -> None:
        self.socket, self.numbers = socket, count(1)
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """The answer to a command; events that come before it are kept."""
        number = next(self.numbers)
        session = {"sessionId": self.session} if self.session else {}
        self.socket.send(json.dumps({"id": number, "method": method, "params": params, **session}))
        while (message := self._next()).get("id") != number:
            pass
        assert "result" in message, message
        return message["result"]

    def _next(self) -> dict[str, Any]:
        message = json.loads(self.socket.recv(SECONDS))
        if "method" in message:
            self.events.append(message)
        return dict(message)

    def open(self, place: Path | str, width: int = 1200, height: int = 900) -> None:
        """Load a file or an address and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.events.clear()
        self.call("Page.navigate", url=place if isinstance(place, str) else place.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The page as PNG; unlike Page.captureScreenshot, this also works for a page that is always animated."""
        self.call("Page.startScreencast", format="png", everyNthFrame=1)
        before = len(self.events)
        while not (frames := [e for e in self.events[before - 1 :] if e["method"] == "Page.screencastFrame"]):
            self._next()
        self.call("Page.stopScreencast")
        return base64.b64decode(frames[-1]["params"]["data"])

    def complaints(self) -> list[str]:
        """What the console has of errors and warnings."""
        kinds = {"Runtime.exceptionThrown": "exceptionDetails", "Log.entryAdded": "entry"}
        told = [event["params"][kinds[event["method"]]] for event in self.events if event["method"] in kinds]
        spoken = [event["params"] for event in self.events if event["method"] == "Runtime.consoleAPICalled"]
        return [json.dumps(each) for each in (*told, *spoken)]

    def requests(self) -> list[str]:
        """Addresses that were asked for, with the page's own content left out."""
        sent = [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in sent if not address.startswith("data:")]


@contextmanager
def chromium(profile: Path, webgl: bool = False) -> Iterator[Page]:
    """A browser with a profile of its own."""
    assert PROGRAM is not None
    flags = [flag for flag in FLAGS if flag != "--disable-gpu"] + WEBGL if webgl else FLAGS
    command = [PROGRAM, *flags, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, path = _address(profile / "DevToolsActivePort", process)
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, ping_interval=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(SECONDS)


def _address(file: Path, process: subprocess.Popen[bytes]) -> tuple[str, str]:
    end = time.monotonic() + SECONDS
    while not file.exists() or len(words := file.read_text().split()) < 2:
        assert process.poll() is None, f"chromium ended with {process.returncode}"
        assert time.monotonic() < end, "chromium opens no port"
        time.sleep(0.05)
    return words[0], words[1]
