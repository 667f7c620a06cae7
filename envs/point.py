"""Point: a point in the plane that moves by a tenth of its action; the smallest environment for learning skills."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from envs.base import WorldsEnv
from envs.observations import Array, vectors
from envs.plane import picture
from envs.single import one_world


class PointVectorEnv(WorldsEnv):
    """N points: observation [2] = position, action [2] = velocity; every episode starts at the origin."""

    metadata = WorldsEnv.metadata | {"render_fps": 10}
    coord_dim = 2  # x, y
    success_radii = (0.3,)
    coverage_cell = 0.25
    direction_radius = 1.0

    def __init__(
        self,
        num_envs: int = 1,
        *,
        goal_range: float = 1.5,
        max_steps: int = 20,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            goal_range: R; goals are drawn from U(-R, R)^2.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        bounds = np.array([[-1.0, 1.0]] * 2)
        super().__init__(num_envs, max_steps, goal_range, vectors(2), bounds, render_mode, render_size)
        self._position = np.zeros((num_envs, 2))

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws goals uniformly from the square; returns observations [n, 2] float32 and positions [n, 2] float64."""
        place = rng.uniform(-self.goal_range, self.goal_range, (n, 2))
        return self._goal_obs(place), place

    def _goal_obs(self, place: Array) -> Array:
        return place.astype(np.float32)

    def _restart(self, ids: Array) -> None:
        self._position[ids] = 0.0

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        (self._position[ids],) = state

    def _advance(self, action: Array) -> Array:
        self._position += 0.1 * action
        return np.zeros(self.num_envs, bool)

    def _pictures(self, goal: Array | None) -> Iterator[Array]:
        reach = 0.1 * self.max_steps  # the largest distance that an episode can cover
        for i, position in enumerate(self._position):
            yield picture(self.render_size, reach, position, None if goal is None else goal[i], self.success_radii[0])

    def _obs(self) -> Array:
        return self._position.astype(np.float32)

    def _coord(self) -> Array:
        return self._position.copy()


make_point = one_world(PointVectorEnv)
