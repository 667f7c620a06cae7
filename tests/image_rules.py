"""Skip tests of image environments if the packages with the models or a renderer are missing."""

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
    """Skip the test if image environment `name` cannot be created; do nothing for other environments."""
    if name not in MODELS:
        return
    if find_spec(MODELS[name]) is None:
        pytest.skip(f"{MODELS[name]} is not installed: pip install --no-deps -r scripts/lib/requirements-images.txt")
    if renderer == "warp" and find_spec("mujoco_warp") is None:
        pytest.skip(f"mujoco_warp is not installed: {PACKAGES}")
    if renderer == "gl" and (reason := _render_error()):
        pytest.skip(reason)


@functools.cache
def _render_error() -> str:
    """Return the error of rendering an Ant world, or an empty string if it renders."""
    worlds = envs.make_vec("ant", 1, render_mode="rgb_array", render_size=16)
    worlds.reset(seed=0)
    try:
        worlds.render()
    except DependencyNotInstalled as error:
        return str(error)
    finally:
        worlds.close()
    return ""
