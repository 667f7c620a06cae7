"""Entry point of csf play: shows the skills of a checkpoint in a browser, or saves a page with a recorded episode."""

from __future__ import annotations

import gc
import os
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from csf.config import help as usage
from csf.config.ranges import Natural, Range, Seed
from csf.core.device import pick_device, use_threads
from csf.errors import ConfigError
from csf.io import files
from csf.io.load import accepted
from csf.play.panel import open_page
from csf.play.replay import check_place, save
from csf.play.server import import_viser, serving
from csf.play.session import MOST, Session
from csf.play.source import Source

HEAD = """\
Show the skills of a checkpoint in a browser.

usage: csf play RUN_OR_FILE [KEY=VALUE ...]   (or python -m csf.play)

Opens a page on which skills are picked while the bodies move, goals are set by a click on the floor, and the
representation and the checkpoints of the run are shown. save=FILE.html writes a page with a recorded episode instead,
which needs no server and no network. RUN_OR_FILE is the value of cp_path. Needs the packages viser and mjviser, which
requirements.txt contains: pip install 'viser>=1.1,<2' 'mjviser>=0.0.14,<0.1'

Keys, with their values:
"""
PLACES = ("cp_path",)


@dataclass(frozen=True)
class Settings:
    """Settings of csf play."""

    cp_path: str | None  # a run's folder, a policy file, a full checkpoint, a pattern of them, or hf://USER/NAME
    save: str | None  # write a page with a recorded episode to this file and exit; null: serve the page
    bodies: Annotated[int, Range(1, MOST)]  # number of bodies, each with its own skill
    host: str  # address to listen on; 0.0.0.0: all addresses of this machine, for visitors on other machines
    port: Annotated[int, Range(0, 65535)]  # port to listen on; 0: any free port
    open: bool  # whether to open a browser, if there is a screen
    seed: Seed  # random seed of initial states, skills and actions
    device: Literal["auto", "cpu", "cuda"]  # device of the networks; auto: cuda if available
    threads: Natural  # number of CPU threads; 0: OMP_NUM_THREADS if set, else one per usable core


def run(settings: Settings) -> None:
    """Serve the page until interrupted, or save it.

    Raises:
        CsfError: the checkpoint, the environment, the address or the file cannot be used.
    """
    if settings.cp_path is None:
        raise ConfigError(f"no checkpoint is given; {accepted()}")
    path = None if settings.save is None else files.check_name(Path(settings.save).expanduser())
    if path is not None:
        check_place(path)
    import_viser()  # reports that it is missing before anything is loaded
    device = pick_device(settings.device)
    use_threads(settings.threads)
    source = Source(settings.cp_path, device, settings.threads)
    session = Session(source, settings.bodies, settings.seed)
    try:
        if path is not None:
            save(path, session)
            sys.stderr.write(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)\n")
        else:
            serve(session, settings)
    finally:
        session.close()


def serve(session: Session, settings: Settings) -> None:
    """Serve the page until interrupted.

    Raises:
        CsfError: the address cannot be used.
    """
    try:
        with serving(settings.host, settings.port) as server:
            player = open_page(server, session).player
            shown = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
            address = f"http://{shown}:{server.get_port()}"
            sys.stderr.write(f"{session.source.title}, {session.source.path}\nopen {address} (Ctrl-C ends)\n")
            if settings.open and has_screen():
                webbrowser.open(address)
            player.run()
    except KeyboardInterrupt:
        sys.stderr.write("ended\n")
        gc.freeze()  # otherwise Python searches all objects for garbage before it exits, which takes a second


def has_screen() -> bool:
    """Whether a browser with windows can be opened; without a screen, Python would start a browser in the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main() -> None:
    """Run the command; user errors print one line."""
    usage.run_command(Settings, "play", PLACES, HEAD, run)


if __name__ == "__main__":
    main()
