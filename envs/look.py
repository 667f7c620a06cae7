"""Sets colors, floor and lighting of the model copy that is used for rendering."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from envs.observations import Array
from envs.plane import BODY, FLOOR

TILE = 1.0  # side of a floor tile in meters; every tenth border is drawn as a line
LINE = (0.52, 0.60, 0.70)
SKY = (0.91, 0.94, 0.97), (0.47, 0.59, 0.75)  # at the horizon and at the zenith


def dressed(model: mujoco.MjModel, size: int) -> mujoco.MjModel:
    """Returns a copy of `model` with this project's colors, for images of `size` pixels per side."""
    model = copy.copy(model)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    model.vis.quality.shadowsize = 1024
    model.vis.quality.numslices, model.vis.quality.numstacks = (
        20,
        10,
    )  # resolution of round shapes; twice as fast as the default
    model.stat.extent = 8.0  # meters; the unit of the view distance and of the shadow range
    model.vis.headlight.ambient[:] = model.vis.headlight.diffuse[:] = 0.35
    model.light_diffuse[0] = 0.6
    floor = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE))
    material = model.geom_matid[floor]
    model.geom_size[floor, :2] = 1000.0  # half sides in meters, beyond the reach of any episode
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
    """Returns a writable view of the pixels [H, W, 3] of texture i."""
    height, width = model.tex_height[i], model.tex_width[i]
    start = model.tex_adr[i]
    return model.tex_data[start : start + height * width * 3].reshape(height, width, 3)


def _tiles(height: int, width: int) -> Array:
    """Returns a texture [H, W, 3] of ten by ten tiles with a line at its border."""
    row, column = np.indices((height, width))
    pixels = np.array(FLOOR)[(row * 10 // height + column * 10 // width) % 2]
    edge = (row == 0) | (row == height - 1) | (column == 0) | (column == width - 1)
    return np.where(edge[..., None], LINE, pixels)
