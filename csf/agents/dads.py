"""DADS (Sharma et al. 2020, arXiv 1907.01657): skills with predictable and distinct dynamics.

A model q(s' - s | s, z) is fitted. The reward is high if a step is more likely under its own skill than under other
skills from the prior. The method cannot infer skills for goals.

Healthy: reward/mean rises from 0 (at most log(num_alternatives + 1) = 4.6); dynamics/error, the mean squared error per
normalized coordinate, falls from about 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, Prior, objectives
from csf.config.ranges import Count
from csf.mi.bounds import log_ratio
from csf.nets.mlp import mlp
from csf.types import Batch, Metrics

CHUNK = 32  # alternatives per forward pass; limits memory and does not affect results


@dataclass(frozen=True)
class DADSConfig(ObjectiveConfig):
    """Dynamics-aware discovery of skills."""

    num_alternatives: Count  # L, number of skills from the prior that each step is compared with


@objectives("dads")
class DADS(Objective):
    """Reward log (L + 1) q(s'|s,z) / (q(s'|s,z) + sum_l q(s'|s,z_l)), q a unit Gaussian in normalized differences."""

    Config = DADSConfig
    prior: Prior = "box"
    accepts_images = False  # a unit-variance Gaussian does not fit differences of images
    least_batch = 2  # the target is normalized by the variance of the batch

    def build(self) -> Iterable[nn.Parameter]:
        """Create the dynamics model and the norms of its input and target, whose statistics only `update` changes."""
        obs_dim = self.spec.obs_dim
        self.dynamics = mlp([obs_dim + self.cfg.skill_dim, *self.cfg.hidden, obs_dim])
        # As in the released program, the input norm has an affine map that stays the identity.
        self.input_norm = nn.BatchNorm1d(obs_dim, momentum=0.01).requires_grad_(False).eval()
        self.target_norm = nn.BatchNorm1d(obs_dim, momentum=0.01, affine=False).eval()
        return self.dynamics.parameters()

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Negative log-likelihood [] of the normalized difference, and metrics."""
        obs, change = self._normalized(batch)
        log_prob, error = self._log_prob(obs, change, batch.skill)
        return -log_prob.mean(), {"dynamics/error": error.detach().mean()}

    def reward(self, batch: Batch) -> Tensor:
        """Log-ratio [B] of the step's density under its own skill to the mean over skills, in nats."""
        obs, change = self._normalized(batch)
        size, count = len(obs), self.cfg.num_alternatives
        own, _ = self._log_prob(obs, change, batch.skill)
        alternatives = self.sample_skills(count * size).view(count, size, -1)
        others = []
        for skills in alternatives.split(CHUNK):
            shape = (len(skills), size, -1)
            log_prob, _ = self._log_prob(obs.expand(*shape), change.expand(*shape), skills)
            others.append(log_prob)
        return log_ratio(own, torch.cat(others).T)

    def update(self, batch: Batch) -> Metrics:
        """Update the dynamics model; the statistics of the norms change only here, not when rewards are computed."""
        norms = (self.input_norm, self.target_norm)
        for norm in norms:
            norm.train()
        metrics = super().update(batch)
        for norm in norms:
            norm.eval()
        return metrics

    def _normalized(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.input_norm(batch.obs), self.target_norm(batch.next_obs - batch.obs)

    def _log_prob(self, obs: Tensor, change: Tensor, skill: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density [...] of normalized changes [..., O] and their squared error per coordinate [...]."""
        error = (change - self.dynamics(torch.cat([obs, skill], -1))).square()
        log_prob = -0.5 * (error + math.log(2 * math.pi)).sum(-1)
        return log_prob, error.mean(-1)
