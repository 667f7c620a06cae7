"""Zero-shot goal reaching: the objective turns a goal into a skill, the environment says where the goal is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation.isolation import isolated
from csf.types import Episodes, Evaluation, Sampler

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
    """Reaches `count` goals by the skills that the objective infers for them; actions are sampled, as released."""

    def __init__(self, goals: Goals, count: int, seed: int, single: bool = False) -> None:
        """Draw the same goals at every call.

        Args:
            goals: gives n goals as observations [n, *O] and places [n, C].
            count: how many goals.
            seed: of goals, worlds and actions.
            single: hold the skill inferred at the first step (the paper's "Single"), instead of inferring it anew at
                every step ("Adaptive").
        """
        self.goals, self.count, self.seed, self.single = goals, count, seed, single

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/goal/...`, or `eval/goal_single/...`; nothing for a method that has no rule to reach a goal."""
        if not agent.objective.reaches_goals():
            return Evaluation({}, {})
        obs, place = self.goals(self.count, np.random.default_rng(self.seed))
        goal = torch.from_numpy(obs).to(agent.objective.device())
        with isolated(agent, self.seed), torch.no_grad():
            found = sampler.collect(_Seeker(agent, self.single), goal, False, self.seed)
        metrics = goal_metrics(found, torch.from_numpy(place), sampler.spec.success_radii)
        if self.single:
            metrics = {name.replace("eval/goal/", "eval/goal_single/"): value for name, value in metrics.items()}
        return Evaluation(metrics, {})


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
