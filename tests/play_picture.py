"""Picture of the page of csf play: `python tests/play_picture.py RUN docs/play.png` needs the program chromium."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import browser
import torch

from csf.play.panel import Panel, open_page
from csf.play.server import serving
from csf.play.session import Session
from csf.play.source import Source

CLOSE = "document.querySelectorAll('.mantine-Notification-closeButton').forEach(button => button.click())"


def walk(panel: Panel, part: float) -> None:
    """Show a part of an episode, in which the cameras follow; then wait until they are at rest."""
    session, player = panel.session, panel.player
    player.restarted()
    while session.time < part * session.worlds.max_steps:
        player.advance()
        panel.scene.show()
        player.shown()
    for _ in range(40):
        player.shown()
        time.sleep(0.1)
    player.playing = False
    panel.draw()


def main() -> None:
    """Take the picture."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cp_path", help="as for csf play")
    arguments.add_argument("output", type=Path)
    arguments.add_argument("--bodies", type=int, default=8)
    arguments.add_argument("--part", type=float, default=0.8, help="part of an episode after which it is taken")
    arguments.add_argument("--width", type=int, default=1400)
    arguments.add_argument("--height", type=int, default=850)
    given = arguments.parse_args()
    session = Session(Source(given.cp_path, torch.device("cpu"), 1), given.bodies, 0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, serving("127.0.0.1", 0) as server:
        panel = open_page(server, session)
        with browser.chromium(Path(folder), webgl=True) as page:
            page.open(f"http://127.0.0.1:{server.get_port()}", given.width, given.height)
            while not server.get_clients():
                page.evaluate("1")
            thread = threading.Thread(target=walk, args=(panel, given.part))
            thread.start()
            end = None
            while end is None or time.monotonic() < end:  # without a GPU, drawing takes long
                page.evaluate("new Promise(done => setTimeout(done, 200))")
                if end is None and not thread.is_alive():
                    end = time.monotonic() + 5
                    page.evaluate(CLOSE)
            page.picture()
            given.output.write_bytes(page.picture())


if __name__ == "__main__":
    main()
