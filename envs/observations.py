"""Observation spaces of three kinds: a vector, an image, or a dictionary of both."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from envs.errors import WorldError

Array: TypeAlias = NDArray[Any]
Obs: TypeAlias = Array | dict[str, Array]

ACCEPTED = "Box float32 [O] (vector), Box uint8 [H, W, C] (image), or Dict of both with the keys 'image' and 'vector'"


def vectors(dim: int) -> Box:
    """Returns the unbounded space of vectors [dim] float32."""
    return Box(-np.inf, np.inf, (dim,), np.float32)


def is_vector(space: Space[Any]) -> bool:
    """Returns whether the space is a Box of vectors [O] float32."""
    return isinstance(space, Box) and len(space.shape) == 1 and space.dtype == np.float32


def is_picture(space: Space[Any]) -> bool:
    """Returns whether the space is a Box of images [H, W, C] uint8."""
    return isinstance(space, Box) and len(space.shape) == 3 and space.dtype == np.uint8


def is_both(space: Space[Any]) -> bool:
    """Returns whether the space is a Dict of an image and a vector with the keys "image" and "vector"."""
    return (
        isinstance(space, Dict)
        and set(space.spaces) == {"image", "vector"}
        and is_picture(space["image"])
        and is_vector(space["vector"])
    )


def checked(space: Space[Any]) -> Space[Any]:
    """Returns `space` if it is one of the three kinds.

    Raises:
        WorldError: If it is not.
    """
    if not (is_vector(space) or is_picture(space) or is_both(space)):
        raise WorldError(f"the observation space is {space}; accepted: {ACCEPTED}")
    return space


def with_columns(space: Space[Any], dim: int) -> Space[Any]:
    """Returns the space of the observations that `append` returns for columns [N, dim]."""
    if is_picture(space):
        return Dict({"image": space, "vector": vectors(dim)})
    if isinstance(space, Dict):
        return Dict({"image": space["image"], "vector": vectors(_length(space["vector"]) + dim)})
    return vectors(_length(space) + dim)


def append(obs: Obs, columns: Array) -> Obs:
    """Appends columns [N, k] to observations of N worlds.

    Vectors are extended. Images [N, H, W, C] become a dictionary of the image and the columns as its vector.
    """
    columns = columns.astype(np.float32)
    if isinstance(obs, dict):
        return obs | {"vector": np.concatenate((obs["vector"], columns), axis=1)}
    if obs.ndim > 2:
        return {"image": obs, "vector": columns}
    return np.concatenate((obs, columns), axis=1)


def row(obs: Obs, i: int) -> Obs:
    """Returns the observation of world i."""
    return {key: value[i] for key, value in obs.items()} if isinstance(obs, dict) else cast(Array, obs[i])


def _length(space: Space[Any]) -> int:
    return int((space.shape or (0,))[0])
