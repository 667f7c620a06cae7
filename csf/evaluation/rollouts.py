"""Evaluates skills by the states that they visit and their return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.spread import StateEntropy
from csf.types import Episodes, Evaluation, Sampler, Worlds, map_obs


class SkillRollouts:
    """Evaluates one deterministic episode for each of `episodes` skills, or `episodes` episodes without skills."""

    def __init__(self, worlds: Worlds, episodes: int, seed: int, axis: float | None) -> None:
        """Configure the evaluator; every evaluation uses the same skills and seeds.

        Args:
            worlds: define the metrics; they are not stepped.
            episodes: number of episodes.
            seed: seeds skills and worlds.
            axis: plots show [-axis, axis]; None: the range of the data.
        """
        self.worlds, self.episodes, self.seed, self.axis = worlds, episodes, seed, axis
        self.entropy = StateEntropy(seed)

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """Return mean and standard deviation of `eval/return`, and the metrics of the worlds, such as `eval/coverage`.

        In worlds without coordinates, `eval/state_entropy` measures coverage instead.
        The plots are `trajectories`, if there are one or two coordinates, and `phi`, if the method represents states.
        """
        with isolated(agent, self.seed):
            skills = agent.objective.evaluation_skills(self.episodes)
            found = sampler.collect(agent.act, skills, True, self.seed)
            spread = self.entropy(sampler, found)
        total = (found.reward * found.steps()).sum(1)[found.length > 0].double()
        metrics = {"eval/return": total.mean().item(), "eval/return_std": total.std(correction=0).item()}
        kept = found.length > 0
        measured = self.worlds.measure(found.coord[kept].numpy(), found.length[kept].numpy())
        metrics = {f"eval/{name}": value for name, value in measured.items()} | spread | metrics
        return Evaluation(metrics, self._pictures(agent, found))

    def _pictures(self, agent: Agent, found: Episodes) -> dict[str, np.ndarray]:
        colors = plots.skill_colors(found.skill.numpy(), agent.objective.prior == "one_hot")
        images = {}
        if found.coord.shape[-1] in (1, 2):
            images["trajectories"] = plots.trajectories(found, colors, self.axis)
        before_last = (found.length - 1).clamp(min=0)  # s_{T-1}, as in the released program
        episode, device = torch.arange(len(colors)), agent.objective.device()
        last = map_obs(lambda rows: rows[episode, before_last].to(device), found.obs)
        with isolated(agent, self.seed), torch.no_grad():
            features = agent.objective.represent(last)
        if features is not None:
            images["phi"] = plots.features(features.cpu().numpy(), colors)
        return images


@contextmanager
def isolated(agent: Agent, seed: int) -> Iterator[None]:
    """Seed PyTorch and set the agent's modules to evaluation mode; restores both on exit."""
    device = agent.objective.device()
    training = {module: module.training for module in agent.modules()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        agent.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
