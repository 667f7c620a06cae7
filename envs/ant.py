"""Ant: a four-legged robot on an infinite plane. Its coordinates are x and y."""

from __future__ import annotations

from typing import Literal

import mujoco
import numpy as np

from envs.base import choice
from envs.observations import Array
from envs.render import View
from envs.single import one_world
from envs.vector import MujocoVectorEnv, gymnasium_asset

# The paper's preset. Order: x, y, z, quaternion w x y z, (hip, ankle) 1 to 4, then the 14 velocities.
# fmt: off
_MEAN = np.array(
    [
        0.00486117, 0.011312, 0.7022248, 0.8454677, -0.00102548, -0.00300276, 0.00311523, -0.00139029,
        0.8607109, -0.00185301, -0.8556998, 0.00343217, -0.8585605, -0.00109082, 0.8558013,
        0.00278213, 0.00618173, -0.02584622, -0.00599026, -0.00379596, 0.00526138, -0.0059213,
        0.27686235, 0.00512205, -0.27617684, -0.0033233, -0.2766923, 0.00268359, 0.27756855,
    ]
)
_STD = np.array(
    [
        0.62473416, 0.61958003, 0.1717569, 0.28629342, 0.20020866, 0.20572574, 0.34922406, 0.40098143,
        0.3114514, 0.4024826, 0.31057045, 0.40343934, 0.3110796, 0.40245822, 0.31100526,
        0.81786263, 0.8166509, 0.9870919, 1.7525449, 1.7468817, 1.8596431, 4.502961,
        4.4070187, 4.522444, 4.3518476, 4.5105968, 4.3704205, 4.5175962, 4.3704395,
    ]
)
# fmt: on


class AntVectorEnv(MujocoVectorEnv):
    """N ants: observation [29] = qpos and qvel, x and y included; action [8] = joint torques."""

    coord_dim = 2  # x, y in meters
    success_radii = (3.0, 1.0)
    coverage_cell = 1.0
    direction_radius = 10.0
    view = View(distance=5.5, elevation=-35.0, height=0.4)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        normalizer: Literal["preset", "off"] = "preset",
        goal_range: float = 50.0,
        contact_margin: Literal["reference", "as_is"] = "reference",
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step the worlds; 0: one per usable core, at most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            goal_range: R in meters; goals are drawn from U(-R, R)^2.
            contact_margin: "reference" for the contact margins of the paper's engine, "as_is" for those of the
                model file.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        super().__init__(
            ant_model(contact_margin),
            (_MEAN, _STD),
            num_envs=num_envs,
            frame_skip=5,
            threads=threads,
            normalizer=normalizer,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )

    def _reward(self, before: Array, after: Array, action: Array) -> Array:
        return (after[:, 0] - before[:, 0]) / self.dt - 0.5 * np.square(action).sum(1) + 1.0


def ant_model(contact_margin: str = "reference") -> mujoco.MjModel:
    """Compiles Gymnasium's ant.xml, with contact margins halved if `contact_margin` is "reference".

    Since MuJoCo 3.5 the margin of a pair is the sum of its geoms' margins; before, it was the larger of the two.

    Raises:
        WorldError: If `contact_margin` is not accepted.
    """
    choice("contact_margin", contact_margin, ("reference", "as_is"))
    spec = mujoco.MjSpec.from_file(gymnasium_asset("ant.xml"))
    if contact_margin == "reference":
        for geom in spec.geoms:
            geom.margin *= 0.5
    return spec.compile()


make_ant = one_world(AntVectorEnv)
