"""Regularizers of a critic: layers, noise, mixed and smoothed targets, and a penalty on the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from csf.nets.mlp import SpectralLinear, linear

ITERATIONS = 15  # power iterations at the start, before which the estimate of the singular value is arbitrary


class Layers(NamedTuple):
    """Regularizers that are part of a network's hidden layers."""

    dropout: float  # probability with which a hidden unit is dropped
    spectral_norm: bool
    batch_norm: bool
    layer_norm: bool


def regularized_mlp(sizes: Sequence[int], layers: Layers) -> nn.Sequential:
    """ReLU network [B, sizes[0]] -> [B, sizes[-1]] with regularized hidden layers; the last layer is linear.

    A hidden layer is, in this order: linear with or without spectral normalization, norm, ReLU, dropout.
    """
    found: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        found.append(_spectral(inputs, outputs) if layers.spectral_norm else linear(inputs, outputs))
        if layers.batch_norm:
            found.append(nn.BatchNorm1d(outputs))
        if layers.layer_norm:
            found.append(nn.LayerNorm(outputs))
        found.append(nn.ReLU())
        if layers.dropout:
            found.append(nn.Dropout(layers.dropout))
    return nn.Sequential(*found, linear(sizes[-2], sizes[-1]))


def _spectral(inputs: int, outputs: int) -> SpectralLinear:
    layer = SpectralLinear(inputs, outputs)
    for _ in range(ITERATIONS):
        layer.iterate()
    return layer


def targets(own: Tensor, count: int, smoothing: float) -> Tensor:
    """Distribution [B, K] over K = `count` candidates: 1 - smoothing at the own one [B], plus smoothing / K at each."""
    even = torch.full((len(own), count), smoothing / count, device=own.device)
    return even.scatter_add(-1, own[:, None], torch.full_like(even[:, :1], 1 - smoothing))


class Mixup(NamedTuple):
    """A convex combination of every row with a row of a shuffled batch (Zhang et al. 2018, arXiv 1710.09412)."""

    share: Tensor  # [] in [0, 1], weight of the row itself
    order: Tensor  # [B] int64, the row that it is mixed with

    @classmethod
    def draw(cls, size: int, beta: float, device: torch.device) -> Mixup:
        """Draw one weight from Beta(beta, beta) and an order of `size` rows."""
        return cls(symmetric_beta(beta, device), torch.rand(size, device=device).argsort())

    def __call__(self, rows: Tensor) -> Tensor:
        """Mix the rows [B, ...] of a tensor."""
        return self.share * rows + (1 - self.share) * rows[self.order]


def symmetric_beta(beta: float, device: torch.device, count: tuple[int, ...] = ()) -> Tensor:
    """Sample from Beta(beta, beta) without rejection, by Bailey's formula for Student's t (Devroye 1996)."""
    u, v = torch.rand((2, *count), device=device)
    u, cosine = u ** (1 / beta), (2 * math.pi * v).cos()
    square = (1 - u) * cosine.square()  # t^2 = 2 beta square / u
    return 0.5 + 0.5 * cosine.sign() * (square / (square + u)).sqrt()


def gradient_penalty(losses: Tensor, x: Tensor, over: Literal["sample", "batch"]) -> Tensor:
    """Squared distance of the loss's gradient norm from 1, [], which can be differentiated itself.

    Args:
        losses: [B], the loss of each row.
        x: [B, I], the inputs of which the losses are a function.
        over: "sample": mean over rows of (||d losses_i / d x_i|| - 1)^2; "batch": (||d mean(losses) / d x|| - 1)^2,
            with the norm over the whole batch.
    """
    (gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    if over == "batch":
        return (_norm((gradient / len(x)).flatten()) - 1).square()
    return (_norm(gradient) - 1).square().mean()


def _norm(rows: Tensor) -> Tensor:
    """Euclidean norm over the last axis; its gradient is finite at 0."""
    return (rows.square().sum(-1) + torch.finfo(rows.dtype).tiny).sqrt()
