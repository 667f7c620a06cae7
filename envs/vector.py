"""MuJoCo worlds that all step in one call on a pool of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import mujoco
import numpy as np
from mujoco.batch import Batch

from envs.base import WorldsEnv, at_least, choice
from envs.errors import WorldError, engine_errors
from envs.observations import Array, vectors
from envs.render import Camera, View

# Counters by which MuJoCo tells that it found a bad state and replaced it by the model's default.
_BAD_STATE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]

# Positions and velocities of bodies and sensors follow the state in every call. In a persistent batch this
# costs nothing, because the next step goes on from there.
_CURRENT = int(mujoco.mjtStage.mjSTAGE_VEL)
_NOTHING = int(mujoco.mjtStage.mjSTAGE_NONE)


class MujocoVectorEnv(WorldsEnv):
    """N worlds of one MuJoCo model, bit-identical to a loop of `mj_step` over N separate simulations.

    The defaults of the methods are those of Ant and HalfCheetah: the observation is qpos and qvel, the
    coordinates are the first C numbers of qpos.

    Attributes:
        view: From where pictures show a world.
    """

    view: ClassVar[View]

    def __init__(
        self,
        model: mujoco.MjModel,
        preset: tuple[Array, Array],
        *,
        num_envs: int,
        frame_skip: int,
        threads: int,
        normalizer: str,
        goal_range: float,
        max_steps: int,
        render_mode: str | None,
        render_size: int,
    ) -> None:
        """Builds the worlds.

        Args:
            model: The compiled model; not changed.
            preset: Mean [O] and standard deviation [O] of the normalizer "preset".
            num_envs: N, the number of worlds.
            frame_skip: Physics steps per environment step.
            threads: Threads that step the worlds, the caller's included; 0: one per usable core, at most N.
            normalizer: "preset" or "off".
            goal_range: R; goals are drawn from U(-R, R) in every coordinate.
            max_steps: Steps of an episode.
            render_mode: "rgb_array" to take pictures, or None.
            render_size: Side of a picture in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        bounds = model.actuator_ctrlrange
        space = vectors(len(preset[0]))
        super().__init__(num_envs, max_steps, goal_range, space, bounds, render_mode, render_size)
        if choice("normalizer", normalizer, ("preset", "off")) == "preset":
            self.obs_mean, self.obs_std = preset
        self.version = f"v0, mujoco {mujoco.__version__}"
        self.model = model
        self.dt = float(model.opt.timestep) * frame_skip  # seconds per environment step
        self._frame_skip = frame_skip
        self._camera: Camera | None = None  # made for the first picture
        threads = at_least("threads", threads, 0) or min(_usable_cores(), num_envs)
        self._batch = Batch(model, num_envs, threads, persistent=True)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws goals: fresh starts moved to places that are uniform within the goal range.

        Returns:
            Observations [n, O] float32 as the agent would see them, places [n, C] float64.
        """
        starts = [self._draw(rng) for _ in range(n)]
        qpos = np.array([qpos for qpos, _ in starts]).reshape(n, self.model.nq)
        qvel = np.array([qvel for _, qvel in starts]).reshape(n, self.model.nv)
        place = rng.uniform(-self.goal_range, self.goal_range, (n, self.coord_dim))
        qpos[:, : self.coord_dim] = place
        return self._normalized(self._raw_obs(qpos, qvel)), place

    def _goal_obs(self, place: Array) -> Array:
        qpos, qvel = np.tile(self.model.qpos0, (len(place), 1)), np.zeros((len(place), self.model.nv))
        qpos[:, : self.coord_dim] = place
        return self._normalized(self._raw_obs(qpos, qvel))

    def close_extras(self) -> None:
        """Ends the threads and frees the worlds, and what took pictures of them."""
        del self._batch, self._qpos, self._qvel, self._ctrl
        if self._camera is not None:
            self._camera.close()

    def _restart(self, ids: Array) -> None:
        starts = [self._draw(self.generators[i]) for i in ids]
        self._put(ids, (np.stack([qpos for qpos, _ in starts]), np.stack([qvel for _, qvel in starts])))

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._batch.reset(ids, stage=_NOTHING)  # clears the solver's warm start too
        self._qpos[ids], self._qvel[ids] = state
        self._batch.forward(ids, stage=_CURRENT)

    def _advance(self, action: Array) -> Array:
        self._ctrl[:] = action
        try:
            self._batch.step(nstep=self._frame_skip, stage=_CURRENT)
        except engine_errors() as error:
            raise WorldError(f"MuJoCo cannot continue: {error}") from error
        # A reset clears the counters, and every world whose counters rose is reset below.
        diverged = self._batch.warning[:, _BAD_STATE, 1].any(1)
        # MuJoCo looks at a state when it leaves it, so that the one it ends in is looked at here.
        for state in (self._qpos, self._qvel):
            diverged |= ~(np.abs(state) <= mujoco.mjMAXVAL).all(1)
        if diverged.any():
            self._batch.reset(np.flatnonzero(diverged))
        return diverged

    def _pictures(self, goal: Array | None) -> Iterator[Array]:
        if self._camera is None:
            self._camera = Camera(self.model, self.view, self.render_size)
        if goal is None:
            return map(self._camera.picture, self._qpos)
        place = np.pad(goal, ((0, 0), (0, 2 - self.coord_dim)))  # on the line, y is 0
        return (self._camera.picture(*world, self.success_radii[0]) for world in zip(self._qpos, place, strict=True))

    def _draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Returns qpos [nq] and qvel [nv] of a start: the model's default with the paper's noise."""
        qpos = self.model.qpos0 + rng.uniform(-0.1, 0.1, self.model.nq)
        # MuJoCo 2 normalized quaternions in place in its forward pass; MuJoCo 3 leaves them as they are.
        mujoco.mj_normalizeQuat(self.model, qpos)
        return qpos, 0.1 * rng.standard_normal(self.model.nv)

    def _raw_obs(self, qpos: Array, qvel: Array) -> Array:
        return np.concatenate((qpos, qvel), axis=1)

    def _obs(self) -> Array:
        return self._normalized(self._raw_obs(self._qpos, self._qvel))

    def _coord(self) -> Array:
        return self._qpos[:, : self.coord_dim].copy()

    def _normalized(self, raw: Array) -> Array:
        if self.obs_mean is not None and self.obs_std is not None:
            raw = (raw - self.obs_mean) / (self.obs_std + 1e-8)
        return raw.astype(np.float32)


def gymnasium_asset(name: str) -> str:
    """Path of a model file in the installed Gymnasium, found without importing its environments.

    Raises:
        FileNotFoundError: If this Gymnasium has no such file.
    """
    package = find_spec("gymnasium")
    folders = (package.submodule_search_locations if package else None) or []
    for folder in folders:
        path = Path(folder, "envs", "mujoco", "assets", name)
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"the installed gymnasium has no model {name!r}: pip install gymnasium==1.4.0")


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1
