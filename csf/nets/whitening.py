"""A linear map after which all directions of a representation's steps have the same mean square."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from csf.errors import ConfigError

RATE = 0.005  # of the moving average of second moments, per batch
FLOOR = 1e-4  # added to the share of each direction in the mean square: a step grows 100 times at most
ITERATIONS = 20  # of the Newton-Schulz iteration; enough for the floor above


class Whitening(nn.Module):
    """W = (tr C / Z)^(1/2) C^(-1/2) for the second moments C = E[d d^T] of steps d.

    E||W d||^2 = E||d||^2, so that only the shares of the directions change. W is the identity if they are equal.
    """

    moments: Tensor
    matrix: Tensor

    def __init__(self, dim: int) -> None:
        """Start with the identity for steps of length Z = `dim`."""
        super().__init__()
        self.register_buffer("moments", torch.zeros(dim, dim))
        self.register_buffer("matrix", torch.eye(dim))

    def forward(self, step: Tensor) -> Tensor:
        """W d for steps d: [..., Z] -> [..., Z]."""
        return step @ self.matrix

    @torch.no_grad()
    def follow(self, step: Tensor) -> None:
        """Update the moving average of second moments, and W, by a batch of steps [B, Z]."""
        self.moments.lerp_(step.T @ step / len(step), RATE)
        self.matrix.copy_(whitener(self.moments))


class NoWhitening(nn.Identity):
    """Leaves steps as they are."""

    def follow(self, step: Tensor) -> None:
        """Do nothing."""


def make_whitening(whiten: bool, linear: bool, dim: int) -> Whitening | NoWhitening:
    """Whitening of steps of length Z = `dim`, or none.

    Args:
        whiten: the setting `agent.whiten`.
        linear: whether the reward is linear in the step.
        dim: number of directions.

    Raises:
        ConfigError: the reward has terms in which steps must keep their length.
    """
    if whiten and not linear:
        raise ConfigError(
            "agent.whiten=true is for rewards that are linear in the step; set agent.whiten=false, or "
            "agent.reward_contrast=false (csf), agent.reward_penalty=false (metra)"
        )
    return Whitening(dim) if whiten else NoWhitening()


def whitener(moments: Tensor) -> Tensor:
    """W of second moments C, both [Z, Z]."""
    double = moments.double()
    mean = (double.trace() / len(moments)).clamp_min(torch.finfo(torch.float64).tiny)
    relative = double / mean + FLOOR * torch.eye(len(moments), dtype=torch.float64, device=moments.device)
    root = inverse_root if moments.is_cuda else exact_inverse_root
    return root(relative).to(moments.dtype)


def exact_inverse_root(matrix: Tensor) -> Tensor:
    """M^(-1/2) of a positive definite M [Z, Z], by its eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.rsqrt()) @ vectors.T


def inverse_root(matrix: Tensor) -> Tensor:
    """The same by the coupled Newton-Schulz iteration (Higham 2008, Functions of Matrices, section 6.7).

    CUDA graphs can record it, because an eigendecomposition waits for the device and these matrix products do not.
    """
    unit = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    size = torch.linalg.matrix_norm(matrix)  # the iteration converges for eigenvalues between 0 and 1
    root, inverse = matrix / size, unit
    for _ in range(ITERATIONS):
        change = 1.5 * unit - 0.5 * inverse @ root
        root, inverse = root @ change, change @ inverse
    return inverse / size.sqrt()
