"""Pictures of MuJoCo worlds: a camera that follows the body over a floor on which one sees it move."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs import gl
from envs.look import dressed
from envs.observations import Array
from envs.plane import GOAL

SUN = np.array([-1.0, -1.0, 2.0])  # from the body to the light, in meters


@dataclass(frozen=True)
class View:
    """From where a world is seen; x points right, y away from the viewer, as in the plots.

    Attributes:
        distance: From the camera to what it looks at, in meters.
        elevation: Of the line of sight in degrees, negative from above.
        height: Of what the camera looks at above the ground, in meters.
        body: Name of the body that it follows.
    """

    distance: float
    elevation: float
    height: float
    body: str = "torso"


class Camera:
    """Takes pictures of worlds of one model; belongs to the thread that made it.

    It has a model of its own, so that nothing it does reaches the physics.
    """

    def __init__(self, model: mujoco.MjModel, view: View, size: int) -> None:
        """Opens what draws.

        Args:
            model: Of the worlds; not changed.
            view: From where they are seen.
            size: Side of a picture in pixels.

        Raises:
            WorldError: If MUJOCO_GL names no library that can draw here.
            DependencyNotInstalled: If there is no OpenGL library.
        """
        self._model = dressed(model, size)
        self._data = mujoco.MjData(self._model)
        self._body = mujoco.mj_name2id(model, int(mujoco.mjtObj.mjOBJ_BODY), view.body)
        self._eye = mujoco.MjvCamera()
        self._eye.type = mujoco.mjtCamera.mjCAMERA_FREE.value
        self._eye.distance, self._eye.elevation, self._eye.azimuth = view.distance, view.elevation, 90.0
        self._height = view.height
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 10)
        self._options, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, size, size)
        self._thread = threading.get_ident()
        context, self._drawer = gl.open_context(self._model, size)
        self._context = context
        # Also when the program ends: later, what PyOpenGL needs to free a context is gone, and it complains.
        self._close = weakref.finalize(self, _free, self._drawer, context)

    def picture(self, qpos: Array, goal: Array | None = None, radius: float = 0.0) -> Array:
        """A picture [size, size, 3] uint8 of a world with positions qpos [nq].

        Args:
            qpos: Positions of the joints.
            goal: x, y [2] of a place to be marked.
            radius: Of the place, in meters.

        Raises:
            RuntimeError: If called in another thread than the one that made the camera.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("pictures were first taken in another thread, and OpenGL keeps to one: take all there")
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        body = self._data.xpos[self._body]
        self._eye.lookat[:] = *body[:2], self._height
        self._data.light_xpos[0], self._data.light_xdir[0] = body + SUN, -SUN / np.linalg.norm(SUN)
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._eye, every, self._scene)
        if goal is not None:
            self._mark(goal, radius, body)
        self._context.make_current()
        mujoco.mjr_render(self._rect, self._scene, self._drawer)
        pixels = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._drawer)
        return pixels[::-1].copy()  # OpenGL's first row is the lowest

    def close(self) -> None:
        """Frees what draws; idempotent."""
        self._close()

    def _mark(self, goal: Array, radius: float, body: Array) -> None:
        """A disc on the ground with a pole on it, and over a body that is not there yet an arrow to it."""
        ground, up = np.append(goal, 0.01), np.array([0.0, 0.0, 1.0])
        self._add(mujoco.mjtGeom.mjGEOM_CYLINDER, radius, ground, ground + 0.01 * up, 0.3)
        self._add(mujoco.mjtGeom.mjGEOM_CAPSULE, 0.06, ground, ground + 2.0 * up, 1.0)
        way = np.append(goal - body[:2], 0.0)
        if (far := np.linalg.norm(way)) > radius:
            start, length = body + 0.7 * up, 0.8
            tip = start + 2 * length / far * way  # MuJoCo draws arrows half as long as it is told
            self._add(mujoco.mjtGeom.mjGEOM_ARROW, 0.06, start, tip, 1.0)

    def _add(self, kind: Any, width: float, start: Array, end: Array, alpha: float) -> None:
        geom, rgba = self._scene.geoms[self._scene.ngeom], np.array([*GOAL, alpha], np.float32)
        mujoco.mjv_initGeom(geom, kind.value, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
        mujoco.mjv_connector(geom, kind.value, width, start, end)  # leaves the color as it is
        self._scene.ngeom += 1


def _free(drawer: mujoco.MjrContext, context: Any) -> None:
    with suppress(Exception):  # at the end of the program the library may have been shut down before
        drawer.free()
        context.free()
