"""Evaluates skills by the states that they visit and their return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.bands import most_directions
from csf.evaluation.entropy import StateEntropy
from csf.types import Episodes, Evaluation, Obs, Sampler, Worlds, map_obs


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
        If the method represents states, `phi/rank` and `phi/singular_ratio` are added; see `spread`. The plots are
        `trajectories`, if there are one or two coordinates, and `phi`, if the method represents states.
        """
        with isolated(agent, self.seed):
            skills = agent.objective.evaluation_skills(self.episodes)
            found = sampler.collect(agent.act, skills, True, self.seed)
            entropy = self.entropy(sampler, found)
        kept = found.length > 0
        total = found.returns()[kept]
        metrics = {"eval/return": total.mean().item(), "eval/return_std": total.std(correction=0).item()}
        measured = self.worlds.measure(found.coord[kept].numpy(), found.length[kept].numpy())
        metrics = {f"eval/{name}": value for name, value in measured.items()} | entropy | metrics
        start, end = (self._represent(agent, found, step) for step in (torch.zeros_like(found.length), found.length))
        if start is not None and end is not None:
            metrics |= spread((end - start)[kept.numpy()])
        return Evaluation(metrics, self._pictures(agent, found, metrics))

    def _represent(self, agent: Agent, found: Episodes, step: Tensor) -> np.ndarray | None:
        """Return phi [N, Z] of the observations at step [N] of each episode; None if the method has no phi."""
        episode, device = torch.arange(len(step)), agent.objective.device()
        obs: Obs = map_obs(lambda rows: rows[episode, step].to(device), found.obs)
        with isolated(agent, self.seed), torch.no_grad():
            features = agent.represent(obs)
        return None if features is None else features.cpu().numpy()

    def _pictures(self, agent: Agent, found: Episodes, metrics: Mapping[str, float]) -> dict[str, np.ndarray]:
        colors = plots.skill_colors(found.skill.numpy(), agent.objective.prior == "one_hot")
        images, coord_dim = {}, found.coord.shape[-1]
        if coord_dim in (1, 2):
            reached = metrics.get("eval/directions")
            title = (
                None if reached is None else f"far end points in {reached:g} of {most_directions(coord_dim)} directions"
            )
            images["trajectories"] = plots.trajectories(found, colors, self.axis, title)
        before_last = (found.length - 1).clamp(min=0)  # s_{T-1}, as in the released program
        features = self._represent(agent, found, before_last)
        if features is not None:
            title = f"effective rank {metrics['phi/rank']:.2f} of {features.shape[1]}"
            images["phi"] = plots.features(features, colors, title)
        return images


def spread(change: np.ndarray) -> dict[str, float]:
    """Measure in how many dimensions phi separates the skills, from the singular values s of the centered changes.

    `phi/rank` is the effective rank (sum s^2)^2 / sum s^4, the participation ratio of the variances (Gao et al. 2017,
    doi 10.1101/214262): 1 if the changes lie on a line, Z if they vary equally in Z directions, 0 if all are equal.
    `phi/singular_ratio` is the smallest s divided by the largest: 1 if all are equal, 0 if the changes do not span all
    dimensions.

    Args:
        change: phi(s_T) - phi(s_0) of each episode, [n, Z].
    """
    if not len(change):
        return {"phi/rank": 0.0, "phi/singular_ratio": 0.0}
    wide = change.astype(np.float64)
    values = np.linalg.svd(wide - wide.mean(0), compute_uv=False)
    if values[0] <= np.finfo(change.dtype).eps * np.abs(wide).max():  # all rows are equal, up to rounding
        return {"phi/rank": 0.0, "phi/singular_ratio": 0.0}
    share = (values / values[0]) ** 2
    return {
        "phi/rank": float(share.sum() ** 2 / (share**2).sum()),
        "phi/singular_ratio": float(values[-1] / values[0]),
    }


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
