"""AntMultiGoal: walk to places that change every few seconds."""

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

    The CSF paper's downstream task (arXiv 2412.08021), in its program `ant_nav_prime` with reward "esparse": 1 for
    every step that ends within 3 m of the current goal, except the episode's first.
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
        """Builds the worlds; see `AntVectorEnv` for the arguments that are not here.

        Args:
            num_envs: N, the number of worlds.
            threads: Threads that step the worlds; 0 chooses.
            normalizer: "preset" or "off".
            goal_range: R, in meters.
            goal_mode: Where the goals of an episode are.
                "chain": the first in U(-R, R)^2, every other in U(-R, R)^2 around the one before it.
                "resample": the first likewise, every other in U(-R, R)^2 around where the ant is when its time comes.
                "reference": as the released program has it. The first likewise; all others belong to a chain that
                a world keeps for its lifetime, and that begins anew when it ends, which is with the last step.
            goal_seed: Under "reference", s seeds the chain of world i by s + i.
            num_goal_steps: Steps of a goal's turn.
            contact_margin: "reference" for the contacts of the paper's engine, "as_is" for those of the file.
            max_steps: Steps of an episode.
            render_mode: "rgb_array" to take pictures, or None.
            render_size: Side of a picture in pixels.

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
        # With the last step comes one more, so that the limit of steps looks like any other change of goals.
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
        if self.goal_mode == "resample":  # later goals were drawn as offsets, so that no step has to draw
            later = ids[number > 0]
            self._goal[later] += self._coord()[later]


make_ant_multi_goal = one_world(AntMultiGoalVectorEnv)
