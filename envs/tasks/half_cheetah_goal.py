"""HalfCheetahGoal: run to a goal on the line and stay there."""

from __future__ import annotations

from typing import Literal

from envs.half_cheetah import HalfCheetahVectorEnv
from envs.single import one_world
from envs.tasks.base import GoalTask


class HalfCheetahGoalVectorEnv(GoalTask):
    """N half cheetahs with a goal: observation [19] = the cheetah's [18] and the goal's x in meters; action [6].

    A downstream task of the CSF paper (arXiv 2412.08021). The reward is 1 for every step that ends within 3 m of the
    goal, except the episode's first.
    """

    base = "half_cheetah"
    goal_dim = 1
    unpaid_steps = 1
    coord_dim = HalfCheetahVectorEnv.coord_dim
    success_radii = (3.0,)
    coverage_cell = HalfCheetahVectorEnv.coverage_cell

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        normalizer: Literal["preset", "off"] = "preset",
        goal_range: float = 100.0,
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step the worlds; 0: one per usable core, at most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            goal_range: R in meters; an episode's goal is drawn from U(-R, R).
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        worlds = HalfCheetahVectorEnv(
            num_envs,
            threads=threads,
            normalizer=normalizer,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        super().__init__(worlds, num_goals=1, num_goal_steps=max_steps)


make_half_cheetah_goal = one_world(HalfCheetahGoalVectorEnv)
