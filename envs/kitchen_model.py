"""Model of Kitchen: gymnasium-robotics' kitchen with an arm controlled by a mocap body."""

from __future__ import annotations

import functools

import mujoco
import numpy as np

from envs.assets import asset
from envs.painting import look

HAND = "panda0_link7"  # link welded to the mocap body

# Initial qpos of an episode: arm, fingers, burners, light, cabinets, microwave, kettle.
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


@functools.cache
def kitchen_model() -> mujoco.MjModel:
    """Build the kitchen model, with the arm's last link welded to a mocap body named "mocap".

    Raises:
        DependencyNotInstalled: If gymnasium-robotics is not installed.
    """
    path = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
    spec = mujoco.MjSpec.from_file(asset("gymnasium_robotics", path))
    spec.worldbody.add_body(name="mocap", mocap=True)
    weld = spec.add_equality(type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY, name1="mocap", name2=HAND)
    weld.solimp[:3], weld.solref[:] = (0.9, 0.95, 0.001), (0.02, 1.0)
    # Anchor, relative position, relative quaternion and torque scale. The scale reproduces the much stiffer welds of
    # MuJoCo 2.
    weld.data[:] = 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 20, 0
    spec.material("oven_burner").rgba = 2, 0, 0, 1
    pedestal = spec.body("panda0_link0").parent.geoms[0]
    pedestal.contype, pedestal.conaffinity, pedestal.mass, pedestal.rgba = 0, 1, 0.0, (0.95, 0.99, 0.92, 1)
    look(spec, (-0.3, 0.5, 2.0), distance=1.86, elevation=-60.0, azimuth=90.0)
    return spec.compile()
