"""Renders a point in the plane with NumPy."""

from __future__ import annotations

import numpy as np

from envs.observations import Array

TILE = 0.5  # side of a tile in units of the coordinates
FLOOR = (0.24, 0.31, 0.39), (0.31, 0.39, 0.49)  # RGB in [0, 1]; also used for the MuJoCo worlds
BODY = (0.93, 0.55, 0.22)
GOAL = (0.35, 0.85, 0.45)


class Canvas:
    """The square [-reach, reach]^2 as an image [size, size, 3], with y upwards, to draw points on."""

    def __init__(self, size: int, reach: float) -> None:
        """Paints the floor.

        Args:
            size: Height and width in pixels.
            reach: Half of the square's side, in units of the coordinates.
        """
        line = (np.arange(size) + 0.5) / size * 2.0 - 1.0
        self.reach = reach
        self._place = np.stack(np.meshgrid(reach * line, -reach * line), axis=-1)
        self._floor = np.array(FLOOR)[np.floor(self._place / TILE).astype(int).sum(-1) % 2]

    def draw(self, position: Array, body: float, goal: Array | None = None, radius: float = 0.0) -> Array:
        """Returns an image [size, size, 3] uint8 of a point.

        Args:
            position: x, y [2] of the point.
            body: Radius of the point.
            goal: x, y [2] of a goal to be marked, or None.
            radius: Radius of the goal's mark.
        """
        pixels = self._floor.copy()
        if goal is not None:
            _disc(pixels, self._place, goal, radius, (*GOAL, 0.5))
        _disc(pixels, self._place, position, body, (*BODY, 1.0))
        return (255 * pixels).round().astype(np.uint8)


def _disc(pixels: Array, place: Array, center: Array, radius: float, color: tuple[float, ...]) -> None:
    """Paints a disc of RGBA `color` over pixels [S, S, 3] at coordinates [S, S, 2], with an edge one pixel wide."""
    pixel = place[0, 1, 0] - place[0, 0, 0]
    inside = 0.5 + (radius - np.linalg.norm(place - center, axis=-1)) / pixel
    cover = color[3] * inside.clip(0.0, 1.0)[..., None]
    pixels += cover * (np.array(color[:3]) - pixels)
