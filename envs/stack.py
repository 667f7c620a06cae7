"""Stacks the last three images of each world into its observation."""

from __future__ import annotations

import numpy as np
from gymnasium.spaces import Box

from envs.observations import Array

SIZE = 64  # height and width of an observed image in pixels
FRAMES = 3  # images per observation


def stacks() -> Box:
    """Returns the space of stacks [64, 64, 9] uint8."""
    return Box(0, 255, (SIZE, SIZE, 3 * FRAMES), np.uint8)


def still(images: Array) -> Array:
    """Returns stacks [n, 64, 64, 9] in which images [n, 64, 64, 3] are repeated three times, as after a reset."""
    return np.tile(images, FRAMES)


class FrameStack:
    """The observations of N worlds: images after the last three steps along the last axis, oldest first.

    After a reset a stack holds the first image three times, so it never contains images of two episodes.
    """

    def __init__(self, num_envs: int) -> None:
        """Creates black stacks for N worlds."""
        self._rows = np.zeros((num_envs, SIZE, SIZE, 3 * FRAMES), np.uint8)

    def restart(self, ids: Array, images: Array) -> None:
        """Fills the stacks of worlds `ids` [n] with their first images [n, 64, 64, 3]."""
        self._rows[ids] = still(images)

    def push(self, images: Array, restarted: Array) -> None:
        """Appends the images [N, 64, 64, 3] of a step; worlds in `restarted` [N] bool begin a new stack."""
        self._rows[..., :-3] = self._rows[..., 3:].copy()
        self._rows[..., -3:] = images
        self._rows[restarted] = still(images[restarted])

    def read(self) -> Array:
        """Returns the stacks [N, 64, 64, 9] as a new array."""
        return self._rows.copy()
