"""Base class of the vector environments: seeds, step counters, action bounds and partial resets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar

import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.spaces import Box, Space
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.errors import WorldError
from envs.measures import Measured
from envs.observations import Array, Obs, checked

StepResult: TypeAlias = tuple[Obs, Array, Array, Array, dict[str, Any]]
T = TypeVar("T")


class NotCopied:
    """Raises a TypeError with a clear message when copied or pickled."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled; "
            "create another one from its name and settings, with envs.make_vec or gymnasium.make"
        )


class WorldsEnv(Measured, NotCopied, VectorEnv[Obs, Array, Array], ABC):
    """N worlds with Gymnasium's vector interface, without autoreset.

    A subclass defines a world by implementing the abstract methods. Worlds never terminate. They are truncated at
    step `max_steps` and at every later step until the caller resets them.

    The observation of a world is a vector [O] float32, an image [H, W, C] uint8, or a dictionary of both with the
    keys "image" and "vector"; `reset` and `step` return arrays [N, ...], or a dictionary of them.

    Attributes, besides those of `Measured`:
        max_steps: Number of steps per episode.
        frames: Number of images that an image observation stacks along its last axis, oldest first. A stack holds the
            images of the last steps, and those before an episode's first image are copies of it.
        reset_options: Names of the options that `reset` accepts.
        obs_mean: [O] float64, the mean that normalizes the vector, or None if it is not normalized.
        obs_std: [O] float64, the standard deviation that normalizes the vector, or None.
        version: Version of the environment and of its physics engine.
        renderer: Renderer of image observations; None if it cannot be chosen.
        quality: Quality of image observations; None if it cannot be chosen.
        generators: One NumPy generator per world.
        render_mode: "rgb_array" if `render` is enabled, else None.
        render_size: Height and width of the images of `render` in pixels. Image observations do not depend on it.
        model: Compiled MuJoCo model, whose `poses` can be displayed; None if the environment has none.
    """

    model: Any = None
    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": ["rgb_array"],
        "render_fps": 20,
    }
    reset_options: ClassVar[tuple[str, ...]] = ("reset_mask", "state")
    version: str = "v0"
    renderer: str | None = None
    quality: str | None = None
    frames: int = 1
    obs_mean: Array | None = None
    obs_std: Array | None = None

    def __init__(
        self,
        num_envs: int,
        max_steps: int,
        goal_range: float,
        observation_space: Space[Any],
        bounds: Array,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates spaces, counters and generators.

        Args:
            num_envs: N, the number of worlds.
            max_steps: Number of steps per episode.
            goal_range: R; goals are drawn from U(-R, R) in every coordinate.
            observation_space: Space of one world: Box float32 [O], Box uint8 [H, W, C], or Dict of both with the
                keys "image" and "vector".
            bounds: [A, 2] lowest and highest action of the world; [-1, 1] is mapped onto this range.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        self.num_envs = at_least("num_envs", num_envs, 1)
        self.max_steps = at_least("max_steps", max_steps, 1)
        if not isinstance(goal_range, int | float) or isinstance(goal_range, bool) or not 0 < goal_range < np.inf:
            raise WorldError(f"goal_range is {goal_range!r}; accepted: a positive finite number")
        self.goal_range = float(goal_range)
        self.render_mode = choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.render_size = at_least("render_size", render_size, 16)
        self.single_observation_space = checked(observation_space)
        self.single_action_space = Box(-1.0, 1.0, (len(bounds),), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.bounds = np.asarray(bounds, np.float64)
        self.generators = [seeding.np_random()[0] for _ in range(num_envs)]
        self._steps = np.zeros(num_envs, np.int64)
        self._begun = np.zeros(num_envs, bool)

    @abstractmethod
    def _restart(self, ids: Array) -> None:
        """Resets worlds `ids` [n] to initial states, each drawn from the generator of its world."""

    @abstractmethod
    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        """Sets worlds `ids` [n] to exact states, given as one array [n, ...] per part of the state."""

    @abstractmethod
    def _advance(self, action: Array) -> Array:
        """Advances all worlds by one step under actions [N, A] within bounds; returns diverged [N] bool."""

    @abstractmethod
    def _obs(self) -> Obs:
        """Returns observations [N, ...] as new arrays."""

    @abstractmethod
    def _coord(self) -> Array:
        """Returns coordinates [N, C] float64 as a new array."""

    @abstractmethod
    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        """Renders all worlds as images [H, W, 3] uint8, with the goals [N, C] marked unless `goal` is None."""

    def _reward(self, before: Array, after: Array, action: Array) -> Array:
        """Returns rewards [N] float64 from coordinates before and after a step [N, C] and bounded actions [N, A]."""
        return np.zeros(self.num_envs)

    def _after_reset(self, ids: Array, options: dict[str, Any]) -> None:
        """Hook: called when worlds `ids` [n] have been reset, with the options of `reset`."""

    def _after_step(self, reward: Array) -> None:
        """Hook: called after every step with the rewards [N], before observations are read."""

    def _more_infos(self) -> dict[str, Array]:
        """Returns infos [N, ...] of `reset` and `step` besides `coord` and `diverged`, as new arrays."""
        return {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: If None, the generators of the worlds are kept. An int s seeds world i with s + i. A sequence
                contains one seed (or None) per world.
            options: `reset_mask` [N] bool selects the worlds to reset, as in Gymnasium's SyncVectorEnv. `state`, a
                tuple of arrays [N, ...], sets exact states instead of drawing them.

        Returns:
            Observations [N, ...] and infos with `coord` [N, C] float64, both of all worlds.

        Raises:
            WorldError: If seeds, mask or state have the wrong shape, or an option is unknown.
        """
        self._check_open()
        options = {} if options is None else options
        if unknown := set(options) - set(self.reset_options):
            accepted = ", ".join(map(repr, self.reset_options))
            raise WorldError(f"unknown reset options {sorted(unknown)}; accepted: {accepted}")
        ids = self._masked(options.get("reset_mask"))
        seeds = self._seeds(seed)
        for i in ids:
            if seeds[i] is not None:
                self.generators[i] = seeding.np_random(seeds[i])[0]
        if (state := options.get("state")) is None:
            self._restart(ids)
        else:
            self._put(ids, tuple(self._rows(part)[ids] for part in state))
        self._steps[ids] = 0
        self._after_reset(ids, options)
        self._begun[ids] = True
        return self._obs(), batch_infos(coord=self._coord(), **self._more_infos())

    def step(self, actions: Array) -> StepResult:
        """Advances all worlds by one step.

        Args:
            actions: [N, A]; [-1, 1] is mapped linearly onto the world's bounds, and values outside are clipped.

        Returns:
            Observations [N, ...], rewards [N] float64, terminated [N] (all False), truncated [N], and
            infos with `coord` [N, C] float64 and `diverged` [N] bool. A diverged world has been set to a valid
            state, but its episode is invalid and should be discarded.

        Raises:
            WorldError: If actions have the wrong shape or are not finite, or the simulation cannot continue.
        """
        self._check_begun()
        action = map_action(actions, self.num_envs, self.bounds[:, 0], self.bounds[:, 1])
        before = self._coord()
        diverged = self._advance(action)
        after = self._coord()
        reward = np.where(diverged, 0.0, self._reward(before, after, action))
        self._steps += 1
        self._after_step(reward)
        terminated = np.zeros(self.num_envs, bool)
        infos = batch_infos(coord=after, diverged=diverged, **self._more_infos())
        return self._obs(), reward, terminated, self._steps >= self.max_steps, infos

    def poses(self) -> Array:
        """Returns the joint positions qpos [N, nq] float64 of the current states as a new array.

        Raises:
            NotImplementedError: If the environment has no MuJoCo model.
        """
        raise NotImplementedError(f"{type(self).__name__} has no MuJoCo model")

    def render(self) -> tuple[Array, ...]:
        """Renders the current state of every world.

        Returns:
            N images [H, W, 3] uint8.

        Raises:
            WorldError: If `render_mode` is None.
            DependencyNotInstalled: If no OpenGL library is found; the message names packages that contain one.
        """
        check_render_mode(self.render_mode)
        self._check_begun()
        return tuple(self._pictures(None))

    def _masked(self, mask: Array | None) -> Array:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise WorldError(f"reset_mask is {mask!r}; accepted: {self.num_envs} booleans, at least one of them True")
        return np.flatnonzero(mask)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise WorldError(f"seed has length {len(seed)}; accepted: an int, or {self.num_envs} of them")
        return [None if s is None else int(s) for s in seed]

    def _rows(self, part: Array) -> Array:
        part = np.asarray(part, np.float64)
        if part.shape[:1] != (self.num_envs,):
            raise WorldError(f"state has a part of shape {part.shape}; accepted: ({self.num_envs}, ...)")
        return part

    def _check_begun(self) -> None:
        self._check_open()
        if not self._begun.all():
            raise ResetNeeded(f"call reset() first; worlds {np.flatnonzero(~self._begun).tolist()} have not been reset")

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self} is closed")


def batch_infos(**infos: Array) -> dict[str, Array]:
    """Adds Gymnasium's `_key` masks to infos [N, ...]; all worlds report every key."""
    return infos | {f"_{key}": np.ones(len(value), bool) for key, value in infos.items()}


def map_action(actions: Array, num_envs: int, low: Array, high: Array) -> Array:
    """Maps actions [N, A] in [-1, 1] linearly onto [low, high] as float64, clipped.

    Raises:
        WorldError: If the shape is not [N, A] or an action is not finite.
    """
    action = np.asarray(actions, np.float64)
    if action.shape != (num_envs, len(low)):
        raise WorldError(f"actions have shape {action.shape}; accepted: {(num_envs, len(low))}")
    if not (finite := np.isfinite(action)).all():
        raise WorldError(f"actions of worlds {np.flatnonzero(~finite.all(1)).tolist()} are not finite")
    mapped = low + (action + 1.0) * 0.5 * (high - low)
    return np.minimum(np.maximum(mapped, low, out=mapped), high, out=mapped)  # faster than np.clip


def check_render_mode(mode: str | None) -> None:
    """Checks that rendering is enabled.

    Raises:
        WorldError: If `mode` is not "rgb_array".
    """
    if mode != "rgb_array":
        raise WorldError(f"render_mode is {mode!r}; create the environment with render_mode='rgb_array' to render it")


def choice(name: str, value: T, accepted: Sequence[T]) -> T:
    """Returns `value` if it is one of `accepted`.

    Raises:
        WorldError: If it is not.
    """
    if value not in accepted:
        raise WorldError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
    return value


def at_least(name: str, value: int, lowest: int) -> int:
    """Returns `value` if it is an integer of at least `lowest`.

    Raises:
        WorldError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
        raise WorldError(f"{name} is {value!r}; accepted: an integer of at least {lowest}")
    return int(value)
