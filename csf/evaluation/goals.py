"""Zero-shot goal reaching: the objective turns a goal into a skill, the environment says where the goal is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation.isolation import isolated
from csf.types import Episodes, Evaluation, Policy, Sampler

Goals = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def goal_metrics(episodes: Episodes, place: Tensor, radii: tuple[float, ...]) -> dict[str, float]:
    """Means over goals of what the distance to `place` [N, C] after each step says.

    For every radius: `hit`, ever within; `end`, within at the end; `staying`, the fraction of steps within. Then the
    `distance` at the end, in units of the coordinates. Episodes without a step are left out.
    """
    kept = episodes.length > 0
    length, real = episodes.length[kept], episodes.steps()[kept]
    distance = (episodes.coord[kept, 1:] - place[kept, None]).norm(dim=-1)
    final = distance.gather(1, length[:, None] - 1).squeeze(1)
    found = {"eval/goal/distance": final.mean().item()}
    for radius in radii:
        within = (distance <= radius) & real
        found[f"eval/goal/hit_{radius:g}"] = within.any(1).double().mean().item()
        found[f"eval/goal/end_{radius:g}"] = (final <= radius).double().mean().item()
        found[f"eval/goal/staying_{radius:g}"] = (within.sum(1) / length).double().mean().item()
    return found


class ZeroShotGoals:
    """Reaches `count` goals by the skill that the objective infers anew at every step; actions are sampled."""

    def __init__(self, goals: Goals, count: int, seed: int) -> None:
        """`goals(n, rng)` gives observations [n, *O] and places [n, C]; goals are the same at every call."""
        self.goals, self.count, self.seed = goals, count, seed

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/goal/...`; nothing for a method that has no rule to reach a goal."""
        obs, place = self.goals(self.count, np.random.default_rng(self.seed))
        goal = torch.from_numpy(obs).to(agent.objective.device())
        with isolated(agent, self.seed), torch.no_grad():
            if agent.objective.goal_skill(goal[:1], goal[:1]) is None:
                return Evaluation({}, {})
            found = sampler.collect(_seek(agent), goal, False, self.seed)
        return Evaluation(goal_metrics(found, torch.from_numpy(place), sampler.spec.success_radii), {})


def _seek(agent: Agent) -> Policy:
    """The policy whose goal rides in the skill's place."""

    def policy(obs: Tensor, goal: Tensor, mode: bool = False, /) -> Tensor:
        skill = agent.objective.goal_skill(obs, goal)
        assert skill is not None  # the caller has asked
        return agent.act(obs, skill, mode)

    return policy
