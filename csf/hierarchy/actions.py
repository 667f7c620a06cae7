"""What a controller chooses, and which skill is meant by it: decided by the law of the pretrained skills alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from csf.agents.base import Prior
from csf.worlds import WorldError

REACH = 1.5  # of Gaussian and box skills in every dimension, as in the CSF paper's released program
TINY = 1e-12  # keeps the direction of no choice at all finite


def action_space(prior: Prior, dim: int) -> Box | Discrete[np.int64]:
    """The actions that stand for skills of this law, Z = dim: an index of one-hot skills, else [-1, 1]^Z."""
    return Discrete(dim) if prior == "one_hot" else Box(-1.0, 1.0, (dim,), np.float32)


def choices(actions: Any, num_envs: int, prior: Prior, dim: int) -> NDArray[np.float32]:
    """Actions as rows [N, Z] float32: they already are, or are indices [N] of one-hot skills.

    Raises:
        WorldError: a shape, a number that is not finite, or an index that is not accepted.
    """
    given = np.asarray(actions)
    shapes = "an index or a one-hot row" if prior == "one_hot" else "a row"
    if prior == "one_hot" and given.shape == (num_envs,) and given.dtype.kind in "iu":
        if not ((given >= 0) & (given < dim)).all():
            raise WorldError(f"actions are {given.tolist()}; accepted: skills 0 to {dim - 1}")
        given = np.eye(dim)[given]
    if given.shape != (num_envs, dim):
        raise WorldError(f"actions have shape {given.shape}; accepted: {shapes} of {dim} for each of {num_envs} worlds")
    if not (finite := np.isfinite(given).all(1)).all():
        raise WorldError(f"actions of worlds {np.flatnonzero(~finite).tolist()} are not finite")
    return given.astype(np.float32)


def skills(rows: NDArray[np.float32], prior: Prior) -> NDArray[np.float32]:
    """[N, Z] choices -> [N, Z] skills: the direction on the sphere, the largest of one-hot, else `REACH` times it."""
    if prior == "one_hot":
        return np.eye(rows.shape[1], dtype=np.float32)[rows.argmax(1)]
    if prior == "sphere":
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
    return rows * np.float32(REACH)
