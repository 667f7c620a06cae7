"""Writes a page with a recorded episode of several skills, which needs no server."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from csf.errors import ConfigError, RunDirError
from csf.io import files
from csf.play.camera import FOV, view_of
from csf.play.scene import Scene
from csf.play.server import serving
from csf.play.session import Session

ASPECT = 1.4  # assumed ratio of width to height of the page
AFTER = 1.5  # seconds for which the last state is shown before the replay starts again


def page_of(session: Session) -> str:
    """Record one episode from the start and return it as a self-contained HTML page."""
    with serving("127.0.0.1", 0) as server:
        server.gui.configure_theme(show_logo=False, show_share_button=False)
        scene = Scene(server.scene, session)
        for _ in episode(session, scene):  # shows how far the bodies go, before the camera is placed
            pass
        view_of(scene, ASPECT).place(server.initial_camera)
        server.initial_camera.fov = FOV
        recorded = server.get_scene_serializer()
        for _ in episode(session, scene):
            recorded.insert_sleep(session.seconds_per_step)
        recorded.insert_sleep(AFTER)
        text = recorded.as_html()
    title = html.escape(f"Skills of {session.source.title}")
    before, _, rest = text.partition("<title>")
    return f"{before}<title>{title}{rest[rest.index('</title>') :]}" if rest else text


def episode(session: Session, scene: Scene) -> Iterator[None]:
    """Show one episode from the start, and yield after each step."""
    session.reset(session.seed)
    scene.restart()
    while not session.ended:
        session.step()
        scene.add_step()
        scene.show()
        yield


def save(path: Path, session: Session) -> None:
    """Write the page of a recorded episode.

    Raises:
        ConfigError: as `check_place`.
        RunDirError: the file cannot be written.
    """
    check_place(path)
    text = page_of(session)
    try:
        with files.replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error


def check_place(path: Path) -> None:
    """Check the path of a page, before the time is spent to record it.

    Raises:
        ConfigError: the name does not end in .html, or the folder does not exist.
    """
    if path.suffix != ".html":
        raise ConfigError(f"save={path}; accepted: a name that ends in .html")
    if not path.parent.is_dir():
        raise ConfigError(f"save={path}: there is no folder {path.parent}; accepted: a file in an existing folder")
