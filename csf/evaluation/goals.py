"""Zero-shot goal reaching: the objective turns a goal into a skill, the worlds say how far it got."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.rollouts import isolated
from csf.types import Evaluation, Sampler, Worlds


def goal_metrics(reached: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over episodes of what worlds say of their goals, rows [n] by name.

    NaN leaves an episode out of the mean; a name that has nothing else is left out.
    """
    rows = {name: np.asarray(values, np.float64) for name, values in reached.items()}
    known = {name: row[~np.isnan(row)] for name, row in rows.items()}
    return {name: float(row.mean()) for name, row in known.items() if len(row)}


class ZeroShotGoals:
    """Reaches goals by the skills that the objective infers for them; actions are sampled, as released."""

    def __init__(self, worlds: Worlds, episodes: int, seed: int, single: bool = False) -> None:
        """Draw the same goals at every call.

        Args:
            worlds: draw the goals and say how far episodes got; they are not stepped.
            episodes: how many goals.
            seed: of goals, worlds and actions.
            single: hold the skill inferred at the first step (the paper's "Single"), instead of inferring it anew at
                every step ("Adaptive").
        """
        self.worlds, self.episodes, self.seed, self.single = worlds, episodes, seed, single

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/goal/...` and its map, or `eval/goal_single/...`; nothing where no rule leads to a goal.

        Episodes without a step are left out.
        """
        if not agent.objective.reaches_goals():
            return Evaluation({}, {})
        obs, place = self.worlds.goals(self.episodes, np.random.default_rng(self.seed))
        goal = torch.from_numpy(obs).to(agent.objective.device())
        with isolated(agent, self.seed), torch.no_grad():
            found = sampler.collect(_Seeker(agent, self.single), goal, False, self.seed)
        kept = (found.length > 0).numpy()
        coord, length, place = found.coord.numpy()[kept], found.length.numpy()[kept], place[kept]
        reached = self.worlds.success(coord, length, place)
        name = "goal_single" if self.single else "goal"
        metrics = {f"eval/{name}/{key}": value for key, value in goal_metrics(reached).items()}
        images = {}
        for radius in self.worlds.success_radii[:1]:  # without one, goals are not places
            end, staying = coord[np.arange(len(coord)), length], reached[f"staying_{radius:g}"]
            images[name] = plots.goal_map(place, end, staying, radius)
        return Evaluation(metrics, images)


class _Seeker:
    """The policy whose goal rides in the skill's place."""

    def __init__(self, agent: Agent, single: bool) -> None:
        self.agent, self.single = agent, single
        self.goal: Tensor | None = None
        self.skill: Tensor | None = None

    def __call__(self, obs: Tensor, goal: Tensor, mode: bool = False, /) -> Tensor:
        # A round of episodes hands over one and the same tensor of goals at every step.
        if self.skill is None or not self.single or goal is not self.goal:
            self.goal, self.skill = goal, self.agent.objective.goal_skill(obs, goal)
        assert self.skill is not None  # the method has a rule
        return self.agent.act(obs, self.skill, mode)
