"""What is measured where goals are places: cells that were visited, and the distance to a goal."""

from __future__ import annotations

import numpy as np

from envs.observations import Array


def coverage(coord: Array, length: Array, cell: float) -> int:
    """Number of distinct cells of side `cell` visited by any episode at any step (METRA, arXiv 2310.08887).

    Args:
        coord: [n, T + 1, C], before the first step and after every step; behind an episode's end it is ignored.
        length: Steps of each episode [n], 1 to T.
        cell: In units of `coord`.
    """
    visited = coord[np.arange(coord.shape[1]) <= length[:, None]]
    return len(np.unique(np.floor(visited / cell) + 0.0, axis=0))  # + 0.0 makes one of the two zeros


def reached(coord: Array, length: Array, place: Array, radii: tuple[float, ...]) -> dict[str, Array]:
    """What the distance to a goal after each step says of every episode.

    Args:
        coord: As in `coverage`.
        length: As in `coverage`.
        place: The goal of each episode [n, C].
        radii: Distances that count as reaching a goal, in units of `coord`.

    Returns:
        Arrays [n]: `distance` at the end, in units of `coord`; for every radius r `hit_r`, ever within; `end_r`,
        within at the end; `staying_r`, the fraction of steps within.
    """
    distance = np.linalg.norm(coord[:, 1:] - place[:, None], axis=-1)
    real = np.arange(distance.shape[1]) < length[:, None]
    final = distance[np.arange(len(distance)), length - 1]
    found = {"distance": final}
    for radius in radii:
        within = (distance <= radius) & real
        found[f"hit_{radius:g}"] = within.any(1)
        found[f"end_{radius:g}"] = final <= radius
        found[f"staying_{radius:g}"] = within.sum(1) / length
    return found
