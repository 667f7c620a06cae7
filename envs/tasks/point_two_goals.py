"""PointTwoGoals: reach one goal, then another; the smallest task for a controller over skills."""

from __future__ import annotations

from envs.point import PointVectorEnv
from envs.single import one_world
from envs.tasks.base import GoalTask


class PointTwoGoalsVectorEnv(GoalTask):
    """N points with goals: observation [4] = position and current goal, action [2] = velocity.

    The reward is 1 for every step that ends within 0.3 of the current goal. The second goal becomes active after 20
    steps.
    """

    base = "point"
    goal_dim = 2
    unpaid_steps = 0
    coord_dim = PointVectorEnv.coord_dim
    success_radii = PointVectorEnv.success_radii
    coverage_cell = PointVectorEnv.coverage_cell

    def __init__(
        self,
        num_envs: int = 1,
        *,
        goal_range: float = 1.5,
        max_steps: int = 40,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            goal_range: R; both goals are drawn from U(-R, R)^2.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        worlds = PointVectorEnv(
            num_envs,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        super().__init__(worlds, num_goals=2, num_goal_steps=20)


make_point_two_goals = one_world(PointTwoGoalsVectorEnv)
