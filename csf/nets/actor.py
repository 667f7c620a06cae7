"""Policy networks: a tanh-squashed diagonal Gaussian, and a categorical distribution over one-hot actions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csf.nets.encoder import Encoder, VectorEncoder
from csf.nets.mlp import linear, mlp
from csf.types import Obs

MIN_LOG_STD, MAX_LOG_STD = math.log(1e-6), 2.0
EPS = 1e-6  # keeps the log-density of saturated actions finite
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class TanhNormal:
    """Distribution of tanh(u), u ~ N(mean, diag(std^2)); densities as computed by the CSF paper's released program."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        """Create the distribution from mean and log standard deviation of u, both [..., A]."""
        self.mean, self.log_std = mean, log_std

    @property
    def mode(self) -> Tensor:
        """Tanh of the mean, [..., A]."""
        return self.mean.tanh()

    def sample(self) -> tuple[Tensor, Tensor]:
        """Sample a reparametrized action [..., A]; returns it and its log-density [...]."""
        action, noise = self._draw()
        return action, self._log_prob(noise, action)

    def draw(self) -> Tensor:
        """Sample a reparametrized action [..., A] without its density, which is cheaper."""
        return self._draw()[0]

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-density [...] of an action [..., A]; u is estimated from the action."""
        pre_tanh = 0.5 * ((1 + EPS + action) / (1 + EPS - action)).log()
        return self._log_prob((pre_tanh - self.mean) / self.log_std.exp(), action)

    def entropy(self) -> Tensor:
        """Entropy [...] of u, before the tanh, in nats."""
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
        """Create layers of `sizes` = [I, hidden..., A], I with additional inputs; default: inputs are vectors [I]."""
        super().__init__()
        self.encoder = VectorEncoder(sizes[0]) if encoder is None else encoder
        *trunk, hidden, actions = sizes
        self.trunk = nn.Sequential(*mlp([*trunk, hidden], nn.Tanh), nn.Tanh())
        # One product computes both heads; each half is initialized as a separate layer with a small gain.
        self.heads = linear(hidden, 2 * actions, _init_halves)

    def distribution(self, obs: Obs, *more: Tensor) -> TanhNormal:
        """[..., *O] and additional inputs -> the distribution of the action."""
        mean, log_std = self.heads(self.trunk(self.encoder(obs, *more))).chunk(2, dim=-1)
        return TanhNormal(mean, log_std.clamp(MIN_LOG_STD, MAX_LOG_STD))

    def forward(self, obs: Obs, *more: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *O] and additional inputs -> a sampled action [B, A] in (-1, 1) and its log-density [B]."""
        return self.distribution(obs, *more).sample()


def _init_halves(weight: Tensor) -> Tensor:
    for half in weight.chunk(2):
        nn.init.xavier_normal_(half, gain=0.1)
    return weight


class OneHotCategorical:
    """Distribution of a one-hot action, with the same interface as `TanhNormal`."""

    def __init__(self, logits: Tensor) -> None:
        """Create the distribution from unnormalized log-probabilities [N, A]."""
        self.log_probs = logits.log_softmax(-1)

    @property
    def probs(self) -> Tensor:
        """Probabilities [N, A]."""
        return self.log_probs.exp()

    @property
    def mode(self) -> Tensor:
        """The most likely action, [N, A]."""
        return self._one_hot(self.log_probs.argmax(-1))

    def sample(self) -> tuple[Tensor, Tensor]:
        """Sample an action [N, A], which carries no gradient; returns it and its log-probability [N]."""
        action = self.draw()
        return action, self.log_prob(action)

    def draw(self) -> Tensor:
        """Sample an action [N, A] without its log-probability."""
        # Equal to torch.multinomial with one draw per row, without its checks, which synchronize with the device.
        probs = self.probs
        return self._one_hot((probs / torch.empty_like(probs).exponential_()).argmax(-1))

    def log_prob(self, action: Tensor) -> Tensor:
        """Log-probability [N] of one-hot actions [N, A]."""
        return (self.log_probs * action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy [N], in nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def _one_hot(self, index: Tensor) -> Tensor:
        return torch.zeros_like(self.log_probs).scatter(-1, index[..., None], 1)  # reads no value, unlike F.one_hot


class CategoricalActor(nn.Module):
    """tanh MLP that outputs logits; unlike in the Gaussian policy, the last layer has no reduced gain."""

    def __init__(self, sizes: Sequence[int], encoder: Encoder | None = None) -> None:
        """Create layers of `sizes` = [I, hidden..., A], I with additional inputs; default: inputs are vectors [I]."""
        super().__init__()
        self.encoder = VectorEncoder(sizes[0]) if encoder is None else encoder
        self.logits = mlp(sizes, nn.Tanh)

    def distribution(self, obs: Obs, *more: Tensor) -> OneHotCategorical:
        """[N, *O] and additional inputs -> the distribution of the action."""
        return OneHotCategorical(self.logits(self.encoder(obs, *more)))

    def forward(self, obs: Obs, *more: Tensor) -> tuple[Tensor, Tensor]:
        """[B, *O] and additional inputs -> a sampled one-hot action [B, A] and its log-probability [B]."""
        return self.distribution(obs, *more).sample()
