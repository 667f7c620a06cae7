"""Base classes of MuJoCo environments whose observations are stacks of the last three images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import mujoco
import numpy as np
from mujoco.batch import Batch

from envs.base import WorldsEnv, at_least, choice
from envs.observations import Array
from envs.painting import Marks, Painters, Quality
from envs.rays import Rays
from envs.stack import FRAMES, SIZE, FrameStack, stacks, still
from envs.vector import CURRENT, NOTHING, step_worlds, usable_cores


class PixelVectorEnv(WorldsEnv):
    """N MuJoCo worlds with image observations [64, 64, 9] uint8, which are stacked by `envs.stack.FrameStack`.

    Subclasses implement the dynamics; this class renders.

    Attributes:
        camera: Name of the model's camera for observations.
        model: Compiled model.
        renderer: Renderer of image observations.
        quality: Quality of image observations.
        dt: Seconds per environment step.
    """

    frames = FRAMES
    camera: ClassVar[str]
    quality: Quality
    _qpos: Array  # [N, nq], current positions

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        num_envs: int,
        substeps: int,
        bounds: Array,
        threads: int,
        renderer: str,
        quality: Quality,
        goal_range: float,
        max_steps: int,
        render_mode: str | None,
        render_size: int,
    ) -> None:
        """Create the renderers.

        Args:
            model: Compiled model; must not be modified afterwards.
            num_envs: N, the number of worlds.
            substeps: Physics steps per environment step.
            bounds: Lowest and highest control of the model, [A, 2].
            threads: Number of threads that step and render the worlds; 0: one per usable core, at most N.
            renderer: Renderer of image observations: "gl" for OpenGL, "warp" for MuJoCo Warp's ray tracer.
            quality: Quality of image observations, "paper" or "fast".
            goal_range: R; goal positions are drawn from U(-R, R) in every coordinate.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If the renderer is not installed.
        """
        super().__init__(num_envs, max_steps, goal_range, stacks(), bounds, render_mode, render_size)
        choice("renderer", renderer, ("gl", "warp"))
        choice("quality", quality, ("paper", "fast"))
        self.renderer, self.quality = renderer, quality
        self.version = f"v0, mujoco {mujoco.__version__}, {renderer}, {quality}"
        self.model, self.dt = model, float(model.opt.timestep) * substeps
        self._substeps = substeps
        self._threads = at_least("threads", threads, 0) or min(usable_cores(), num_envs)
        self._painters: Painters | Rays
        if renderer == "gl":
            self._painters = Painters(model, self.camera, SIZE, quality, self._threads)
        else:
            self._painters = Rays(model, self.camera, SIZE, quality, num_envs)
        self._video: Painters | None = None  # created by the first call of render()
        self._stack = FrameStack(num_envs)
        self._named_obs: Array | None = None  # rendered when the first goal is drawn

    @abstractmethod
    def _begin(self, ids: Array) -> None:
        """Reset worlds `ids` [n] to initial states drawn from their own generators."""

    @abstractmethod
    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        """Set worlds `ids` [n] to given states, one array [n, ...] per part of the state."""

    @abstractmethod
    def _move(self, action: Array) -> Array:
        """Step all worlds with actions [N, A] within bounds; return diverged [N] bool."""

    @abstractmethod
    def _goal_poses(self, place: Array) -> Array:
        """Return the states qpos [n, nq] of worlds at rest at goals [n, C], without randomness."""

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draw n of the named goals.

        Returns:
            Observations [n, 64, 64, 9] uint8, coordinates [n, C] float64.
        """
        place = np.array(list(self.named_goals.values()), np.float64)
        if self._named_obs is None:
            self._named_obs = self._goal_obs(place)
        drawn = rng.integers(len(place), size=n)
        return self._named_obs[drawn], place[drawn]

    def poses(self) -> Array:
        """Return the joint positions qpos [N, nq] float64 as a new array."""
        return self._qpos.copy()

    def close_extras(self) -> None:
        """Stop the threads and free the renderers."""
        self._painters.close()
        if self._video is not None:
            self._video.close()

    def _goal_obs(self, place: Array) -> Array:
        return self._still(self._goal_poses(place))

    def _still(self, qpos: Array) -> Array:
        """Render the states qpos [n, nq], each repeated three times: observations [n, 64, 64, 9] uint8."""
        return still(self._painters.paint(qpos))

    def _restart(self, ids: Array) -> None:
        self._begin(ids)
        self._stack.restart(ids, self._painters.paint(self._qpos[ids]))

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._set(ids, state)
        self._stack.restart(ids, self._painters.paint(self._qpos[ids]))

    def _advance(self, action: Array) -> Array:
        diverged = self._move(action)
        self._stack.push(self._painters.paint(self._qpos), diverged)
        return diverged

    def _obs(self) -> Array:
        return self._stack.read()

    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        if self._video is None:
            # The quality is that of the observations: films of the kitchen in the paper's take minutes on the CPU.
            self._video = Painters(self.model, self.camera, self.render_size, self.quality, threads=1)
        return iter(self._video.paint(self._qpos, None if goal is None else self._marks(goal)))

    def _marks(self, goal: Array) -> Marks | None:
        """Return the marks of goals [N, C] in rendered images, or None if goals are not positions."""
        return None


class BatchPixelVectorEnv(PixelVectorEnv):
    """Image environments whose controls are constant during a step, so that one call steps all worlds.

    Attributes:
        parts: Fields of MjData that form the state of a world, in the order of the reset option `state`.
    """

    parts: ClassVar[tuple[str, ...]] = ("qpos", "qvel")

    def __init__(self, model: mujoco.MjModel, *, num_envs: int, **settings: Any) -> None:
        """Create the worlds; see `PixelVectorEnv` for the arguments."""
        super().__init__(model, num_envs=num_envs, **settings)
        self._batch = Batch(model, num_envs, self._threads, persistent=True)
        self._qpos, self._ctrl = self._batch.bind("qpos"), self._batch.bind("ctrl")

    def close_extras(self) -> None:
        """Free the worlds and renderers."""
        super().close_extras()
        del self._batch, self._qpos, self._ctrl

    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._batch.reset(ids, stage=NOTHING)  # also clears the solver's warm start
        for name, part in zip(self.parts, state, strict=True):
            self._batch.bind(name)[ids] = part
        self._batch.forward(ids, stage=CURRENT)

    def _move(self, action: Array) -> Array:
        self._ctrl[:] = action
        return step_worlds(self._batch, self._substeps)
