"""Features of a step from one observation to the next: a difference of state features, or one network of both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csf.nets.mlp import mlp


class StateFeatures(nn.Sequential):
    """phi, an MLP of one observation; a step is phi(s') - phi(s)."""

    def __init__(self, obs_dim: int, hidden: Sequence[int], features: int) -> None:
        """Map [B, O] to [B, Z]."""
        super().__init__(*mlp([obs_dim, *hidden, features]))

    def step(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """[B, O], [B, O] -> [B, Z]."""
        after, before = self(torch.cat([next_obs, obs])).chunk(2)
        difference: Tensor = after - before
        return difference

    def state(self, obs: Tensor) -> Tensor | None:
        """[N, O] -> [N, Z]."""
        features: Tensor = self(obs)
        return features


class PairFeatures(nn.Sequential):
    """f(s, s'), an MLP of both observations: the ablation of the CSF paper that gives up the difference."""

    def __init__(self, obs_dim: int, hidden: Sequence[int], features: int) -> None:
        """Map [B, O] and [B, O] to [B, Z]."""
        super().__init__(*mlp([2 * obs_dim, *hidden, features]))

    def step(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        """[B, O], [B, O] -> [B, Z]."""
        features: Tensor = self(torch.cat([obs, next_obs], -1))
        return features

    def state(self, obs: Tensor) -> Tensor | None:
        """A single observation has no features here."""
        return None


TRANSITIONS: dict[str, type[StateFeatures] | type[PairFeatures]] = {"difference": StateFeatures, "pair": PairFeatures}
