"""Observations that stack the images of several steps, of which the replay buffer stores each image once."""

from __future__ import annotations

import torch
from torch import Tensor

from csf.types import EnvSpec, Obs, SomeObs, map_obs


def frames_of(spec: EnvSpec) -> SomeObs:
    """Number of images that each array of an observation stacks; 1 for arrays that are stored as they are.

    If an action is held for several steps, successive observations share few images or none, so stacks are stored.
    """
    frames = spec.frames if spec.hold == 1 else 1
    return spec.build_obs(lambda shape, dtype: frames if dtype == "uint8" else 1)


def newest(frames: SomeObs, obs: Obs) -> SomeObs:
    """Observations [..., H, W, F * C] -> the newest image of each stack, [..., H, W, C], without copying."""
    return map_obs(
        lambda count, rows: rows[..., rows.shape[-1] // count * (count - 1) :] if count > 1 else rows, frames, obs
    )


def window(index: Tensor, step: Tensor, following: Tensor, frames: int, ring: int) -> Tensor:
    """Rows of the images of a transition's two stacks, oldest first: [B, F + 1], those of the first stack and one more.

    Args:
        index: rows [B] of the newest images.
        step: number of earlier steps of the episode [B]; before an episode's first image, that image is repeated.
        following: rows [B] of the images after the transitions.
        frames: F, number of images of a stack.
        ring: number of rows after which rows begin anew.
    """
    back = torch.arange(frames - 1, -1, -1, device=index.device)
    own = (index[:, None] - torch.minimum(back, step[:, None])) % ring
    return torch.cat([own, following[:, None]], 1)


def stacked(images: Tensor) -> Tensor:
    """Images [B, F, H, W, C] -> stacks [B, H, W, F * C]."""
    return images.permute(0, 2, 3, 1, 4).flatten(3)


def check_stacks(frames: SomeObs, obs: Obs, length: Tensor, name: str) -> None:
    """Check that observations [N, T + 1, *O] of episodes of `length` [N] steps stack images as `frames` says.

    Raises:
        ValueError: an image of a stack is not that of an earlier step, or an episode's first stack has several images.
    """

    def check(count: int, rows: Tensor) -> None:
        if count == 1:
            return
        width = rows.shape[-1] // count
        first = rows[:, 0].unflatten(-1, (count, width))
        later = torch.arange(rows.shape[1] - 1) < length[:, None]
        kept = (rows[:, 1:, ..., :-width] == rows[:, :-1, ..., width:]).flatten(2).all(2)
        if not (first == first[..., :1, :])[length > 0].all() or not kept[later].all():
            raise ValueError(f"observations of {name} are not stacks of the last {count} images, as its `frames` says")

    map_obs(check, frames, obs)
