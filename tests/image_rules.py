"""What tests of image environments need: the packages that have the models, and something that draws."""

from __future__ import annotations

import functools
from importlib.util import find_spec

import pytest
from gymnasium.error import DependencyNotInstalled

import envs
from envs.rays import PACKAGES

MODELS = {
    "quadruped": "dm_control",
    "humanoid": "dm_control",
    "kitchen": "gymnasium_robotics",
    "robobin": "metaworld",
    "quadruped_goal": "dm_control",
    "humanoid_goal": "dm_control",
}


def need(name: str, renderer: str = "gl") -> None:
    """Skips the test where an image environment cannot be made; of other environments, does nothing."""
    if name not in MODELS:
        return
    if find_spec(MODELS[name]) is None:
        pytest.skip(f"{MODELS[name]} is not installed: pip install --no-deps -r scripts/lib/requirements-images.txt")
    if renderer == "warp" and find_spec("mujoco_warp") is None:
        pytest.skip(f"mujoco_warp is not installed: {PACKAGES}")
    if renderer == "gl" and (reason := _why_not_drawn()):
        pytest.skip(reason)


@functools.cache
def _why_not_drawn() -> str:
    """Why worlds of Gymnasium's own model cannot be drawn here; empty if they can."""
    worlds = envs.make_vec("ant", 1, render_mode="rgb_array", render_size=16)
    worlds.reset(seed=0)
    try:
        worlds.render()
    except DependencyNotInstalled as error:
        return str(error)
    finally:
        worlds.close()
    return ""
