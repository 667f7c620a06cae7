"""Critics: networks that score how well each skill fits a state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Body = Callable[[Sequence[int]], nn.Module]  # creates a network from its layer widths [inputs, hidden..., outputs]


class Classifier(nn.Module):
    """f(s, z) = d(s) . z, with one output of d per skill; without hidden layers, d is linear."""

    def __init__(self, inputs: int, skill_dim: int, hidden: Sequence[int], latent: int, body: Body) -> None:
        """Create the network; arguments as in `Separable`, `latent` is not used."""
        super().__init__()
        self.net = body([inputs, *hidden, skill_dim])

    def forward(self, x: Tensor, skills: Tensor) -> Tensor:
        """Features of states [B, I] and K skills [K, Z] -> scores [B, K]."""
        scores: Tensor = self.net(x) @ skills.T
        return scores


class Separable(nn.Module):
    """f(s, z) = cos(phi(s), psi(z)), with a network for the states and one for the skills."""

    def __init__(self, inputs: int, skill_dim: int, hidden: Sequence[int], latent: int, body: Body) -> None:
        """Create the networks.

        Args:
            inputs: I, number of features of a state.
            skill_dim: Z.
            hidden: layer widths.
            latent: length of phi and psi.
            body: creates a network from its layer widths.
        """
        super().__init__()
        self.phi = body([inputs, *hidden, latent])
        self.psi = body([skill_dim, *hidden, latent])

    def forward(self, x: Tensor, skills: Tensor) -> Tensor:
        """Features of states [B, I] and K skills [K, Z] -> scores [B, K]."""
        scores: Tensor = F.normalize(self.phi(x), dim=-1) @ F.normalize(self.psi(skills), dim=-1).T
        return scores


class Concat(nn.Module):
    """f(s, z) = g([s, z]), one network over pairs."""

    def __init__(self, inputs: int, skill_dim: int, hidden: Sequence[int], latent: int, body: Body) -> None:
        """Create the network; arguments as in `Separable`, `latent` is not used."""
        super().__init__()
        self.net = body([inputs + skill_dim, *hidden, 1])

    def forward(self, x: Tensor, skills: Tensor) -> Tensor:
        """Features of states [B, I] and K skills [K, Z] -> scores [B, K]."""
        rows, columns = len(x), len(skills)
        left = x[:, None].expand(-1, columns, -1).flatten(0, 1)
        right = skills.expand(rows, -1, -1).flatten(0, 1)
        scores: Tensor = self.net(torch.cat([left, right], -1)).view(rows, columns)
        return scores


CRITICS: dict[str, type[Classifier] | type[Separable] | type[Concat]] = {
    "mlp": Classifier,
    "linear": Classifier,
    "separable": Separable,
    "concat": Concat,
}
