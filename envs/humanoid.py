"""Humanoid: dm_control's humanoid with image observations from behind."""

from __future__ import annotations

import functools
from typing import Literal

import mujoco
import numpy as np

from envs.assets import asset
from envs.floor import FloorVectorEnv, colored
from envs.observations import Array
from envs.single import one_world


class HumanoidVectorEnv(FloorVectorEnv):
    """N humanoids: observation [64, 64, 9] uint8 = the last three images, action [21] = joint torques.

    An episode starts in the air, in a random pose. A step lasts 0.05 s, two control steps of dm_control's suite.
    There is no reward.
    """

    metadata = FloorVectorEnv.metadata | {"render_fps": 20}
    camera = "back"
    goal_steps = 50
    direction_radius = 3.0

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl", "warp"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        goal_range: float = 10.0,
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
            humanoid_model(),
            num_envs=num_envs,
            substeps=10,
            threads=threads,
            renderer=renderer,
            quality=quality,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )

    def _draw(self, rng: np.random.Generator) -> Array:
        hinges = self.model.jnt_type == int(mujoco.mjtJoint.mjJNT_HINGE)
        low, high = self.model.jnt_range[hinges].T
        qpos = self.model.qpos0.copy()
        while True:
            quaternion = rng.uniform(size=4)  # as in dm_control: only positive components
            qpos[3:7] = quaternion / np.linalg.norm(quaternion)
            qpos[7:] = rng.uniform(low, high)
            if not self._touches(qpos):
                return qpos

    def _upright(self) -> Array:
        return self.model.qpos0.copy()


@functools.cache
def humanoid_model() -> mujoco.MjModel:
    """Build dm_control's humanoid on the colored floor.

    Raises:
        DependencyNotInstalled: If dm_control is not installed.
    """
    return colored(mujoco.MjSpec.from_file(asset("dm_control", "suite/humanoid.xml")))


make_humanoid = one_world(HumanoidVectorEnv)
