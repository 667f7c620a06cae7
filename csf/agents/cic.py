"""CIC (Laskin et al. 2022, arXiv 2202.00161): contrastive representation of skills, rewarded by state entropy.

phi is learned by a contrastive loss between skills and transitions. The reward is only the particle entropy of phi, as
in the paper's final method. The method cannot infer skills for goals.

Healthy: contrast/accuracy exceeds chance (1 / batch size) within the first epochs; reward/mean, the entropy, is
positive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, Prior, objectives
from csf.config.ranges import Count, Positive
from csf.mi.bounds import accuracy, noise_contrast
from csf.mi.entropy import RunningMoments, nearest_distances
from csf.nets.encoder import make_encoder
from csf.nets.mlp import ObsMLP, SpectralLinear, mlp
from csf.types import Batch, Metrics, Obs, cat_obs

CLIP = 5e-4  # scaled distances below this value give no reward


@dataclass(frozen=True)
class CICConfig(ObjectiveConfig):
    """Contrastive intrinsic control."""

    temperature: Positive  # temperature of the contrastive loss
    neighbors: Count  # number of nearest neighbors in the particle entropy, k
    released: bool  # divide distances by their variance, as the CSF paper's program, not by the standard deviation


@objectives("cic")
class CIC(Objective):
    """Contrastive loss of z and (phi(s), phi(s')); reward log(1 + mean distance of phi(s) to its nearest phi(s'))."""

    Config = CICConfig
    prior: Prior = "gaussian"

    def build(self) -> Iterable[nn.Parameter]:
        """Create phi, the network of skills and the network of transitions."""
        hidden, dim = self.cfg.hidden, self.cfg.skill_dim
        self.phi = ObsMLP(make_encoder(self.spec), [*hidden, dim])
        self.skill_net = mlp([dim, *hidden, dim], layer=SpectralLinear)
        self.transition_net = mlp([2 * dim, *hidden, dim])
        self.moments = RunningMoments()
        self.least_batch = max(2, self.cfg.neighbors)  # a single distance has no variance
        return chain(self.phi.parameters(), self.skill_net.parameters(), self.transition_net.parameters())

    def body(self) -> nn.Module:
        """The network phi."""
        return self.phi

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Noise-contrastive loss [] of every skill against all transitions of the batch, and metrics."""
        both = torch.cat(self.phi(cat_obs([batch.obs, batch.next_obs])).chunk(2), -1)
        query = F.normalize(self.skill_net(batch.skill), dim=-1)
        key = F.normalize(self.transition_net(both), dim=-1)
        scores, own = query @ key.T / self.cfg.temperature, torch.arange(len(query), device=query.device)
        bound = noise_contrast(scores, own, 1 / self.cfg.temperature)  # cosines are at most 1
        return -bound.mean(), {"contrast/accuracy": accuracy(scores, own)}

    def reward(self, batch: Batch) -> Tensor:
        """Particle entropy [B]; in training mode, the running moments that scale distances are updated."""
        before, after = self.phi(cat_obs([batch.obs, batch.next_obs])).chunk(2)
        distances = nearest_distances(before, after, self.cfg.neighbors)
        if self.training:
            self.moments.follow(distances)
        variance = self.moments.variance
        scaled = distances / (variance if self.cfg.released else variance.sqrt())
        return (1 + (scaled - CLIP).clamp(min=0).mean(-1)).log()

    def pointwise(self) -> bool:
        """Not so: the reward depends on distances to the other transitions of the batch."""
        return False

    def represent(self, obs: Obs) -> Tensor:
        """phi, [N, *O] -> [N, Z]."""
        features: Tensor = self.phi(obs)
        return features
