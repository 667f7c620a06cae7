"""Base classes of tasks: the wrapped environment, goals that change at fixed times, and success counters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from envs.base import WorldsEnv
from envs.errors import WorldError
from envs.observations import Array, Obs, append, with_columns


class TaskEnv(WorldsEnv):
    """A task on the worlds of another environment, with its own reward and additional observations.

    The task's columns are appended to the vector of the observation. If the observation of the worlds is an image, the
    task's observation is a dictionary of the image and the columns.

    Initial states are those of the base environment, drawn from the same generators before the task draws.

    Infos of `reset` and `step` besides `coord` and `diverged`, for G parts of the task, such as goals:
        success: [N, G] bool, whether `staying` is positive.
        staying: [N, G] int64, number of steps of the episode so far that count for each part.

    Attributes:
        base: Name of the base environment, whose skills can be used in the task.
        goal_dim: Number of columns: trailing entries of the vector that are hidden from a policy pretrained on `base`.
            They are not normalized.
    """

    base: ClassVar[str]
    goal_dim: ClassVar[int]

    def __init__(self, worlds: WorldsEnv, parts: int) -> None:
        """Takes ownership of the worlds.

        Args:
            worlds: Worlds of `base`; must not be used elsewhere.
            parts: G, the number of parts.
        """
        super().__init__(
            worlds.num_envs,
            worlds.max_steps,
            worlds.goal_range,
            with_columns(worlds.single_observation_space, self.goal_dim),
            worlds.bounds,
            worlds.render_mode,
            worlds.render_size,
        )
        self.metadata = worlds.metadata
        if worlds.obs_mean is not None and worlds.obs_std is not None:
            self.obs_mean = np.append(worlds.obs_mean, np.zeros(self.goal_dim))
            self.obs_std = np.append(worlds.obs_std, np.ones(self.goal_dim))
        self.version, self.renderer, self.quality = worlds.version, worlds.renderer, worlds.quality
        self.frames = worlds.frames
        self.generators = worlds.generators  # shared, so that seeding the task also seeds the worlds
        self._worlds, self.model = worlds, worlds.model
        self._staying = np.zeros((worlds.num_envs, parts), np.int64)

    def poses(self) -> Array:
        """Returns the joint positions qpos [N, nq] float64 of the worlds as a new array."""
        return self._worlds.poses()

    def close_extras(self) -> None:
        """Closes the worlds."""
        self._worlds.close()

    @abstractmethod
    def _columns(self) -> Array:
        """Returns the columns appended to the observation [N, goal_dim] float64."""

    def _after_reset(self, ids: Array, options: dict[str, Any]) -> None:
        self._staying[ids] = 0

    def _more_infos(self) -> dict[str, Array]:
        return {"success": self._staying > 0, "staying": self._staying.copy()}

    def _obs(self) -> Obs:
        return append(self._worlds._obs(), self._columns())

    def _restart(self, ids: Array) -> None:
        self._worlds._restart(ids)

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        self._worlds._put(ids, state)

    def _advance(self, action: Array) -> Array:
        return self._worlds._advance(action)

    def _coord(self) -> Array:
        return self._worlds._coord()

    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        return self._worlds._pictures(goal)


class GoalTask(TaskEnv):
    """A sequence of goals; every step that ends within the radius of the current goal is rewarded with 1.

    Each goal is active for `num_goal_steps` steps, whether it is reached or not; the last one stays active. The current
    goal, in the coordinates of the world, is appended to the observation. Goals are drawn independently from
    U(-goal_range, goal_range) in every coordinate, unless a subclass overrides `_draw_goals`.

    Infos: those of `TaskEnv`, where parts are goals and steps count if rewarded (the sum of `staying` is the return);
        goal: [N, C] float64, the goal contained in the observation.

    `reset` accepts the option `goals`, [N, K, C], or [K, C] for all worlds: the K goals of the episode in order, which
    are then not drawn. K is `num_goals`; a goal that becomes active at the last step is observed but not rewarded.

    Attributes:
        num_goals: K, the number of goals of an episode.
        num_goal_steps: Number of steps for which a goal is active.
    """

    reset_options = ("reset_mask", "state", "goals")
    unpaid_steps: ClassVar[int]  # number of steps at an episode's start that are never rewarded

    def __init__(self, worlds: WorldsEnv, num_goals: int, num_goal_steps: int) -> None:
        """Takes ownership of the worlds, whose `goal_range` is used for the goals.

        Args:
            worlds: Worlds of `base`; must not be used elsewhere.
            num_goals: K, the number of goals of an episode.
            num_goal_steps: Number of steps for which a goal is active.
        """
        in_time = -(-worlds.max_steps // num_goal_steps)
        super().__init__(worlds, min(num_goals, in_time))
        self.num_goals, self.num_goal_steps = num_goals, num_goal_steps
        self._goals = np.zeros((self.num_envs, num_goals, self.coord_dim))
        self._goal = np.zeros((self.num_envs, self.coord_dim))

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Obs, Array]:
        """Draws goals; returns observations of worlds at their goals [n, ...] and positions [n, C] float64."""
        obs, place = self._worlds.goals(n, rng)
        return append(obs, place), place

    def _goal_obs(self, place: Array) -> Obs:
        return append(self._worlds._goal_obs(place), place)

    def _draw_goals(self, ids: Array) -> Array:
        """Draws the goals [n, K, C] of new episodes of worlds `ids` [n], each from the generator of its world."""
        reach, shape = self.goal_range, self._goals.shape[1:]
        return np.stack([self.generators[i].uniform(-reach, reach, shape) for i in ids])

    def _aim(self, ids: Array, number: Array) -> None:
        """Makes goal `number` [n] the current goal of worlds `ids` [n]."""
        self._goal[ids] = self._goals[ids, number]

    def _number(self, steps: Array) -> Array:
        """Returns the number of the current goal [N] after `steps` [N]."""
        return np.minimum(steps // self.num_goal_steps, self.num_goals - 1)

    def _after_reset(self, ids: Array, options: dict[str, Any]) -> None:
        super()._after_reset(ids, options)
        given = options.get("goals")
        self._goals[ids] = self._draw_goals(ids) if given is None else self._given_goals(given)[ids]
        self._aim(ids, np.zeros_like(ids))

    def _given_goals(self, goals: Array) -> Array:
        goals, want = np.asarray(goals, np.float64), self._goals.shape
        if goals.shape not in (want, want[1:]):
            raise WorldError(f"goals have shape {goals.shape}; accepted: {want} or {want[1:]}")
        if not np.isfinite(goals).all():
            raise WorldError("goals are not finite")
        return np.broadcast_to(goals, want)

    def _reward(self, before: Array, after: Array, action: Array) -> Array:
        within = np.linalg.norm(self._goal - after, axis=1) <= self.success_radii[0]
        return (within & (self._steps >= self.unpaid_steps)).astype(np.float64)

    def _after_step(self, reward: Array) -> None:
        past, now = self._number(self._steps - 1), self._number(self._steps)
        parts = self._staying.shape[1]  # worlds may be stepped past their end, to goals that are not counted
        counted = np.flatnonzero((reward > 0) & (past < parts))
        self._staying[counted, past[counted]] += 1
        if len(ids := np.flatnonzero(past != now)):
            self._aim(ids, now[ids])

    def _columns(self) -> Array:
        return self._goal

    def _pictures(self, goal: Array | None) -> Iterable[Array]:
        return super()._pictures(self._goal if goal is None else goal)

    def _more_infos(self) -> dict[str, Array]:
        return {**super()._more_infos(), "goal": self._goal.copy()}
