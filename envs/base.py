"""What every vector environment here shares: seeds, step counters, action bounds and partial resets."""

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
    """Refuses to be copied or pickled, in one line instead of an error from deep inside."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be copied or pickled: its worlds belong to this process; "
            "make another one from its name and settings, with envs.make_vec or gymnasium.make"
        )


class WorldsEnv(Measured, NotCopied, VectorEnv[Obs, Array, Array], ABC):
    """N worlds behind Gymnasium's vector interface, without autoreset.

    A subclass says what a world is (the abstract methods); this class does what is the same for all of them.
    Worlds never terminate. They are truncated from step `max_steps` on, until the caller resets them.

    The observation of a world is a vector [O] float32, a picture [H, W, C] uint8, or both as a dictionary with the
    keys "image" and "vector"; `reset` and `step` return arrays [N, ...], or a dictionary of them.

    Attributes, besides those of `Measured`:
        max_steps: Steps of an episode.
        reset_options: Names of the options that `reset` takes.
        obs_mean: [O] float64 that was subtracted from the vector, or None where it is not normalized.
        obs_std: [O] float64 by which they were then divided, or None.
        version: Version of the environment and of the engine below it.
        generators: One NumPy generator per world.
        render_mode: "rgb_array" if `render` may be called, else None.
        render_size: Side of the pictures of `render` in pixels. Pictures that are observations do not depend on it.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.DISABLED,
        "render_modes": ["rgb_array"],
        "render_fps": 20,
    }
    reset_options: ClassVar[tuple[str, ...]] = ("reset_mask", "state")
    version: str = "v0"
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
        """Sets up spaces, counters and generators.

        Args:
            num_envs: N, the number of worlds.
            max_steps: Steps of an episode.
            goal_range: R; goals are drawn from U(-R, R) in every coordinate.
            observation_space: Of one world: Box float32 [O], Box uint8 [H, W, C], or Dict of "image" and "vector".
            bounds: [A, 2] lowest and highest action of the world itself; [-1, 1] is mapped onto it.
            render_mode: "rgb_array" if `render` will be called, else None.
            render_size: Side of a picture in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        self.num_envs = at_least("num_envs", num_envs, 1)
        self.max_steps = at_least("max_steps", max_steps, 1)
        if not isinstance(goal_range, int | float) or isinstance(goal_range, bool) or not 0 < goal_range < np.inf:
            raise WorldError(f"goal_range is {goal_range!r}; a positive finite number is accepted")
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
        """Puts worlds `ids` [n] into fresh starts, each drawn from its own generator."""

    @abstractmethod
    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        """Puts worlds `ids` [n] into exact states, one array [n, ...] per part of the state."""

    @abstractmethod
    def _advance(self, action: Array) -> Array:
        """Advances all worlds by one step under actions [N, A] within bounds; returns diverged [N] bool."""

    @abstractmethod
    def _obs(self) -> Obs:
        """Returns observations [N, ...], newly made."""

    @abstractmethod
    def _coord(self) -> Array:
        """Returns coordinates [N, C] float64, newly made."""

    @abstractmethod
    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        """Takes pictures [H, W, 3] uint8 of all worlds; places [N, C] to be marked, or None."""

    def _reward(self, before: Array, after: Array, action: Array) -> Array:
        """Coordinates before and after a step [N, C], actions [N, A] within bounds -> rewards [N] float64."""
        return np.zeros(self.num_envs)

    def _after_reset(self, ids: Array, options: dict[str, Any]) -> None:
        """What worlds `ids` [n] do once they stand at the start of an episode, given the options of `reset`."""

    def _after_step(self, reward: Array) -> None:
        """What all worlds do once a step has been counted and rewarded [N], before they are observed."""

    def _more_infos(self) -> dict[str, Array]:
        """Infos [N, ...] besides `coord` and `diverged`, newly made, after a reset and after a step."""
        return {}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Starts new episodes.

        Args:
            seed: None goes on with the worlds' generators; s gives world i the seed s + i; a sequence gives
                one seed (or None) per world.
            options: `reset_mask` [N] bool restarts these worlds only, as in Gymnasium's SyncVectorEnv;
                `state`, a tuple of arrays [N, ...], puts worlds into exact states instead of drawing them.

        Returns:
            Observations [N, ...] and infos with `coord` [N, C] float64 of all worlds.

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
            actions: [N, A]; [-1, 1] is mapped linearly onto the world's bounds, values outside are clipped.

        Returns:
            Observations [N, ...], rewards [N] float64, terminated [N] (all False), truncated [N], and
            infos with `coord` [N, C] float64 and `diverged` [N] bool. A diverged world stands in a sane state
            again, but its episode is worthless: the caller discards it.

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

    def render(self) -> tuple[Array, ...]:
        """Takes a picture of every world as it stands; changes nothing.

        Returns:
            N pictures [H, W, 3] uint8.

        Raises:
            WorldError: If `render_mode` is None.
            DependencyNotInstalled: If there is no OpenGL library; the message names the packages that have one.
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
            raise ResetNeeded(f"call reset() first: worlds {np.flatnonzero(~self._begun).tolist()} need it")

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError(f"{self} is closed")


def batch_infos(**infos: Array) -> dict[str, Array]:
    """Infos [N, ...] with the `_key` masks by which Gymnasium marks who reported a key: here all worlds."""
    return infos | {f"_{key}": np.ones(len(value), bool) for key, value in infos.items()}


def map_action(actions: Array, num_envs: int, low: Array, high: Array) -> Array:
    """[N, A] in [-1, 1] -> [N, A] float64 linearly onto [low, high], clipped.

    Raises:
        WorldError: If the shape is not [N, A] or a world's action is not finite.
    """
    action = np.asarray(actions, np.float64)
    if action.shape != (num_envs, len(low)):
        raise WorldError(f"actions have shape {action.shape}; accepted: {(num_envs, len(low))}")
    if not (finite := np.isfinite(action).all(1)).all():
        raise WorldError(f"actions of worlds {np.flatnonzero(~finite).tolist()} are not finite")
    return np.clip(low + (action + 1.0) * 0.5 * (high - low), low, high)


def check_render_mode(mode: str | None) -> None:
    """Checks that pictures may be taken.

    Raises:
        WorldError: If not.
    """
    if mode != "rgb_array":
        raise WorldError(f"render_mode is {mode!r}; make the environment with render_mode='rgb_array' to take pictures")


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
        raise WorldError(f"{name} is {value!r}; an integer of at least {lowest} is accepted")
    return int(value)
