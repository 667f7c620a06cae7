"""State coverage: how many places do the skills reach?"""

from __future__ import annotations

import torch

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.isolation import isolated
from csf.types import Episodes, Evaluation, Sampler


def coverage(episodes: Episodes, cell: float) -> int:
    """Number of distinct cells of side `cell` visited, over all steps and episodes (METRA, arXiv 2310.08887)."""
    return len((episodes.visited() / cell).floor().unique(dim=0))


class StateCoverage:
    """Coverage of deterministic rollouts of `episodes` skills, with their picture."""

    def __init__(self, episodes: int, seed: int, axis: float | None) -> None:
        """Skills and worlds are drawn from `seed`, the same at every call; pictures show [-axis, axis]."""
        self.episodes, self.seed, self.axis = episodes, seed, axis

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/coverage`, and the pictures `trajectories` and `phi`."""
        with isolated(agent, self.seed):
            skills = agent.objective.evaluation_skills(self.episodes)
            found = sampler.collect(agent.act, skills, True, self.seed)
            before_last = (found.length - 1).clamp(min=0)  # s_{T-1}, as in the released program
            last = found.obs[torch.arange(len(skills)), before_last]
            with torch.no_grad():
                features = agent.objective.represent(last.to(skills.device))
        colors = plots.skill_colors(skills.cpu().numpy(), agent.objective.prior == "one_hot")
        images = {"trajectories": plots.trajectories(found, colors, self.axis)}
        if features is not None:
            images["phi"] = plots.features(features.cpu().numpy(), colors)
        return Evaluation({"eval/coverage": float(coverage(found, sampler.spec.coverage_cell))}, images)
