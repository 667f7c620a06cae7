"""Load of the server of csf play: `python tests/benchmark/play.py` prints a table in Markdown, in less than a minute.

The bodies are ants, by default with new networks of CSF for Ant. Visitors, in processes of their own, receive all
messages and draw nothing, as the work of the browsers is not that of the server. The speed is "as fast as possible".
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import csf  # first: how threads wait is decided before PyTorch is loaded

# isort: split
import torch
import viser
from training import processor

from csf.config.compose import check
from csf.core.device import use_threads
from csf.io import checkpoint, policy
from csf.play.panel import open_page
from csf.play.player import Player
from csf.play.server import serving
from csf.play.session import Session
from csf.play.source import Source
from csf.run import Run

CPU = torch.device("cpu")
WARM_UP = 2.0  # seconds before measuring


# A program, so that it does not import PyTorch: receives all messages, after a line on stdout when the first has come.
VISITOR = """
import sys
from websockets.sync.client import connect

with connect(sys.argv[1], subprotocols=[sys.argv[2]], max_size=None, proxy=None) as server:
    server.recv()
    print("connected", flush=True)
    for _ in server:
        pass
"""


@contextmanager
def visiting(port: int) -> Iterator[None]:
    """Connect a visitor in a process of its own."""
    command = [sys.executable, "-c", VISITOR, f"ws://127.0.0.1:{port}", f"viser-v{viser.__version__}"]
    visitor = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert visitor.stdout is not None
        assert visitor.stdout.readline(), "a visitor could not connect"
        yield
    finally:
        visitor.kill()
        visitor.wait()


def new_policy(folder: Path) -> Path:
    """Write a policy of CSF for Ant that has learned nothing."""
    cfg = check(["agent=csf", "env=ant", f"exp_dir={folder}", "device=cpu"])
    path = folder / "policy.safetensors"
    with Run(cfg, CPU) as run:
        policy.save(path, run.agent, {"config": cfg.tree, **checkpoint.provenance()})
    return path


def measure(source: Source, bodies: int, visitors: int, seconds: float) -> str:
    """Play for some seconds, and return a row of the table."""
    session = Session(source, bodies, 0)
    steps = [0]

    def step() -> None:
        Session.step(session)
        steps[0] += 1

    session.step = step  # type: ignore[method-assign]
    with serving("127.0.0.1", 0) as server, ExitStack() as stack:
        player = open_page(server, session).player
        player.speed = 1e6
        for _ in range(visitors):
            stack.enter_context(visiting(server.get_port()))
        play(player, WARM_UP)
        before, began, used = steps[0], time.monotonic(), time.process_time()
        play(player, seconds)
        count, wall, used = steps[0] - before, time.monotonic() - began, time.process_time() - used
    session.close()
    return f"| {bodies} | {1e3 * used / count:.1f} ms | {count / wall:.0f} |"


def play(player: Player, seconds: float) -> None:
    """Play for some seconds."""
    end = time.monotonic() + seconds
    player.run(lambda: time.monotonic() > end)


def main() -> None:
    """Measure and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cp_path", nargs="?", help="as for csf play; without it, new networks for Ant")
    arguments.add_argument("--bodies", type=int, nargs="+", default=[16, 32])
    arguments.add_argument("--visitors", type=int, default=2)
    arguments.add_argument("--seconds", type=float, default=15.0, help="measured time for each number of bodies")
    given = arguments.parse_args()
    load = os.getloadavg()[0]
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(given.cp_path or str(new_policy(Path(folder))), CPU, 1)
        rows = [measure(source, bodies, given.visitors, given.seconds) for bodies in given.bodies]
    lines = [
        f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {processor()}, "
        f"load {load:.1f}; {source.title}, {given.visitors} visitors, one thread",
        "",
        "| bodies | CPU time per step | steps per second, wall clock |",
        "|---|---|---|",
        *rows,
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
