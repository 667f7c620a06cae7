"""Renders MuJoCo worlds with a camera that follows the body over a tiled floor."""

from __future__ import annotations

import atexit
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

SUN = np.array([-1.0, -1.0, 2.0])  # offset of the light from the body, in meters


@dataclass(frozen=True)
class View:
    """Position of the camera; x points right and y away from the viewer, as in the plots.

    Attributes:
        distance: Distance from the camera to the point that it looks at, in meters.
        elevation: Angle of the line of sight in degrees; negative if the camera looks down.
        height: Height above the ground of the point that the camera looks at, in meters.
        body: Name of the body that the camera follows.
    """

    distance: float
    elevation: float
    height: float
    body: str = "torso"


class Camera:
    """Renders worlds of one model; can only be used in the thread that created it.

    It renders a copy of the model, so the physics is not affected.
    """

    def __init__(self, model: mujoco.MjModel, view: View, size: int) -> None:
        """Creates the rendering context.

        Args:
            model: Model of the worlds; not modified.
            view: Position of the camera.
            size: Height and width of images in pixels.

        Raises:
            WorldError: If the value of MUJOCO_GL is not accepted.
            DependencyNotInstalled: If no OpenGL library is found.
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
        self._close = weakref.finalize(self, _free, self._drawer, context)
        gl.at_exit(self._close)

    def picture(self, qpos: Array, goal: Array | None = None, radius: float = 0.0) -> Array:
        """Renders a world as an image [size, size, 3] uint8.

        Args:
            qpos: Joint positions [nq].
            goal: x, y [2] of a goal to be marked, or None.
            radius: Radius of the goal in meters.

        Raises:
            RuntimeError: If called in a thread other than the one that created the camera.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "this environment was first rendered in another thread; OpenGL requires all rendering in that thread"
            )
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        body = self._data.xpos[self._body]
        self._eye.lookat[:] = *body[:2], self._height
        self._data.light_xpos[0], self._data.light_xdir[0] = body + SUN, -SUN / np.linalg.norm(SUN)
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, self._options, None, self._eye, every, self._scene)
        if goal is not None:
            mark(self._scene, goal, radius, body)
        self._context.make_current()
        mujoco.mjr_render(self._rect, self._scene, self._drawer)
        pixels = np.empty((self._rect.height, self._rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._rect, self._drawer)
        return pixels[::-1].copy()  # OpenGL's first row is the bottom one

    def close(self) -> None:
        """Frees the rendering context; idempotent."""
        self._close()
        atexit.unregister(self._close)


def mark(scene: mujoco.MjvScene, goal: Array, radius: float, body: Array) -> None:
    """Adds a disc and a pole at the goal and, if the body is outside its radius, an arrow that points to it.

    Args:
        scene: The scene to add to.
        goal: x, y [2] of the goal, in meters.
        radius: Radius of the goal, in meters.
        body: x, y, z [3] of the body.
    """
    ground, up = np.append(goal, 0.01), np.array([0.0, 0.0, 1.0])
    _add(scene, mujoco.mjtGeom.mjGEOM_CYLINDER, radius, ground, ground + 0.01 * up, 0.3)
    _add(scene, mujoco.mjtGeom.mjGEOM_CAPSULE, 0.06, ground, ground + 2.0 * up, 1.0)
    way = np.append(goal - body[:2], 0.0)
    if (far := np.linalg.norm(way)) > radius:
        start, length = body + 0.7 * up, 0.8
        tip = start + 2 * length / far * way  # MuJoCo draws arrows at half of the given length
        _add(scene, mujoco.mjtGeom.mjGEOM_ARROW, 0.06, start, tip, 1.0)


def _add(scene: mujoco.MjvScene, kind: Any, width: float, start: Array, end: Array, alpha: float) -> None:
    geom, rgba = scene.geoms[scene.ngeom], np.array([*GOAL, alpha], np.float32)
    mujoco.mjv_initGeom(geom, kind.value, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
    mujoco.mjv_connector(geom, kind.value, width, start, end)  # keeps the color
    scene.ngeom += 1


def _free(drawer: mujoco.MjrContext, context: Any) -> None:
    with suppress(Exception):  # at exit the library may already have been shut down
        drawer.free()
        context.free()
