"""Categorical policy over one-hot actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.nets.mlp import mlp


class OneHotCategorical:
    """The law of a one-hot action; the same calls as the law of a continuous one."""

    def __init__(self, logits: Tensor) -> None:
        """Take unnormalized log-probabilities [N, A]."""
        self.log_probs = logits.log_softmax(-1)

    @property
    def probs(self) -> Tensor:
        """Probabilities [N, A]."""
        return self.log_probs.exp()

    @property
    def mode(self) -> Tensor:
        """The likeliest action, [N, A]."""
        return self._one_hot(self.log_probs.argmax(-1))

    def sample(self) -> tuple[Tensor, Tensor]:
        """An action [N, A], through which no gradient flows, and its log-probability [N]."""
        action = self.draw()
        return action, self.log_prob(action)

    def draw(self) -> Tensor:
        """An action alone, [N, A]."""
        return self._one_hot(torch.multinomial(self.probs, 1).squeeze(-1))

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability [N] of one-hot actions [N, A]."""
        return (self.log_probs * action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy [N], in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def _one_hot(self, index: Tensor) -> Tensor:
        return F.one_hot(index, self.log_probs.shape[-1]).to(self.log_probs.dtype)


class CategoricalActor(nn.Module):
    """tanh MLP to the logits; unlike the Gaussian policy's, its last layer starts at full size."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """Take `sizes` = [I, hidden..., A]."""
        super().__init__()
        self.logits = mlp(sizes, nn.Tanh)

    def distribution(self, x: Tensor) -> OneHotCategorical:
        """[N, I] -> the law of the action."""
        return OneHotCategorical(self.logits(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, I] -> a sampled one-hot action [B, A] and its log-probability [B]."""
        return self.distribution(x).sample()
