"""Worlds that are seen in pictures: the newest three, stacked, are the observation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium.spaces import Box
from mujoco.batch import Batch

from envs.base import WorldsEnv, at_least, choice
from envs.observations import Array
from envs.painting import Marks, Painters, Quality
from envs.rays import Rays
from envs.vector import CURRENT, NOTHING, step_worlds, usable_cores

SIZE = 64  # side of an observed picture in pixels
FRAMES = 3  # pictures of an observation


class PixelVectorEnv(WorldsEnv):
    """N MuJoCo worlds that are observed as pictures [64, 64, 9] uint8.

    These are the pictures after the last three steps, one behind the other in the last axis, the oldest first. At an
    episode's start the first picture is there three times, so that a stack never reaches across a reset.

    A subclass says how the worlds move; this class draws them.

    Attributes:
        camera: Name of the model's camera that sees them.
        model: The compiled model.
        dt: Seconds per environment step.
    """

    camera: ClassVar[str]
    _qpos: Array  # [N, nq], as the worlds stand

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
        """Start the renderers of the worlds.

        Args:
            model: The compiled model; not changed from now on.
            num_envs: N, the number of worlds.
            substeps: Physics steps per environment step.
            bounds: [A, 2] lowest and highest action of the world itself.
            threads: Threads that step the worlds, and draw them with OpenGL; 0: one per usable core, at most N.
            renderer: "gl", OpenGL, or "warp", MuJoCo Warp's ray tracer.
            quality: "paper" or "fast".
            goal_range: R; places that are goals are drawn from U(-R, R) in every coordinate.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If the renderer is not installed.
        """
        space = Box(0, 255, (SIZE, SIZE, 3 * FRAMES), np.uint8)
        super().__init__(num_envs, max_steps, goal_range, space, bounds, render_mode, render_size)
        choice("renderer", renderer, ("gl", "warp"))
        choice("quality", quality, ("paper", "fast"))
        self.version = f"v0, mujoco {mujoco.__version__}, {renderer}, {quality}"
        self.model, self.dt = model, float(model.opt.timestep) * substeps
        self._substeps = substeps
        self._threads = at_least("threads", threads, 0) or min(usable_cores(), num_envs)
        self._painters: Painters | Rays
        if renderer == "gl":
            self._painters = Painters(model, self.camera, SIZE, quality, self._threads)
        else:
            self._painters = Rays(model, self.camera, SIZE, quality, num_envs)
        self._film: Painters | None = None  # made for the first picture of a film
        self._stack = np.zeros((num_envs, *space.shape), np.uint8)
        self._named_obs: Array | None = None  # drawn when the first goal is

    @abstractmethod
    def _begin(self, ids: Array) -> None:
        """Puts worlds `ids` [n] into fresh starts, each drawn from its own generator."""

    @abstractmethod
    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        """Puts worlds `ids` [n] into exact states, one array [n, ...] per part of the state."""

    @abstractmethod
    def _move(self, action: Array) -> Array:
        """Moves all worlds by one step under actions [N, A] within bounds; returns diverged [N] bool."""

    @abstractmethod
    def _goal_poses(self, place: Array) -> Array:
        """Positions of the joints [n, nq] of worlds that stand still at goals [n, C]; not drawn at random."""

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws from the goals that have names.

        Returns:
            Observations [n, 64, 64, 9] uint8, the goals' rows [n, C] float64.
        """
        place = np.array(list(self.named_goals.values()), np.float64)
        if self._named_obs is None:
            self._named_obs = self._goal_obs(place)
        drawn = rng.integers(len(place), size=n)
        return self._named_obs[drawn], place[drawn]

    def close_extras(self) -> None:
        """End the threads and free the renderers."""
        self._painters.close()
        if self._film is not None:
            self._film.close()

    def _goal_obs(self, place: Array) -> Array:
        return self._still(self._goal_poses(place))

    def _still(self, qpos: Array) -> Array:
        """Observations [n, 64, 64, 9] of worlds that have stood for three steps as they are, [n, nq]."""
        return np.tile(self._painters.paint(qpos), FRAMES)

    def _restart(self, ids: Array) -> None:
        self._begin(ids)
        self._stack[ids] = self._still(self._qpos[ids])

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._set(ids, state)
        self._stack[ids] = self._still(self._qpos[ids])

    def _advance(self, action: Array) -> Array:
        diverged = self._move(action)
        self._stack[..., :-3] = self._stack[..., 3:].copy()
        self._stack[..., -3:] = self._painters.paint(self._qpos)
        self._stack[diverged] = np.tile(self._stack[diverged][..., -3:], FRAMES)
        return diverged

    def _obs(self) -> Array:
        return self._stack.copy()

    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        if self._film is None:
            self._film = Painters(self.model, self.camera, self.render_size, "paper", threads=1)
        return iter(self._film.paint(self._qpos, None if goal is None else self._marks(goal)))

    def _marks(self, goal: Array) -> Marks | None:
        """What marks goals [N, C] in pictures; nothing where they are not places."""
        return None


class BatchPixelVectorEnv(PixelVectorEnv):
    """Such worlds whose controls stay as they are during a step, so that all can move in one call.

    Attributes:
        parts: Fields of the simulation that are the state of a world, in the order of the reset option `state`.
    """

    parts: ClassVar[tuple[str, ...]] = ("qpos", "qvel")

    def __init__(self, model: mujoco.MjModel, *, num_envs: int, **settings: Any) -> None:
        """Builds the worlds; see `PixelVectorEnv` for the arguments."""
        super().__init__(model, num_envs=num_envs, **settings)
        self._batch = Batch(model, num_envs, self._threads, persistent=True)
        self._qpos, self._ctrl = self._batch.bind("qpos"), self._batch.bind("ctrl")

    def close_extras(self) -> None:
        """Free worlds and renderers."""
        super().close_extras()
        del self._batch, self._qpos, self._ctrl

    def _set(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._batch.reset(ids, stage=NOTHING)  # clears the solver's warm start too
        for name, part in zip(self.parts, state, strict=True):
            self._batch.bind(name)[ids] = part
        self._batch.forward(ids, stage=CURRENT)

    def _move(self, action: Array) -> Array:
        self._ctrl[:] = action
        return step_worlds(self._batch, self._substeps)
