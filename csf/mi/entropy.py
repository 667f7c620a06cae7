"""Particle entropy: an entropy estimate from distances to nearest neighbors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def nearest_distances(points: Tensor, others: Tensor, count: int) -> Tensor:
    """Distances [B, count] from each of `points` [B, Z] to its nearest `others` [M, Z], ascending."""
    distances = (points[:, None] - others[None]).norm(dim=-1)
    return distances.topk(count, dim=1, largest=False).values


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
