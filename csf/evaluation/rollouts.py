"""SkillRollouts of skills without a goal: where they go, and the return that they collect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from csf.agents import Agent
from csf.evaluation import plots
from csf.types import Episodes, Evaluation, Sampler, Worlds, map_obs


class SkillRollouts:
    """One deterministic episode of each of `episodes` skills; of an agent without skills, as many episodes."""

    def __init__(self, worlds: Worlds, episodes: int, seed: int, axis: float | None) -> None:
        """Skills and worlds are drawn from `seed`, the same at every call; pictures show [-axis, axis].

        `worlds` say what is measured of the episodes; they are not stepped.
        """
        self.worlds, self.episodes, self.seed, self.axis = worlds, episodes, seed, axis

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/return`, its mean and standard deviation over episodes, and what the worlds measure (`eval/coverage`).

        The pictures are `trajectories`, on a line or in a plane, and `phi`, where the method has a representation.
        """
        with isolated(agent, self.seed):
            skills = agent.objective.evaluation_skills(self.episodes)
            found = sampler.collect(agent.act, skills, True, self.seed)
        total = (found.reward * found.steps()).sum(1)[found.length > 0].double()
        metrics = {"eval/return": total.mean().item(), "eval/return_std": total.std(correction=0).item()}
        kept = found.length > 0
        measured = self.worlds.measure(found.coord[kept].numpy(), found.length[kept].numpy())
        metrics = {f"eval/{name}": value for name, value in measured.items()} | metrics
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
    """Inside, PyTorch draws from `seed` and modules are in evaluation mode; afterwards all is as before."""
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
