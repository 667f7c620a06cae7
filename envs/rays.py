"""Render batches of worlds of one model with MuJoCo Warp, without OpenGL and on the GPU if there is one."""

from __future__ import annotations

import importlib
from typing import Any

import mujoco
import numpy as np
from gymnasium.error import DependencyNotInstalled

from envs.observations import Array
from envs.painting import Quality

PACKAGES = "pip install mujoco-warp==3.17.0 warp-lang==1.19.0"


class Rays:
    """Ray-traces worlds of one model in batches of fixed size.

    The images have no reflections. Shadows and lights are close to those of OpenGL.
    """

    def __init__(self, model: mujoco.MjModel, camera: str, size: int, quality: Quality, count: int) -> None:
        """Copy the model to the device and allocate the renderer.

        Args:
            model: Compiled model; not modified.
            camera: Name of the model's camera.
            size: Height and width of an image in pixels.
            quality: "paper" for four rays per pixel, or "fast" for one.
            count: Number of worlds per batch.

        Raises:
            DependencyNotInstalled: If MuJoCo Warp is not installed.
        """
        self._warp, self._mjw = _imported()
        self._model, self._count = self._mjw.put_model(model), count
        self._data = self._mjw.make_data(model, nworld=count)
        self._rays = self._mjw.create_render_context(
            model,
            nworld=count,
            cam_res=(size, size),
            render_rgb=True,
            cam_active=[camera],
            use_shadows=True,
            shadow_light_fraction=0.0,
            render_skybox=True,
            samples_per_pixel=2 if quality == "paper" else 1,
        )
        self._pixels = self._warp.zeros((count, size, size), dtype=self._warp.vec3)
        self._rows = np.tile(model.qpos0.astype(np.float32), (count, 1))

    def paint(self, qpos: Array) -> Array:
        """Render the states qpos [n, nq]: images [n, size, size, 3] uint8."""
        batches = [self._render_batch(qpos[i : i + self._count]) for i in range(0, max(1, len(qpos)), self._count)]
        return np.concatenate(batches)

    def close(self) -> None:
        """Free the renderer. May be called more than once."""
        self._model = self._data = self._rays = self._pixels = None

    def _render_batch(self, qpos: Array) -> Array:
        """Render one batch of at most `count` worlds."""
        self._rows[: len(qpos)] = qpos
        self._data.qpos.assign(self._rows)
        self._mjw.kinematics(self._model, self._data)
        self._mjw.com_pos(self._model, self._data)
        self._mjw.camlight(self._model, self._data)
        self._mjw.refit_bvh(self._model, self._data, self._rays)
        self._mjw.render(self._model, self._data, self._rays)
        self._mjw.get_rgb(self._rays, 0, self._pixels)
        pictures = np.rint(255.0 * self._pixels.numpy()[: len(qpos)])
        return pictures.clip(0, 255).astype(np.uint8)


def _imported() -> tuple[Any, Any]:
    """Import Warp and MuJoCo Warp, without a log line for every kernel that they compile."""
    try:
        warp = importlib.import_module("warp")
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
        return warp, importlib.import_module("mujoco_warp")
    except ModuleNotFoundError as error:
        missing = f"renderer 'warp' needs {error.name!r}, which is not installed"
        raise DependencyNotInstalled(f"{missing}: {PACKAGES}") from error
