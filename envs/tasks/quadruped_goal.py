"""QuadrupedGoal: reach a goal position on the floor and stay there, with image observations."""

from __future__ import annotations

from typing import Literal

from envs.quadruped import QuadrupedVectorEnv
from envs.single import one_world
from envs.tasks.floor_goal import FloorGoalTask


class QuadrupedGoalVectorEnv(FloorGoalTask):
    """N quadrupeds with a goal: observation = "image" [64, 64, 9] uint8 and "vector" [2], the goal's x, y in meters.

    A downstream task of the CSF paper (arXiv 2412.08021). The reward is 1 for every step that ends within 1.5 m of the
    goal, except the episode's first.
    """

    base = "quadruped"

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        renderer: Literal["gl", "warp"] = "gl",
        quality: Literal["paper", "fast"] = "paper",
        goal_range: float = 7.5,
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Create the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step and render the worlds; 0: one per usable core, at most N.
            renderer: Renderer of image observations: "gl" for OpenGL, "warp" for MuJoCo Warp's ray tracer.
            quality: Quality of image observations: "paper", or "fast" for coarser edges (and shadows, with OpenGL).
            goal_range: R in meters; an episode's goal is drawn from U(-R, R)^2.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to render images, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
            DependencyNotInstalled: If dm_control or the renderer is not installed.
        """
        worlds = QuadrupedVectorEnv(
            num_envs,
            threads=threads,
            renderer=renderer,
            quality=quality,
            goal_range=goal_range,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        super().__init__(worlds)


make_quadruped_goal = one_world(QuadrupedGoalVectorEnv)
