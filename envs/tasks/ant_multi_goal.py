"""AntMultiGoal: reach a sequence of goals, each active for a fixed number of steps."""

from __future__ import annotations

from typing import Literal

import numpy as np
from gymnasium.utils import seeding

from envs.ant import AntVectorEnv
from envs.base import at_least, choice
from envs.observations import Array
from envs.single import one_world
from envs.tasks.base import GoalTask


class AntMultiGoalVectorEnv(GoalTask):
    """N ants with goals: observation [31] = the ant's [29] and the current goal's x, y in meters; action [8].

    A downstream task of the CSF paper (arXiv 2412.08021), named `ant_nav_prime` with reward "esparse" in its released
    program. The reward is 1 for every step that ends within 3 m of the current goal, except the episode's first.
    """

    base = "ant"
    goal_dim = 2
    unpaid_steps = 1
    coord_dim = AntVectorEnv.coord_dim
    success_radii = (3.0,)
    coverage_cell = AntVectorEnv.coverage_cell

    def __init__(
        self,
        num_envs: int = 1,
        *,
        threads: int = 0,
        normalizer: Literal["preset", "off"] = "preset",
        goal_range: float = 7.5,
        goal_mode: Literal["chain", "resample", "reference"] = "chain",
        goal_seed: int = 0,
        num_goal_steps: int = 50,
        contact_margin: Literal["reference", "as_is"] = "reference",
        max_steps: int = 200,
        render_mode: str | None = None,
        render_size: int = 200,
    ) -> None:
        """Creates the worlds.

        Args:
            num_envs: N, the number of worlds.
            threads: Number of threads that step the worlds; 0: one per usable core, at most N.
            normalizer: Fixed normalization of observations, "preset" or "off".
            goal_range: R in meters, the range of goals.
            goal_mode: Distribution of the goals of an episode, of which the first is drawn from U(-R, R)^2.
                "chain": each later goal is drawn from U(-R, R)^2 around the previous goal.
                "resample": each later goal is drawn from U(-R, R)^2 around the ant when the goal becomes active.
                "reference": as in the released program. The later goals are a chain that is drawn once per world
                and is the same in every episode; after its last goal it is repeated.
            goal_seed: Seed of the chains of goal_mode "reference"; world i uses goal_seed + i.
            num_goal_steps: Number of steps for which a goal is active.
            contact_margin: "reference" for the contact margins of the paper's engine, "as_is" for those of the model
                file.
            max_steps: Number of steps per episode.
            render_mode: "rgb_array" to enable `render`, or None.
            render_size: Height and width of rendered images in pixels.

        Raises:
            WorldError: If a value is not accepted.
        """
        self.goal_mode = choice("goal_mode", goal_mode, ("chain", "reference", "resample"))
        at_least("num_goal_steps", num_goal_steps, 1)
        worlds = AntVectorEnv(
            num_envs,
            threads=threads,
            normalizer=normalizer,
            goal_range=goal_range,
            contact_margin=contact_margin,
            max_steps=max_steps,
            render_mode=render_mode,
            render_size=render_size,
        )
        # One more goal becomes active at the last step, as at every other change of goals.
        super().__init__(worlds, max_steps // num_goal_steps + 1, num_goal_steps)
        seeds = at_least("goal_seed", goal_seed, 0) + np.arange(num_envs)
        shape = self._staying.shape[1], self.coord_dim
        offsets = [seeding.np_random(int(seed))[0].uniform(-goal_range, goal_range, shape) for seed in seeds]
        self._kept = np.cumsum(offsets, axis=1)

    def _draw_goals(self, ids: Array) -> Array:
        goals = super()._draw_goals(ids)
        if self.goal_mode == "chain":
            return goals.cumsum(axis=1)
        if self.goal_mode == "reference":
            later = np.arange(1, self.num_goals)
            goals[:, 1:] = self._kept[ids][:, later % self._kept.shape[1]]
        return goals

    def _aim(self, ids: Array, number: Array) -> None:
        super()._aim(ids, number)
        if self.goal_mode == "resample":  # later goals have been drawn as offsets from the ant
            later = ids[number > 0]
            self._goal[later] += self._coord()[later]


make_ant_multi_goal = one_world(AntMultiGoalVectorEnv)
