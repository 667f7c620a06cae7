"""Handles clicks and drags in the scene: goals on the floor, selection of bodies, and the dial of skills."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from csf.play.bodies import LIFT
from csf.play.scene import Scene

if TYPE_CHECKING:
    from csf.play.panel import Panel

OUTSIDE = 40.0  # farthest accepted click on the floor, in units of the scene's scale


class Pointer:
    """Converts the rays of clicks to points on the floor.

    A click on a node is also reported as a click on the scene behind it, which `_taken` recognizes.
    """

    def __init__(self, scene: Scene, panel: Panel) -> None:
        self.scene, self.panel = scene, panel
        self._taken: tuple[float, ...] | None = None
        self._held: int | None = None  # body whose knob is dragged

    def on_floor(self, event: Any) -> None:
        """Set the goal of the selected bodies to the point that was clicked."""
        ray = tuple(event.ray_direction)
        if ray == self._taken:
            return
        point = self.hit(event.ray_origin, ray, 0.0)
        if point is not None:
            self.panel.ask(lambda: self._aim(point))

    def _aim(self, point: np.ndarray) -> None:
        lanes = self.scene.lanes()
        nearest = lanes[int(np.linalg.norm(lanes[:, :2] - point, axis=1).argmin()), :2]
        dim = self.scene.session.worlds.coord_dim
        self.panel.aim((point - nearest)[:dim].tolist())

    def on_body(self, part: int, event: Any) -> None:
        """Select the body that was clicked."""
        self._taken = tuple(event.ray_direction)
        if event.instance_index is not None:
            body = int(event.instance_index) // len(self.scene.bodies.parts[part].geoms)
            self.panel.ask(lambda: self.panel.select(body))

    def on_ring(self, event: Any) -> None:
        """Turn the skill of the selected bodies to the point of the dial that was clicked."""
        self._taken = tuple(event.ray_direction)
        self._turn(self.hit(event.ray_origin, event.ray_direction, LIFT))

    def on_knob(self, event: Any) -> None:
        """Select the body whose knob was clicked."""
        self._taken = tuple(event.ray_direction)
        if event.instance_index is not None:
            body = int(event.instance_index)
            self.panel.ask(lambda: self.panel.select(body))

    def on_drag(self, event: Any) -> None:
        """Turn the skill of the body whose knob is dragged."""
        if event.instance_index is None:
            return
        body, camera = int(event.instance_index), event.client.camera
        if event.phase == "start" and self.scene.selected is not None:
            self.panel.ask(lambda: self.panel.select(body))
        origin = np.asarray(camera.position)
        point = self.hit(origin, np.asarray(event.end_position) - origin, LIFT)
        self._turn(point, body)

    def _turn(self, point: np.ndarray | None, body: int | None = None) -> None:
        if point is not None and np.linalg.norm(point) > 0:
            to = math.atan2(point[1], point[0])
            self.panel.ask(lambda: self.panel.turn(to, body))

    def hit(self, origin: Any, direction: Any, height: float) -> np.ndarray | None:
        """Return where a ray meets a level of the scene, as x, y [2]; None if it does not, or too far away."""
        start, ray = np.asarray(origin, np.float64), np.asarray(direction, np.float64)
        if not (np.isfinite(start).all() and np.isfinite(ray).all()) or ray[2] == 0:
            return None
        length = (height - start[2]) / ray[2]
        point = (start + length * ray)[:2] - np.asarray(self.scene.root.position)[:2]
        near = np.linalg.norm(point) <= OUTSIDE * self.scene.scale
        return point if length > 0 and near else None


def connect(scene: Scene, panel: Panel) -> Pointer:
    """Register the handlers of the scene; again after its nodes were added again."""
    pointer = Pointer(scene, panel)
    if not scene.session.goals_off and scene.session.worlds.coord_dim in (1, 2):
        scene.api.on_click()(pointer.on_floor)
    attach(pointer)
    return pointer


def attach(pointer: Pointer) -> None:
    """Register the handlers of nodes that `Scene.build` adds."""
    scene = pointer.scene
    for number, handle in enumerate(scene.handles):
        handle.on_click(lambda event, number=number: pointer.on_body(number, event))
    if scene.knobs is not None and not scene.session.skills_off:
        scene.ring.on_click(pointer.on_ring)
        scene.knobs.on_click(pointer.on_knob)
        scene.knobs.on_drag("left")(pointer.on_drag)
