"""Entropy estimates from distances to nearest neighbors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def nearest_distances(points: Tensor, others: Tensor, count: int) -> Tensor:
    """Distances [B, count] from each of `points` [B, Z] to its nearest `others` [M, Z], ascending."""
    distances = (points[:, None] - others[None]).norm(dim=-1)
    return distances.topk(count, dim=1, largest=False).values


def neighbor_entropy(points: Tensor, neighbors: int, chunk: int = 256, floor: float = 1e-6) -> Tensor:
    """Differential entropy of the distribution of points [N, Z], [], in nats (Kozachenko and Leonenko 1987).

    psi(N) - psi(k) + Z mean log(2 r), with r the Chebyshev distance to the k-th nearest other point.

    Args:
        points: samples, more than `neighbors`.
        neighbors: k; a larger one has less variance and more bias.
        chunk: number of points whose distances are computed at a time; limits memory and does not affect the result.
        floor: lower limit of r, for points that occur more than k times.
    """
    count, dim = points.shape
    # The nearest of all points is the point itself.
    radii = [torch.cdist(rows, points, p=math.inf).kthvalue(neighbors + 1).values for rows in points.split(chunk)]
    sizes = torch.tensor([count, neighbors], dtype=points.dtype, device=points.device).digamma()
    return sizes[0] - sizes[1] + dim * (2 * torch.cat(radii).clamp(min=floor)).log().mean()


class RunningMoments(nn.Module):
    """Running mean and variance of a stream of numbers, in buffers that are updated in place."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("count", torch.tensor(1e-4))

    def follow(self, values: Tensor) -> None:
        """Update with a batch of numbers of any shape (Chan et al. 1979, with the unbiased variance of the batch)."""
        size = values.numel()
        total = self.count + size
        gap = values.mean() - self.mean
        spread = self.variance * self.count + values.var() * size + gap.square() * self.count * size / total
        self.mean.add_(gap * size / total)
        self.variance.copy_(spread / total)
        self.count.copy_(total)
