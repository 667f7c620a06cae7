"""Writes a page with a recorded episode of several skills, which needs no server."""

from __future__ import annotations

import html
from pathlib import Path

from csf.errors import ConfigError
from csf.io import files
from csf.play.camera import place_camera
from csf.play.scene import Scene
from csf.play.server import serving
from csf.play.session import Session

AFTER = 1.5  # seconds for which the last state is shown before the replay starts again


def page_of(session: Session) -> str:
    """Record one episode from the start and return it as a self-contained HTML page."""
    with serving("127.0.0.1", 0) as server:
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        session.reset(session.seed)
        scene = Scene(server.scene, session)
        place_camera(server.initial_camera, scene)
        recorded = server.get_scene_serializer()
        while not session.ended:
            session.step()
            scene.add_step()
            scene.show()
            recorded.insert_sleep(session.seconds_per_step)
        recorded.insert_sleep(AFTER)
        text = recorded.as_html()
    title = html.escape(f"Skills of {session.source.title}")
    before, _, rest = text.partition("<title>")
    return f"{before}<title>{title}{rest[rest.index('</title>') :]}" if rest else text


def save(path: Path, session: Session) -> None:
    """Write the page of a recorded episode.

    Raises:
        ConfigError: the name does not end in .html.
        CheckpointError: the file cannot be written.
    """
    check_name(path)
    text = page_of(session)
    files.write(path, lambda file: file.write(text.encode()))


def check_name(path: Path) -> None:
    """Check the name of a page.

    Raises:
        ConfigError: the name does not end in .html.
    """
    if path.suffix != ".html":
        raise ConfigError(f"save={path}; accepted: a name that ends in .html")
