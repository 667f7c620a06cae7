"""CSF (Zheng et al. 2024, "Can a MISL Fly?", arXiv 2412.08021): skills by contrast with freshly drawn ones.

phi is trained so that d = phi(s') - phi(s) tells its own skill from `num_negatives` others; the difference is at once
the cumulant of the successor features that the policy maximizes. On `agent/backbone=sac` this is METRA with the
contrastive loss (METRA-C in the paper).

A healthy first half hour on Ant is quiet: loss/representation falls to xi log num_negatives (27.73) and stays, coverage
stays at a few cells. Once skills emerge, phi/alignment leaves 0 and phi/step grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives, step_metrics
from csf.config.ranges import Count, NotNegative
from csf.nets.transition import TRANSITIONS
from csf.types import Batch, Metrics


@dataclass(frozen=True)
class CSFConfig(ObjectiveConfig):
    """Contrastive successor features."""

    features: Literal["difference", "pair"]  # phi(s') - phi(s), or one network f(s, s')
    negatives: Literal["fresh", "batch"]  # skills drawn at every update, or those of the batch, the positive included
    num_negatives: Count  # of the fresh ones, shared by the batch
    negative_weight: NotNegative  # xi, on the log-sum-exp over the negatives
    reward_contrast: bool  # the reward is the whole bound, d.z - xi log-sum-exp, instead of d.z; not on successor


@objectives("csf")
class CSF(Objective):
    """Maximizes d.z - xi log sum_j exp(d.z_j) over phi."""

    Config = CSFConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Make phi."""
        self.phi = TRANSITIONS[self.cfg.features](self.spec.obs_dim, self.cfg.hidden, self.cfg.skill_dim)
        return self.phi.parameters()

    def cumulant(self, batch: Batch) -> Tensor:
        """The features d of the step, [B, Z]."""
        return self.phi.step(batch.obs, batch.next_obs)

    def contrast(self, step: Tensor, skill: Tensor) -> Tensor:
        """Log sum_j exp(d.z_j), [B], for steps [B, Z] of skills [B, Z]: a sum, as released, not a mean."""
        others = skill if self.cfg.negatives == "batch" else self.sample_skills(self.cfg.num_negatives)
        return (step @ others.T).logsumexp(-1)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Contrastive loss [] and its parts."""
        step = self.cumulant(batch)
        positive = (step * batch.skill).sum(-1)
        negative = self.contrast(step, batch.skill)
        loss = (self.cfg.negative_weight * negative - positive).mean()
        parts = {"phi/positive": positive.detach().mean(), "phi/negative": negative.detach().mean()}
        return loss, {**parts, **step_metrics(step, batch.skill)}

    def reward(self, batch: Batch) -> Tensor:
        """d.z, [B], less the weighted contrast where `reward_contrast` asks for it."""
        step = self.cumulant(batch)
        reward = (step * batch.skill).sum(-1)
        if self.cfg.reward_contrast:
            reward = reward - self.cfg.negative_weight * self.contrast(step, batch.skill)
        return reward

    def linear(self) -> bool:
        """Whether the reward is d.z."""
        return not self.cfg.reward_contrast

    def represent(self, obs: Tensor) -> Tensor | None:
        """phi, [N, *O] -> [N, Z]."""
        return self.phi.state(obs)

    def goal_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        """The direction of the step from obs to goal, [N, Z]."""
        return F.normalize(self.phi.step(obs, goal), dim=-1)
