"""Renders a point in the plane with NumPy."""

from __future__ import annotations

import numpy as np

from envs.observations import Array

TILE = 0.5  # side of a tile in units of the coordinates
FLOOR = (0.24, 0.31, 0.39), (0.31, 0.39, 0.49)  # RGB in [0, 1]; also used for the MuJoCo worlds
BODY = (0.93, 0.55, 0.22)
GOAL = (0.35, 0.85, 0.45)


def picture(size: int, reach: float, position: Array, goal: Array | None = None, radius: float = 0.0) -> Array:
    """Renders the square [-reach, reach]^2 as an image [size, size, 3] uint8, with y upwards.

    Args:
        size: Height and width in pixels.
        reach: Half of the square's side.
        position: x, y [2] of the point.
        goal: x, y [2] of a goal to be marked, or None.
        radius: Radius of the goal's mark.
    """
    line = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    place = np.stack(np.meshgrid(reach * line, -reach * line), axis=-1)
    pixels = np.array(FLOOR)[np.floor(place / TILE).astype(int).sum(-1) % 2]
    if goal is not None:
        _disc(pixels, place, goal, radius, (*GOAL, 0.5))
    _disc(pixels, place, position, 0.05 * reach, (*BODY, 1.0))
    return (255 * pixels).round().astype(np.uint8)


def _disc(pixels: Array, place: Array, center: Array, radius: float, color: tuple[float, ...]) -> None:
    """Paints a disc of RGBA `color` over pixels [S, S, 3] at coordinates [S, S, 2], with an edge one pixel wide."""
    pixel = place[0, 1, 0] - place[0, 0, 0]
    inside = 0.5 + (radius - np.linalg.norm(place - center, axis=-1)) / pixel
    cover = color[3] * inside.clip(0.0, 1.0)[..., None]
    pixels += cover * (np.array(color[:3]) - pixels)
