"""CSF (Zheng et al. 2024, "Can a MISL Fly?", arXiv 2412.08021): skills by contrast with freshly drawn ones.

phi is trained so that phi(s') - phi(s) tells its own skill from `num_negatives` others; the difference is at once the
cumulant of the successor features that the policy maximizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives
from csf.nets.mlp import mlp
from csf.types import Batch, Metrics


@dataclass(frozen=True)
class CSFConfig(ObjectiveConfig):
    """Contrastive successor features."""

    num_negatives: int  # skills drawn from the prior at every update, shared by the batch
    negative_weight: float  # xi, on the log-sum-exp over the negatives


@objectives("csf")
class CSF(Objective):
    """Maximizes d.z - xi log sum_j exp(d.z_j), d = phi(s') - phi(s), over phi."""

    Config = CSFConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Make phi: [B, O] -> [B, Z]."""
        self.phi = mlp([self.spec.obs_dim, *self.cfg.hidden, self.cfg.skill_dim])
        return self.phi.parameters()

    def cumulant(self, batch: Batch) -> Tensor:
        """phi(s') - phi(s), [B, Z]."""
        after, before = self.phi(torch.cat([batch.next_obs, batch.obs])).chunk(2)
        return after - before

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Contrastive loss [] and its parts."""
        delta = self.cumulant(batch)
        positive = (delta * batch.skill).sum(-1)
        negative = (delta @ self.sample_skills(self.cfg.num_negatives).T).logsumexp(-1)
        loss = (self.cfg.negative_weight * negative - positive).mean()
        step = delta.detach()
        return loss, {
            "phi/positive": positive.detach().mean(),
            "phi/negative": negative.detach().mean(),
            "phi/step": step.square().sum(-1).mean(),
            "phi/alignment": F.cosine_similarity(step, batch.skill, dim=-1).mean(),
        }

    def represent(self, obs: Tensor) -> Tensor:
        """phi, [N, *O] -> [N, Z]."""
        features: Tensor = self.phi(obs)
        return features

    def goal_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        """The direction from phi(obs) to phi(goal), [N, Z]."""
        return F.normalize(self.phi(goal) - self.phi(obs), dim=-1)
