"""DIAYN (Eysenbach et al. 2019, arXiv 1802.06070): skills that a classifier can identify from the visited states.

Healthy: discriminator/accuracy exceeds chance, 1 / skill_dim, within the first epochs and rises; reward/mean rises from
0 towards log skill_dim (3.9 for 50 skills). Both can happen while skills stay close to the start.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, Prior, objectives
from csf.mi.bounds import accuracy, info_nce
from csf.nets.encoder import make_encoder
from csf.nets.mlp import ObsMLP
from csf.types import Batch, Metrics, Obs


@objectives("diayn")
class DIAYN(Objective):
    """Reward log q(z|s') + log K, with q a softmax over K one-hot skills."""

    prior: Prior = "one_hot"
    goal_from_here = False

    def build(self) -> Iterable[nn.Parameter]:
        """Create the discriminator, logits [B, *O] -> [B, K]."""
        self.discriminator = ObsMLP(make_encoder(self.spec), [*self.cfg.hidden, self.cfg.skill_dim])
        return self.discriminator.parameters()

    def body(self) -> nn.Module:
        """The discriminator."""
        return self.discriminator

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Cross-entropy of the skill minus the constant log K, [], and metrics."""
        logits, own = self.discriminator(batch.next_obs), batch.skill.argmax(-1)
        return -info_nce(logits, own).mean(), {"discriminator/accuracy": accuracy(logits, own)}

    def reward(self, batch: Batch) -> Tensor:
        """Log q(z|s') - log p(z), [B]."""
        return info_nce(self.discriminator(batch.next_obs), batch.skill.argmax(-1))

    def represent(self, obs: Obs) -> Tensor:
        """Logits, [N, *O] -> [N, K]."""
        logits: Tensor = self.discriminator(obs)
        return logits

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor:
        """The most likely skill at the goal according to the discriminator, [N, K]."""
        return F.one_hot(self.represent(goal).argmax(-1), self.cfg.skill_dim).float()
