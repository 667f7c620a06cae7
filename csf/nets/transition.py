"""Features of a transition: a difference of state features, or one network over both observations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from csf.nets.encoder import Encoder
from csf.nets.mlp import ObsMLP
from csf.types import Obs, cat_obs


class StateFeatures(ObsMLP):
    """phi, an encoder and MLP over one observation; the features of a step are phi(s') - phi(s)."""

    small_differences = True  # see csf.core.precision

    def __init__(self, encoder: Encoder, hidden: Sequence[int], features: int) -> None:
        """Map [B, *O] to [B, Z]."""
        super().__init__(encoder, [*hidden, features])

    def step(self, obs: Obs, next_obs: Obs) -> Tensor:
        """[B, *O], [B, *O] -> [B, Z]."""
        after, before = self(cat_obs([next_obs, obs])).chunk(2)
        difference: Tensor = after - before
        return difference

    def state(self, obs: Obs) -> Tensor | None:
        """[N, *O] -> [N, Z]."""
        features: Tensor = self(obs)
        return features


class PairFeatures(ObsMLP):
    """f(s, s'), an MLP over both encoded observations: an ablation of the CSF paper."""

    def __init__(self, encoder: Encoder, hidden: Sequence[int], features: int) -> None:
        """Map [B, *O] and [B, *O] to [B, Z]."""
        super().__init__(encoder, [*hidden, features], more=encoder.out_dim)

    def step(self, obs: Obs, next_obs: Obs) -> Tensor:
        """[B, *O], [B, *O] -> [B, Z]."""
        encoder, *_ = self
        features: Tensor = self(obs, encoder(next_obs))
        return features

    def state(self, obs: Obs) -> Tensor | None:
        """Return None: a single observation has no features."""
        return None


TRANSITIONS: dict[str, type[StateFeatures] | type[PairFeatures]] = {"difference": StateFeatures, "pair": PairFeatures}
