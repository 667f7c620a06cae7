"""PointPixels: the point of `envs.point`, observed from above as images; the smallest image environment."""

from __future__ import annotations

import numpy as np

from envs.observations import Array
from envs.plane import Canvas
from envs.point import PointVectorEnv
from envs.single import one_world
from envs.stack import FRAMES, SIZE, FrameStack, stacks, still

RADIUS = 0.2  # of the observed point, in units of the coordinates


class PointPixelsVectorEnv(PointVectorEnv):
    """N points: observation [64, 64, 9] = the last three images, action [2] = velocity.

    Dynamics, coordinates and goals are those of `point`. Images are drawn with NumPy and show the square that an
    episode can cover.
    """

    frames = FRAMES
    space = stacks()

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
        super().__init__(
            num_envs,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        self._canvas = Canvas(SIZE, self.reach)
        self._stack = FrameStack(num_envs)

    def _goal_obs(self, place: Array) -> Array:
        return still(self._images(place))

    def _restart(self, ids: Array) -> None:
        super()._restart(ids)
        self._stack.restart(ids, self._images(self._position[ids]))

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        super()._put(ids, state)
        self._stack.restart(ids, self._images(self._position[ids]))

    def _advance(self, action: Array) -> Array:
        diverged = super()._advance(action)
        self._stack.push(self._images(self._position), diverged)
        return diverged

    def _obs(self) -> Array:
        return self._stack.read()

    def _images(self, position: Array) -> Array:
        """Draws points at positions [n, 2] as images [n, 64, 64, 3] uint8."""
        return np.stack([self._canvas.draw(each, RADIUS) for each in position])


make_point_pixels = one_world(PointPixelsVectorEnv)
