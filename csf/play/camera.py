"""Places the camera so that the start of a session is in view."""

from __future__ import annotations

from typing import Any

import numpy as np

from csf.play.scene import Scene


def view_of(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return the position [3] of the camera and the point [3] that it looks at."""
    spread = float(np.linalg.norm(np.ptp(scene.lanes(), axis=0)))
    if not scene.bodies.walks:
        center = np.array(scene.bodies.model.stat.center)
        return center + np.array([0.5, -1.1, 0.6]) * (2.2 * scene.scale + spread), center
    distance = 3.2 * scene.scale + 0.8 * spread
    return distance * np.array([0.0, -0.85, 0.75]), np.zeros(3)


def place_camera(camera: Any, scene: Scene) -> None:
    """Place a camera of viser, that of new visitors or that of one visitor."""
    position, target = view_of(scene)
    camera.position, camera.look_at = tuple(position), tuple(target)
