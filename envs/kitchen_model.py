"""The kitchen of gymnasium-robotics with an arm that follows a point in space, and what its goals are."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.assets import asset

HAND = "panda0_link7"  # the link that follows the point

# Positions of the joints at an episode's start: arm, fingers, burners, light, cabinets, microwave, kettle.
# fmt: off
START = np.array(
    [
        1.48388023e-01, -1.76848573e00, 1.84390296e00, -2.47685760e00, 2.60252026e-01, 7.12533105e-01, 1.59515394e00,
        4.79267505e-02, 3.71350919e-02,
        -2.66279850e-04, -5.18043486e-05, 3.12877220e-05, -4.51199853e-05,
        -3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05,
        4.62730939e-04, -2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03,
        -2.69397440e-01, 3.50383255e-01, 1.61944683e00, 1.00618764e00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04,
    ]
)
# fmt: on


@dataclass(frozen=True)
class Chore:
    """Something to be done to one object of the kitchen.

    Attributes:
        joints: Entries of qpos that have other values when it is done.
        values: These values.
        judged: How many of the entries, counted from `first`, say whether it is done.
        first: The first of them.
        radius: It is done where their distance to the values is less, in radians or meters.
        border: In place of `radius`: it is done on the side of this value on which the goal is.
    """

    joints: tuple[int, ...]
    values: tuple[float, ...]
    first: int = 0
    judged: int = 1
    radius: float = 0.0
    border: float | None = None

    @property
    def seen(self) -> tuple[int, ...]:
        """The entries of qpos that say whether it is done."""
        return self.joints[self.first : self.first + self.judged]

    @property
    def wanted(self) -> tuple[float, ...]:
        """The values of `seen` at the goal."""
        return self.values[self.first : self.first + self.judged]


CHORES = {
    "bottom_burner": Chore((9, 10), (-0.88, -0.01), border=-0.38),
    "light_switch": Chore((17, 18), (-0.69, -0.05), border=-0.25),
    "slide_cabinet": Chore((19,), (0.37,), radius=0.1),
    "hinge_cabinet": Chore((20, 21), (0.0, 0.5), first=1, radius=0.2),
    "microwave": Chore((22,), (-0.5,), radius=0.2),
    "kettle": Chore((23, 24, 25), (-0.23, 0.75, 1.62), judged=2, radius=0.2),
}


@functools.cache
def kitchen_model() -> mujoco.MjModel:
    """The kitchen, with a body of no mass ("mocap") to which the arm's last link is welded.

    Raises:
        DependencyNotInstalled: If gymnasium-robotics is not installed.
    """
    path = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
    spec = mujoco.MjSpec.from_file(asset("gymnasium_robotics", path))
    spec.worldbody.add_body(name="mocap", mocap=True)
    weld = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY, name1="mocap", name2=HAND
    )
    weld.solimp[:3], weld.solref[:] = (0.9, 0.95, 0.001), (0.02, 1.0)
    # Anchor, relative position and quaternion, and the scale of the torque, which made MuJoCo 2's welds much stiffer.
    weld.data[:] = 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 20, 0
    spec.material("oven_burner").rgba = 2, 0, 0, 1
    pedestal = spec.body("panda0_link0").parent.geoms[0]
    pedestal.contype, pedestal.conaffinity, pedestal.mass, pedestal.rgba = 0, 1, 0.0, (0.95, 0.99, 0.92, 1)
    return spec.compile()
