"""VISR (Hansen et al. 2020, arXiv 1906.05030): skills are directions; the reward is the cosine of phi(s) and z.

Uses the successor backbone. Healthy: phi/alignment, the mean of phi(s).z, rises from 0 towards 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives
from csf.nets.encoder import make_encoder
from csf.nets.mlp import ObsMLP
from csf.types import Batch, Metrics, Obs


@dataclass(frozen=True)
class VISRConfig(ObjectiveConfig):
    """Variational intrinsic successor features."""

    released: bool  # successor features of unnormalized phi, as the CSF paper's program, not of phi / ||phi||


@objectives("visr")
class VISR(Objective):
    """Maximizes phi(s).z, with phi of unit length."""

    Config = VISRConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Create phi: [B, *O] -> [B, Z]."""
        self.phi = ObsMLP(make_encoder(self.spec), [*self.cfg.hidden, self.cfg.skill_dim])
        return self.phi.parameters()

    def body(self) -> nn.Module:
        """The network phi."""
        return self.phi

    def cumulant(self, batch: Batch) -> Tensor:
        """phi(s) [B, Z], of unit length unless `released` is set."""
        return self.phi(batch.obs) if self.cfg.released else self.represent(batch.obs)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Negative alignment [] of phi(s) and z, and metrics."""
        features = self.phi(batch.obs)
        alignment = (F.normalize(features, dim=-1) * batch.skill).sum(-1).mean()
        length = features.detach().norm(dim=-1).mean()
        return -alignment, {"phi/alignment": alignment.detach(), "phi/length": length}

    def represent(self, obs: Obs) -> Tensor:
        """Phi of unit length, [N, *O] -> [N, Z]."""
        return F.normalize(self.phi(obs), dim=-1)

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor:
        """phi(goal) of unit length, [N, Z]."""
        return self.represent(goal)
