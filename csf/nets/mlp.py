"""Multilayer perceptrons, single and as an ensemble evaluated in one batched matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Initializer = Callable[[Tensor], Tensor]


def linear(inputs: int, outputs: int, init: Initializer = nn.init.xavier_uniform_) -> nn.Linear:
    """A linear layer with weights from `init` and zero bias."""
    layer = nn.Linear(inputs, outputs)
    init(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(
    sizes: Sequence[int],
    activation: type[nn.Module] = nn.ReLU,
    layer: Callable[[int, int], nn.Module] = linear,
) -> nn.Sequential:
    """[..., sizes[0]] -> [..., sizes[-1]]; the last layer is linear, biases start at zero."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [layer(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class EnsembleMLP(nn.Module):
    """E independent ReLU networks evaluated together: [B, I] -> [E, B, O]."""

    def __init__(self, heads: int, sizes: Sequence[int], init: Initializer = nn.init.xavier_normal_) -> None:
        super().__init__()
        pairs = list(pairwise(sizes))
        self.heads = heads
        self.weights = nn.ParameterList(torch.empty(heads, i, o) for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(heads, 1, o) for _, o in pairs)
        for weight in self.weights:
            for head in weight:
                init(head)  # Xavier is symmetric in fan-in and fan-out, so [I, O] draws as [O, I] does

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [E, B, O]."""
        x = x.expand(self.heads, *x.shape)
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if i < last:
                x = x.relu()
        return x
