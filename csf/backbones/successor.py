"""SAC whose critics predict successor features psi [E, B, Z], with Q = psi . skill.

Source: Zheng et al. 2024, "Can a MISL Fly?" (arXiv 2412.08021). The target of psi has no entropy term and uses all
coordinates of the head with the smaller psi . skill; the loss is a mean over batch and coordinates, without factor 1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from csf.backbones.base import backbones
from csf.backbones.sac import SAC
from csf.types import Batch, Metrics, Obs, Rewarder


@backbones("successor")
class SuccessorSAC(SAC):
    """SAC with vector-valued critics, for objectives with a cumulant."""

    needs_cumulant = True

    def value_dim(self) -> int:
        """One successor feature per skill dimension."""
        return self.skill_dim

    def features(self, net: nn.Module, obs: Obs, action: Tensor, skill: Tensor) -> Tensor:
        """Successor features of every head, [E, B, Z]."""
        psi: Tensor = net(obs, skill, action)
        return psi

    def values(self, net: nn.Module, obs: Obs, action: Tensor, skill: Tensor) -> Tensor:
        """Q = psi . skill of every head, [E, B]."""
        return (self.features(net, obs, action, skill) * skill).sum(-1)

    def critic_loss(self, batch: Batch, objective: Rewarder) -> tuple[Tensor, Metrics]:
        """Mean squared error of psi over batch and coordinates, summed over heads, [], and metrics."""
        with torch.no_grad():
            cumulant = objective.cumulant(batch)
            action = self.actor.distribution(batch.next_obs, batch.skill).draw()
            psi = self.features(self.target, batch.next_obs, action, batch.skill)
            smaller = (psi * batch.skill).sum(-1).argmin(0)  # [B]
            chosen = psi.gather(0, smaller[None, :, None].expand(1, *psi.shape[1:])).squeeze(0)
            target = cumulant + self.proceed(batch)[:, None] * chosen
            reward, value = ((features * batch.skill).sum(-1).mean() for features in (cumulant, target))
        loss = (self.features(self.critic, batch.obs, batch.action, batch.skill) - target).square().mean((1, 2)).sum()
        return loss, {"reward/mean": reward, "critic/target": value}
