"""HalfCheetah: a planar runner. Its coordinate is x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import mujoco
import numpy as np

from envs.observations import Array
from envs.render import View
from envs.single import one_world
from envs.vector import MujocoVectorEnv, gymnasium_asset

# The paper's preset. Order: x, z, pitch, (thigh, shin, foot) back and front, then the 9 velocities.
# fmt: off
_MEAN = np.array(
    [
        -0.07861924, -0.08627162, 0.08968642, 0.00960849, 0.02950368, -0.00948337, 0.01661406, -0.05476654,
        -0.04932635, -0.08061652, -0.05205841, 0.04500197, 0.02638421, -0.04570961, 0.03183838,
        0.01736591, 0.0091929, -0.0115027,
    ]
)
_STD = np.array(
    [
        0.4039283, 0.07610687, 0.23817, 0.2515473, 0.2698137, 0.26374814, 0.32229397, 0.2896734, 0.2774097,
        0.73060024, 0.77360505, 1.5871304, 5.5405455, 6.7097645, 6.8253727, 6.3142195, 6.417641, 5.9759197,
    ]
)
# fmt: on


class HalfCheetahVectorEnv(MujocoVectorEnv):
    """N half cheetahs: observation [18] = qpos and qvel, x included; action [6] = joint torques."""

    coord_dim = 1  # x in meters
    success_radii = (3.0, 1.0)
    coverage_cell = 1.0
    direction_radius = 20.0
    view = View(distance=4.0, elevation=-15.0, height=0.6)
    hurdles: ClassVar[tuple[float, ...]] = ()  # x in meters of boxes on the track

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        normalizer: Literal["preset", "off"] = "preset",
        goal_range: float = 100.0,
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step the worlds; 0: one per usable core, at most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            goal_range: R in meters; goals are drawn from U(-R, R).
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        super().__init__(
            half_cheetah_model(self.hurdles),
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
        return (after[:, 0] - before[:, 0]) / self.dt - 0.1 * np.square(action).sum(1)


def half_cheetah_model(hurdles: Sequence[float] = ()) -> mujoco.MjModel:
    """Compiles Gymnasium's half_cheetah.xml, scaled to 14 kg here because `settotalmass` in a file is deprecated.

    Args:
        hurdles: x in meters of bars across the track, each 10 cm long and 17 to 23 cm above the ground.
    """
    spec = mujoco.MjSpec.from_file(gymnasium_asset("half_cheetah.xml"))
    spec.compiler.settotalmass = -1
    for i, x in enumerate(hurdles):
        spec.worldbody.add_geom(
            name=f"hurdle{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.05, 1.0, 0.03),  # half sides
            pos=(x, 0.0, 0.2),
            conaffinity=1,  # the cheetah's geoms collide with geoms that have this bit
            condim=3,
            rgba=(0.8, 0.3, 0.2, 1.0),
        )
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


make_half_cheetah = one_world(HalfCheetahVectorEnv)
