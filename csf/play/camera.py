"""Keeps all bodies in view: places the camera of every visitor until that visitor moves it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from typing import Any

import numpy as np

from csf.play.scene import Scene

FOV = math.radians(45)  # vertical field of view; viser's 75 degrees distort what is near
MARGIN = 1.08  # by which the view is larger than what it must contain
PANELS, NARROW = 680, 1000  # width in pixels that the panels cover, and below which a page is narrow
DELAY = 0.5  # seconds after which the camera has made 63 % of its way
STILL = 0.005  # fraction of the distance below which the camera stays where it is
SENT = 200  # number of last places of a camera that are remembered, to recognize that a visitor has moved it
CENTERED = 4  # times that the center of the picture is moved to the middle of what must be in view
UP, ABOVE, BESIDE = np.array([0.0, 0.0, 1.0]), np.array([0.0, -0.77, 0.64]), np.array([0.4, -0.8, 0.45])


class View:
    """A camera's place [3] and the point [3] that it looks at."""

    def __init__(self, position: np.ndarray, target: np.ndarray) -> None:
        self.position, self.target = position, target

    def place(self, camera: Any) -> None:
        """Place a camera of viser, that of new visitors or that of one visitor."""
        camera.position, camera.look_at = tuple(self.position), tuple(self.target)  # the second moves with the first

    def toward(self, other: View, part: float) -> View:
        """Return the view after a part of the way to another view."""
        return View(
            self.position + part * (other.position - self.position), self.target + part * (other.target - self.target)
        )

    def is_near(self, other: View) -> bool:
        """Whether the difference to another view is too small to be seen."""
        away = STILL * float(np.linalg.norm(other.position - other.target))
        return bool(np.abs(self.position - other.position).max() < away > np.abs(self.target - other.target).max())


def view_of(scene: Scene, aspect: float = 1.0) -> View:
    """Return the view of everything that the scene shows, for a page of a ratio of width to height."""
    points = scene.in_view()
    target = (points.min(0) + points.max(0)) / 2
    away = ABOVE if scene.bodies.walks else BESIDE
    away = away / np.linalg.norm(away)
    right = np.cross(UP, away)
    right /= np.linalg.norm(right)
    ahead = np.cross(UP, right)
    slope = math.tan(FOV / 2) / MARGIN * np.array([aspect, 1.0])
    for _ in range(CENTERED):
        seen = (points - target) @ np.stack([right, np.cross(away, right), away], axis=1)  # right, up, to the camera
        distance = float(((np.abs(seen[:, :2]) + scene.reach) / slope + seen[:, 2:]).max())
        flat = seen[:, :2] / (distance - seen[:, 2:])
        aside, up = distance * (flat.min(0) + flat.max(0)) / 2
        target = target + aside * right + up / away[2] * ahead
    return View(target + distance * away, target)


class Cameras:
    """The cameras of all visitors of a viser server."""

    def __init__(self, server: Any, scene: Scene) -> None:
        """Place the camera of visitors to come, and follow what happens to those of visitors that have come."""
        self.server, self.scene = server, scene
        self._lock = threading.Lock()
        self._sent: dict[int, deque[np.ndarray]] = {}  # last places per visitor; none for those who move their own
        self._views: dict[int, View] = {}
        self._start = view_of(scene)
        self._updated = time.monotonic()
        server.initial_camera.fov = FOV
        self._start.place(server.initial_camera)
        server.on_client_connect(self._came)
        server.on_client_disconnect(self._left)

    def _came(self, client: Any) -> None:
        self.fit(client.client_id)
        client.camera.on_update(self._moved)

    def _left(self, client: Any) -> None:
        with self._lock:
            self._sent.pop(client.client_id, None)

    def fit(self, client: int) -> None:
        """Place the camera of a visitor again, until the visitor moves it."""
        if (found := self.server.get_clients().get(client)) is None:
            return
        said = View(np.array(found.camera.position), np.array(found.camera.look_at))
        with self._lock:
            self._views[client] = said if np.isfinite(said.position + said.target).all() else self._start
            self._sent[client] = deque([self._views[client].position, self._start.position], maxlen=SENT)

    def _moved(self, camera: Any) -> None:
        """Leave a camera to its visitor if it is at a place to which it was not moved from here."""
        place, client = np.array(camera.position), camera.client.client_id
        with self._lock:
            known = self._sent.get(client)
            if known and np.abs(np.array(known) - place).max(1).min() > 1e-3 * (1 + np.abs(place).max()):
                del self._sent[client]

    def update(self) -> None:
        """Move the cameras; called whenever the scene is sent."""
        now = time.monotonic()
        part = 1 - math.exp(-(now - self._updated) / DELAY)
        self._updated = now
        for number, client in self.server.get_clients().items():
            with self._lock:
                if number not in self._sent:
                    continue
                there = view_of(self.scene, aspect(client.camera))
                if self._views[number].is_near(there):
                    continue
                view = self._views[number] = self._views[number].toward(there, part)
                self._sent[number].append(view.position)
            # viser refuses to move a camera of which a visitor has reported numbers that are not finite.
            with client.atomic(), contextlib.suppress(ValueError):
                view.place(client.camera)


def aspect(camera: Any) -> float:
    """Return the ratio of width to height of the part of a page that no panel covers."""
    width = camera.image_width - (PANELS if camera.image_width > NARROW else 0)
    return float(np.clip(width / max(camera.image_height, 1), 0.2, 5.0))  # a page of no size is possible
