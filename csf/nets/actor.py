"""Policies: a tanh-squashed diagonal Gaussian, and a categorical over one-hot actions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csf.nets.encoder import Encoder, VectorEncoder
from csf.nets.mlp import linear, mlp
from csf.types import Obs

MIN_LOG_STD, MAX_LOG_STD = math.log(1e-6), 2.0
EPS = 1e-6  # keeps the density of a saturated action finite
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class TanhNormal:
    """The law of tanh(u), u ~ N(mean, diag(std^2)); densities as the CSF paper's released program computes them."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        """Take mean and log standard deviation of u, both [..., A]."""
        self.mean, self.log_std = mean, log_std

    @property
    def mode(self) -> Tensor:
        """Tanh of the mean, [..., A]."""
        return self.mean.tanh()

    def sample(self) -> tuple[Tensor, Tensor]:
        """A reparametrized action [..., A] and its log-density [...]."""
        action, noise = self._draw()
        return action, self._log_prob(noise, action)

    def draw(self) -> Tensor:
        """A reparametrized action [..., A] alone, which costs less."""
        return self._draw()[0]

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density [...] of an action [..., A] whose u is not known and is estimated from it."""
        pre_tanh = 0.5 * ((1 + EPS + action) / (1 + EPS - action)).log()
        return self._log_prob((pre_tanh - self.mean) / self.log_std.exp(), action)

    def entropy(self) -> Tensor:
        """Entropy [...] of the normal before the tanh, in nats."""
        return (self.log_std + 0.5 + HALF_LOG_2PI).sum(-1)

    def _draw(self) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(self.mean)
        return (self.mean + self.log_std.exp() * noise).tanh(), noise

    def _log_prob(self, noise: Tensor, action: Tensor) -> Tensor:
        normal = -0.5 * noise.square() - self.log_std - HALF_LOG_2PI
        return (normal - (1 - action.square() + EPS).log()).sum(-1)


class GaussianActor(nn.Module):
    """tanh MLP with one head for the mean and one for the log standard deviation."""

    def __init__(self, sizes: Sequence[int], encoder: Encoder | None = None) -> None:
        """Take `sizes` = [I, hidden..., A], I including what is joined; without an encoder, inputs are vectors [I]."""
        super().__init__()
        self.encoder = VectorEncoder(sizes[0]) if encoder is None else encoder
        *trunk, hidden, actions = sizes
        self.trunk = nn.Sequential(*mlp([*trunk, hidden], nn.Tanh), nn.Tanh())
        # Both heads in one product; each has the fan and the small gain of a head of its own.
        self.heads = linear(hidden, 2 * actions, _init_halves)

    def distribution(self, obs: Obs, *more: Tensor) -> TanhNormal:
        """[..., *O] and what is joined to it -> the law of the action."""
        mean, log_std = self.heads(self.trunk(self.encoder(obs, *more))).chunk(2, dim=-1)
        return TanhNormal(mean, log_std.clamp(MIN_LOG_STD, MAX_LOG_STD))

    def forward(self, obs: Obs, *more: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *O] and what is joined to it -> a sampled action [B, A] in (-1, 1) and its log-density [B]."""
        return self.distribution(obs, *more).sample()


def _init_halves(weight: Tensor) -> Tensor:
    for half in weight.chunk(2):
        nn.init.xavier_normal_(half, gain=0.1)
    return weight


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
        # As torch.multinomial draws one of each row, without its checks, which read values on the host.
        probs = self.probs
        return self._one_hot((probs / torch.empty_like(probs).exponential_()).argmax(-1))

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability [N] of one-hot actions [N, A]."""
        return (self.log_probs * action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy [N], in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def _one_hot(self, index: Tensor) -> Tensor:
        return torch.zeros_like(self.log_probs).scatter_(-1, index[..., None], 1)  # reads no value, unlike F.one_hot


class CategoricalActor(nn.Module):
    """tanh MLP to the logits; unlike the Gaussian policy's, its last layer starts at full size."""

    def __init__(self, sizes: Sequence[int], encoder: Encoder | None = None) -> None:
        """Take `sizes` = [I, hidden..., A], I including what is joined; without an encoder, inputs are vectors [I]."""
        super().__init__()
        self.encoder = VectorEncoder(sizes[0]) if encoder is None else encoder
        self.logits = mlp(sizes, nn.Tanh)

    def distribution(self, obs: Obs, *more: Tensor) -> OneHotCategorical:
        """[N, *O] and what is joined to it -> the law of the action."""
        return OneHotCategorical(self.logits(self.encoder(obs, *more)))

    def forward(self, obs: Obs, *more: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *O] and what is joined to it -> a sampled one-hot action [B, A] and its log-probability [B]."""
        return self.distribution(obs, *more).sample()
