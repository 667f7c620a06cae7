"""HalfCheetah: a planar runner; how far it stands along the line is what skills should cover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import mujoco
import numpy as np

from envs.observations import Array
from envs.render import View
from envs.single import one_world
from envs.vector import MujocoVectorEnv, gymnasium_asset

# Order: x, z, pitch, (thigh, shin, foot) back and front, then the 9 velocities. The paper's preset.
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
    view = View(distance=4.0, elevation=-15.0, height=0.6)
    hurdles: ClassVar[tuple[float, ...]] = ()  # x in meters of boxes that lie in the way

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
        """Builds the worlds; see `MujocoVectorEnv` for the arguments.

        Args:
            num_envs: N, the number of worlds.
            threads: Threads that step the worlds; 0 chooses.
            normalizer: "preset" or "off".
            goal_range: R; goals are drawn from U(-R, R).
            max_steps: Steps of an episode.
            render_mode: "rgb_array" to take pictures, or None.
            render_size: Side of a picture in pixels.

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
    """Gymnasium's half_cheetah.xml, scaled to 14 kg here because `settotalmass` in a file is deprecated.

    Args:
        hurdles: For every x in meters a bar across the track, 10 cm long and 17 to 23 cm above the ground.
    """
    spec = mujoco.MjSpec.from_file(gymnasium_asset("half_cheetah.xml"))
    spec.compiler.settotalmass = -1
    for i, x in enumerate(hurdles):
        spec.worldbody.add_geom(
            name=f"hurdle{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.05, 1.0, 0.03),  # half sides
            pos=(x, 0.0, 0.2),
            conaffinity=1,  # the cheetah's own geoms touch what has this bit
            condim=3,
            rgba=(0.8, 0.3, 0.2, 1.0),
        )
    model = spec.compile()
    mujoco.mj_setTotalmass(model, 14.0)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


make_half_cheetah = one_world(HalfCheetahVectorEnv)
