"""Steps a batch of MuJoCo worlds in one call on a pool of threads."""

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

# MuJoCo's warning counters for an invalid state that was replaced by the model's default.
BAD_STATE = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]

# Every call also updates positions and velocities of bodies and sensors. In a persistent batch this is free,
# because the next step starts from these results.
CURRENT = int(mujoco.mjtStage.mjSTAGE_VEL)
NOTHING = int(mujoco.mjtStage.mjSTAGE_NONE)


class MujocoVectorEnv(WorldsEnv):
    """N worlds of one MuJoCo model, bit-identical to a loop of `mj_step` over N separate simulations.

    By default the observation is qpos and qvel, and the coordinates are the first C entries of qpos.

    Attributes:
        view: Position of the camera for `render`.
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
        """Creates the worlds.

        Args:
            model: The compiled model; not modified.
            preset: Mean [O] and standard deviation [O] of the normalizer "preset".
            num_envs: N, the number of worlds.
            frame_skip: Number of physics steps per environment step.
            threads: Number of threads that step the worlds, including the calling thread; 0: one per usable core, at
                most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            goal_range: R; goals are drawn from U(-R, R) in every coordinate.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

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
        self._camera: Camera | None = None  # created by the first call of render()
        threads = at_least("threads", threads, 0) or min(usable_cores(), num_envs)
        self._batch = Batch(model, num_envs, threads, persistent=True)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws goals: initial states moved to positions drawn from U(-goal_range, goal_range)^C.

        Returns:
            Observations of the goals [n, O] float32, as an agent would receive them, and positions [n, C] float64.
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

    def poses(self) -> Array:
        """Returns the joint positions qpos [N, nq] float64 as a new array."""
        return self._qpos.copy()

    def close_extras(self) -> None:
        """Stops the threads and frees the worlds and the rendering context."""
        del self._batch, self._qpos, self._qvel, self._ctrl
        if self._camera is not None:
            self._camera.close()

    def _restart(self, ids: Array) -> None:
        starts = [self._draw(self.generators[i]) for i in ids]
        self._put(ids, (np.stack([qpos for qpos, _ in starts]), np.stack([qvel for _, qvel in starts])))

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._batch.reset(ids, stage=NOTHING)  # also clears the solver's warm start
        self._qpos[ids], self._qvel[ids] = state
        self._batch.forward(ids, stage=CURRENT)

    def _advance(self, action: Array) -> Array:
        self._ctrl[:] = action
        return step_worlds(self._batch, self._frame_skip)

    def _pictures(self, goal: Array | None) -> Iterator[Array]:
        if self._camera is None:
            self._camera = Camera(self.model, self.view, self.render_size)
        if goal is None:
            return map(self._camera.picture, self._qpos)
        place = np.pad(goal, ((0, 0), (0, 2 - self.coord_dim)))  # y is 0 if the only coordinate is x
        return (self._camera.picture(*world, self.success_radii[0]) for world in zip(self._qpos, place, strict=True))

    def _draw(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws qpos [nq] and qvel [nv] of an initial state: the model's default with the paper's noise."""
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


def step_worlds(batch: Batch, substeps: int) -> Array:
    """Advances all simulations with the current controls and resets those that diverged.

    Returns:
        Which diverged [N] bool.

    Raises:
        WorldError: If MuJoCo cannot continue.
    """
    try:
        batch.step(nstep=substeps, stage=CURRENT)
    except engine_errors() as error:
        raise WorldError(f"MuJoCo cannot continue: {error}") from error
    # The counters need no comparison with earlier values: the reset below sets them to zero.
    diverged = batch.warning[:, BAD_STATE, 1].any(1)
    # MuJoCo checks a state at the beginning of a step, so the final state is checked here.
    for state in (batch.bind("qpos"), batch.bind("qvel")):
        valid = np.abs(state) <= mujoco.mjMAXVAL  # False for NaN
        if not valid.all():
            diverged |= ~valid.all(1)
    if diverged.any():
        batch.reset(np.flatnonzero(diverged))
    return diverged


def gymnasium_asset(name: str) -> str:
    """Returns the path of a model file in the installed Gymnasium, without importing its environments.

    Raises:
        FileNotFoundError: If the installed Gymnasium has no such file.
    """
    package = find_spec("gymnasium")
    folders = (package.submodule_search_locations if package else None) or []
    for folder in folders:
        path = Path(folder, "envs", "mujoco", "assets", name)
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"the installed gymnasium has no model {name!r}: pip install gymnasium==1.4.0")


def usable_cores() -> int:
    """Number of cores that this process may use: OMP_NUM_THREADS, by which launchers divide them among jobs, or all."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    affinity = getattr(os, "sched_getaffinity", None)  # absent on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1
