"""Quadruped: dm_control's four-legged robot with image observations from the side."""

from __future__ import annotations

import functools
from typing import Literal

import mujoco
import numpy as np

from envs.assets import asset
from envs.floor import FloorVectorEnv, colored
from envs.observations import Array
from envs.single import one_world


class QuadrupedVectorEnv(FloorVectorEnv):
    """N quadrupeds: observation [64, 64, 9] uint8 = the last three images, action [12] = leg controls.

    An episode starts with the robot standing, with a small random rotation. A step lasts 0.04 s, two control steps
    of dm_control's suite. There is no reward.
    """

    metadata = FloorVectorEnv.metadata | {"render_fps": 25}
    camera = "y"
    goal_steps = 1
    parts = ("qpos", "qvel", "act")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl", "warp"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        goal_range: float = 15.0,
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Create the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step and render the worlds; 0: one per usable core, at most N.
            renderer: Renderer of image observations: "gl" for OpenGL, "warp" for MuJoCo Warp's ray tracer.
            quality: Quality of image observations: "paper", or "fast" for coarser edges (and shadows, with OpenGL).
            goal_range: R in meters; goals are drawn from U(-R, R)^2.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If dm_control or the renderer is not installed.
        """
        super().__init__(
            quadruped_model(),
            num_envs=num_envs,
            substeps=8,
            threads=threads,
            renderer=renderer,
            quality=quality,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )

    def _draw(self, rng: np.random.Generator) -> Array:
        return self._standing(np.array([1.0, 0.0, 0.0, 0.0]) + 0.02 * rng.standard_normal(4))

    def _upright(self) -> Array:
        return self._standing(np.array([1.0, 0.0, 0.0, 0.0]))

    def _standing(self, quaternion: Array) -> Array:
        """Return the lowest standing qpos [nq] without contacts, searched upward in steps of 1 cm."""
        qpos = np.zeros(self.model.nq)
        qpos[3:7] = quaternion / np.linalg.norm(quaternion)
        while self._touches(qpos):
            qpos[2] += 0.01
        return qpos


@functools.cache
def quadruped_model() -> mujoco.MjModel:
    """Build dm_control's quadruped on the colored floor, without walls, terrain, ball and rangefinders.

    Raises:
        DependencyNotInstalled: If dm_control is not installed.
    """
    spec = mujoco.MjSpec.from_file(asset("dm_control", "suite/quadruped.xml"))
    unwanted = [spec.geom(name) for name in ("wall_px", "wall_py", "wall_nx", "wall_ny", "terrain")]
    unwanted += [spec.body("ball"), spec.site("target"), *spec.hfields]
    unwanted += [s for s in spec.sensors if s.type == mujoco.mjtSensor.mjSENS_RANGEFINDER]
    for element in unwanted:
        spec.delete(element)
    return colored(spec)


make_quadruped = one_world(QuadrupedVectorEnv)
