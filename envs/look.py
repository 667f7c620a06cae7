"""How MuJoCo worlds look in pictures: the colors of a copy of their model, which nothing steps."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from envs.observations import Array
from envs.plane import BODY, FLOOR

TILE = 1.0  # side of the floor's tiles in meters; every tenth border is a line
LINE = (0.52, 0.60, 0.70)
SKY = (0.91, 0.94, 0.97), (0.47, 0.59, 0.75)  # at the horizon, and above


def dressed(model: mujoco.MjModel, size: int) -> mujoco.MjModel:
    """A copy of `model` in this project's colors, for pictures with sides of `size` pixels."""
    model = copy.copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    model.vis.quality.shadowsize = 1024
    model.vis.quality.numslices, model.vis.quality.numstacks = 20, 10  # of round things; twice as fast as the default
    model.stat.extent = 8.0  # meters; how far one sees and how far shadows reach are in units of it
    model.vis.headlight.ambient[:] = model.vis.headlight.diffuse[:] = 0.35
    model.light_diffuse[0] = 0.6
    floor = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE))
    material = model.geom_matid[floor]
    model.geom_size[floor, :2] = 1000.0  # half sides in meters: no skill gets to the end
    model.mat_texuniform[material], model.mat_texrepeat[material] = True, 2.0 / (10 * TILE)
    model.mat_reflectance[material], model.mat_specular[material] = 0.0, 0.2
    model.mat_rgba[material] = model.geom_rgba[floor] = 1.0
    model.geom_rgba[model.geom_bodyid > 0] = (*BODY, 1.0)
    for i, kind in enumerate(model.tex_type):
        if kind == int(mujoco.mjtTexture.mjTEXTURE_2D):
            _texture(model, i)[:] = 255 * _tiles(model.tex_height[i], model.tex_width[i])
        elif kind == int(mujoco.mjtTexture.mjTEXTURE_SKYBOX):
            _texture(model, i)[:] = 255 * np.linspace(*SKY, model.tex_height[i])[:, None]
    return model


def _texture(model: mujoco.MjModel, i: int) -> Array:
    """The pixels [H, W, 3] of texture i, to be written to."""
    height, width = model.tex_height[i], model.tex_width[i]
    start = model.tex_adr[i]
    return model.tex_data[start : start + height * width * 3].reshape(height, width, 3)


def _tiles(height: int, width: int) -> Array:
    """Ten by ten tiles [H, W, 3] with a line around them."""
    row, column = np.indices((height, width))
    pixels = np.array(FLOOR)[(row * 10 // height + column * 10 // width) % 2]
    edge = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    return np.where(edge[..., None], LINE, pixels)
