"""Multilayer perceptrons: plain, over observations, as a batched ensemble, and with spectral normalization."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.core import precision
from csf.nets.encoder import Encoder, VectorEncoder
from csf.types import Obs

Initializer = Callable[[Tensor], Tensor]


class Linear(nn.Linear):
    """A linear layer whose product may run in bfloat16: see `csf.core.precision`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        return precision.linear(x, self.weight, self.bias)

    def factors(self) -> list[Tensor]:
        """What it multiplies by."""
        return [self.weight]


def linear(inputs: int, outputs: int, init: Initializer = nn.init.xavier_uniform_) -> Linear:
    """A linear layer with weights from `init` and zero bias."""
    layer = Linear(inputs, outputs)
    init(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(
    sizes: Sequence[int],
    activation: type[nn.Module] = nn.ReLU,
    layer: Callable[[int, int], nn.Module] = linear,
) -> nn.Sequential:
    """[..., sizes[0]] -> [..., sizes[-1]]; the last layer is linear, biases are initialized to zero."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [layer(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class ObsMLP(nn.Sequential):
    """An MLP over observations with its own encoder; layers have the same names as those of `mlp`."""

    def __init__(
        self,
        encoder: Encoder,
        sizes: Sequence[int],
        more: int = 0,
        layer: Callable[[int, int], nn.Module] = linear,
    ) -> None:
        """Create the layers.

        Args:
            encoder: of the observations.
            sizes: [hidden..., outputs].
            more: total length of the additional inputs.
            layer: creates a layer from its numbers of inputs and outputs.
        """
        layers = mlp([encoder.out_dim + more, *sizes], layer=layer)
        super().__init__(OrderedDict([("encoder", encoder), *layers.named_children()]))

    def forward(self, obs: Obs, *more: Tensor) -> Tensor:
        """[..., *O] and additional inputs -> [..., outputs]."""
        encoder, *layers = self
        x: Tensor = encoder(obs, *more)
        for layer in layers:
            x = layer(x)
        return x


class EnsembleMLP(nn.Module):
    """E independent ReLU networks over observations, evaluated in batched products."""

    def __init__(
        self,
        heads: int,
        sizes: Sequence[int],
        init: Initializer = nn.init.xavier_normal_,
        encoder: Encoder | None = None,
    ) -> None:
        """Create layers of `sizes` = [I, hidden..., O], I with additional inputs; default: inputs are vectors [I]."""
        super().__init__()
        pairs = list(pairwise(sizes))
        self.heads = heads
        self.encoder = VectorEncoder(sizes[0]) if encoder is None else encoder
        self.weights = nn.ParameterList(torch.empty(heads, i, o) for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(heads, 1, o) for _, o in pairs)
        for weight in self.weights:
            for head in weight:
                init(head)  # Xavier is symmetric in fan-in and fan-out, so [I, O] is equivalent to [O, I]

    def forward(self, obs: Obs, *more: Tensor) -> Tensor:
        """[B, *O] and additional inputs -> [E, B, O]."""
        x: Tensor = self.encoder(obs, *more)
        x = x.expand(self.heads, *x.shape[-2:])
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = precision.ensemble_linear(x, weight, bias)
            if i < last:
                x = x.relu()
        return x

    def factors(self) -> list[Tensor]:
        """What it multiplies by."""
        return list(self.weights)


class SpectralLinear(nn.Linear):
    """A linear layer divided by an estimate of its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    In training mode, every forward pass makes one power iteration, v before u; in evaluation mode, none.
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        """Map [..., inputs] to [..., outputs]."""
        super().__init__(inputs, outputs)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("left", F.normalize(torch.randn(outputs), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(inputs), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        if self.training:
            self.iterate()
        # Copies, because the next pass changes the buffers before this one's gradient may have been computed.
        norm = self.left.clone() @ (self.weight @ self.right.clone())
        return precision.linear(x, self.weight / norm, self.bias)

    @torch.no_grad()
    def iterate(self) -> None:
        """Make one power iteration."""
        self.right.copy_(F.normalize(self.weight.T @ self.left, dim=0))
        self.left.copy_(F.normalize(self.weight @ self.right, dim=0))
