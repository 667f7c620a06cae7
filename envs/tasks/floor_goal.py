"""Base class of QuadrupedGoal and HumanoidGoal: reach a goal position on the colored floor and stay there."""

from __future__ import annotations

from envs.floor import FloorVectorEnv
from envs.tasks.base import GoalTask


class FloorGoalTask(GoalTask):
    """N robots on the colored floor, each with one goal that lasts for the whole episode."""

    goal_dim = 2
    unpaid_steps = 1
    coord_dim = FloorVectorEnv.coord_dim
    success_radii = (1.5,)
    coverage_cell = FloorVectorEnv.coverage_cell

    def __init__(self, worlds: FloorVectorEnv) -> None:
        """Add goals to worlds, which are closed with the task."""
        worlds.mark_radius = self.success_radii[0]
        super().__init__(worlds, num_goals=1, num_goal_steps=worlds.max_steps)
