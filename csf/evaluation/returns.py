"""How well a task is done: the return of deterministic episodes."""

from __future__ import annotations

from csf.agents import Agent
from csf.evaluation.isolation import isolated
from csf.types import Evaluation, Sampler


class Returns:
    """Mean return of `episodes` deterministic rollouts of an agent that pursues the task's own reward."""

    def __init__(self, episodes: int, seed: int) -> None:
        """Worlds are drawn from `seed`, the same at every call."""
        self.episodes, self.seed = episodes, seed

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/return`, the mean over episodes, and `eval/return_std`, how much they differ."""
        with isolated(agent, self.seed):
            skills = agent.objective.evaluation_skills(self.episodes)
            found = sampler.collect(agent.act, skills, True, self.seed)
        total = (found.reward * found.steps()).sum(1)[found.length > 0].double()
        spread = total.std(correction=0).item()
        return Evaluation({"eval/return": total.mean().item(), "eval/return_std": spread}, {})
