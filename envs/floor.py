"""Base class of Quadruped and Humanoid: robots on a floor whose color encodes position."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import mujoco
import numpy as np
from mujoco.batch import Batch

from envs.observations import Array
from envs.painting import Marks
from envs.pixels import BatchPixelVectorEnv
from envs.vector import step_worlds

HALF_SIDE = 15.0  # half the side length of the floor, in meters
_TILES = 300  # height and width of the floor's texture in pixels


class FloorVectorEnv(BatchPixelVectorEnv):
    """N dm_control robots on a colored floor of 30 m x 30 m.

    The coordinates are the robot's x, y in meters. There is no reward.
    """

    coord_dim = 2
    success_radii = (3.0, 1.0)
    coverage_cell = 1.0
    direction_radius = 5.0
    goal_steps: int  # steps with zero action before the goal image is rendered
    mark_radius = 3.0  # radius of goal marks in rendered images, in meters

    def __init__(self, model: mujoco.MjModel, **settings: Any) -> None:
        """Create the worlds; see `PixelVectorEnv` for the arguments."""
        super().__init__(model, bounds=model.actuator_ctrlrange, **settings)
        self._probe = mujoco.MjData(model)  # for contact checks of initial states

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Array:
        """Draw an initial qpos [nq] above the origin, without contacts."""

    @abstractmethod
    def _upright(self) -> Array:
        """Return the deterministic initial qpos [nq] that goal images use."""

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw n goals: random initial states, moved to positions uniform within the goal range.

        Returns:
            Observations [n, 64, 64, 9] uint8 after `goal_steps` steps with zero action, positions [n, 2] float64.
        """
        starts = np.array([self._draw(rng) for _ in range(n)]).reshape(n, self.model.nq)
        place = rng.uniform(-self.goal_range, self.goal_range, (n, self.coord_dim))
        return self._still(self._settled(starts, place)), place

    def _goal_poses(self, place: Array) -> Array:
        return self._settled(np.tile(self._upright(), (len(place), 1)), place)

    def _settled(self, qpos: Array, place: Array) -> Array:
        """Move states qpos [n, nq] to positions [n, 2] and run `goal_steps` steps with zero action: qpos [n, nq]."""
        if not len(qpos):
            return qpos
        batch = Batch(self.model, len(qpos), self._threads, persistent=True)
        batch.bind("qpos")[:] = np.concatenate((place, qpos[:, 2:]), axis=1)
        batch.bind("ctrl")[:] = self.bounds.mean(1)  # the control of a zero action
        for _ in range(self.goal_steps):
            step_worlds(batch, self._substeps)
        return batch.bind("qpos").copy()

    def _begin(self, ids: Array) -> None:
        qpos = np.stack([self._draw(self.generators[i]) for i in ids])
        still = [np.zeros((len(ids), self._batch.bind(name).shape[1])) for name in self.parts[1:]]
        self._set(ids, (qpos, *still))

    def _coord(self) -> Array:
        return self._qpos[:, :2].copy()

    def _marks(self, goal: Array) -> Marks:
        return Marks(goal, self.mark_radius, self.model.body("torso").id)

    def _touches(self, qpos: Array) -> bool:
        """Whether a state qpos [nq] has contacts, with the ground or with itself."""
        mujoco.mj_resetData(self.model, self._probe)
        self._probe.qpos[:] = qpos
        mujoco.mj_fwdPosition(self.model, self._probe)
        return bool(self._probe.ncon)


def colored(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """Compile a dm_control robot with the colored floor: red decreases with y, green increases with x."""
    rgb = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=_TILES,
        height=_TILES,
    )
    material = spec.add_material(name="floor", texrepeat=[1, 1], texuniform=False, reflectance=0.2)
    material.textures[rgb] = "floor"
    floor = spec.geom("floor")
    floor.material, floor.size[:2] = "floor", HALF_SIDE
    model = spec.compile()
    for i in np.flatnonzero(model.tex_type == int(mujoco.mjtTexture.mjTEXTURE_2D)):
        _paint(model, int(i))
    model.mat_texrepeat[:] = 1.0
    return model


def _paint(model: mujoco.MjModel, i: int) -> None:
    """Color texture i by position."""
    height, width, start = model.tex_height[i], model.tex_width[i], model.tex_adr[i]
    pixels = model.tex_data[start : start + height * width * 3].reshape(height, width, 3)
    pixels[..., 0] = (255 * np.arange(height) // height)[:, None]
    pixels[..., 1] = 255 * np.arange(width) // width
    pixels[..., 2] = 128
