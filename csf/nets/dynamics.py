"""A probabilistic ensemble that predicts the next observation (Chua et al. 2018, arXiv 1805.12114)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csf.nets.mlp import EnsembleMLP
from csf.types import Batch

MIN_LOG_VAR, MAX_LOG_VAR = -10.0, 0.5  # of normalized changes
EPS = 1e-4  # variance of a coordinate that never changes


class Normalizer(nn.Module):
    """Running mean and variance of vectors, in buffers that are updated in place."""

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, dim: int) -> None:
        """Start with mean 0 and variance 1 of vectors [..., dim]."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.ones(dim))
        self.register_buffer("count", torch.zeros(()))

    def follow(self, rows: Tensor) -> None:
        """Update with vectors [B, dim]."""
        self.count.add_(1)
        self.mean.lerp_(rows.mean(0), 1 / self.count)
        self.square.lerp_(rows.square().mean(0), 1 / self.count)

    def scale(self) -> Tensor:
        """Standard deviation, [dim]."""
        return (self.square - self.mean.square()).clamp(min=EPS**2).sqrt()

    def forward(self, rows: Tensor) -> Tensor:
        """Normalize vectors [..., dim]."""
        normalized: Tensor = (rows - self.mean) / self.scale()
        return normalized


class Dynamics(nn.Module):
    """E networks that each predict a Gaussian over the change of the observation."""

    def __init__(self, members: int, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.net = EnsembleMLP(members, [obs_dim + action_dim, *hidden, 2 * obs_dim])
        self.input_norm, self.change_norm = Normalizer(obs_dim + action_dim), Normalizer(obs_dim)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the normalized change, both [E, B, O], for [E, B, O] and [E, B, A]."""
        out: Tensor = self.net(self.input_norm(torch.cat([obs, action], -1)))
        mean, log_var = out.chunk(2, -1)
        log_var = MAX_LOG_VAR - nn.functional.softplus(MAX_LOG_VAR - log_var)
        return mean, MIN_LOG_VAR + nn.functional.softplus(log_var - MIN_LOG_VAR)

    def predict(self, obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Tensor:
        """Predict next observations [E, B, O], of each row by its own member.

        Args:
            obs: observations [E, B, O].
            action: actions [E, B, A].
            noise: standard normal numbers [E, B, O] that select a sample; None: the mean.
        """
        change, log_var = self(obs, action)
        if noise is not None:
            change = change + (0.5 * log_var).exp() * noise
        predicted: Tensor = obs + self.change_norm.mean + self.change_norm.scale() * change
        return predicted

    def follow(self, batch: Batch) -> None:
        """Update the normalizers with transitions [B]."""
        self.input_norm.follow(torch.cat([batch.obs, batch.action], -1))
        self.change_norm.follow(batch.next_obs - batch.obs)

    def loss(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood without constants [], summed over members, and the mean squared error [], detached.

        Args:
            batch: transitions [B].
            rows: indices [E, M] of the transitions that each member learns from.
        """
        mean, log_var = self(batch.obs[rows], batch.action[rows])
        error = (mean - self.change_norm(batch.next_obs - batch.obs)[rows]).square()
        return (error * (-log_var).exp() + log_var).mean((1, 2)).sum(), error.detach().mean()
