"""What worlds measure: what skills achieved together, and how far an episode got with its goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from envs.errors import WorldError
from envs.observations import Array, Obs, row


class Measured:
    """What is measured of skills and goals in worlds of one kind; a subclass overrides what is different there.

    By default a goal is a place, and coordinates, radii and cells describe all that is measured. A goal may also be a
    row [C] that only `success` understands, such as one in which NaN stands for what does not matter. No method here
    depends on the state of the worlds, or on their number.

    Attributes:
        coord_dim: C, the number of coordinates in `infos["coord"]`.
        success_radii: Distances to a goal that count as reaching it, largest first, in units of `coord`; empty
            where goals are not places.
        named_goals: The row [C] of every goal that has a name.
        coverage_cell: Side of a cell of the coverage metric, in units of `coord`.
    """

    coord_dim: ClassVar[int]
    success_radii: ClassVar[tuple[float, ...]]
    coverage_cell: ClassVar[float]
    named_goals: ClassVar[Mapping[str, Sequence[float]]] = {}

    @property
    def goal_names(self) -> tuple[str, ...]:
        """The names that `goal_at` accepts."""
        return tuple(self.named_goals)

    @property
    def has_goals(self) -> bool:
        """Whether there are goals, which `goals` draws, `goal_at` looks up and `success` judges."""
        return bool(self.success_radii or self.named_goals)

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Obs, Array]:
        """Draws goals: observations [n, ...] as the agent would see them, places [n, C] float64.

        Raises:
            NotImplementedError: If these worlds define no goals.
        """
        raise self._no_goals()

    def goal_at(self, goal: str | ArrayLike) -> tuple[Obs, Array]:
        """The goal that is asked for; the same at every call.

        Args:
            goal: One of `goal_names`, a place [C], or places [n, C].

        Returns:
            The observation of a world that stands still at the goal, and the place [C] float64; [n, ...] and [n, C]
            for n places.

        Raises:
            WorldError: If the name or the place is not accepted.
            NotImplementedError: If these worlds define no goals.
        """
        if not self.has_goals:
            raise self._no_goals()
        place = self._place(goal)
        obs = self._goal_obs(np.atleast_2d(place))
        return (row(obs, 0) if place.ndim == 1 else obs), place

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """What the episodes of all skills together achieved.

        Args:
            coord: [n, T + 1, C], before the first step and after every step; ignored behind an episode's end.
            length: Steps of each episode [n], 1 to T.

        Returns:
            Numbers by name. By default `coverage`, how many cells of side `coverage_cell` were visited; nothing
            where there are no coordinates.
        """
        if not self.coord_dim:
            return {}
        return {"coverage": float(coverage(coord, length, self.coverage_cell))}

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """How far each of n episodes got with its goal.

        Args:
            coord: As in `measure`.
            length: As in `measure`.
            place: The goal of each episode [n, C], as `goals` and `goal_at` return it.

        Returns:
            Numbers or booleans [n] by name, of which the mean over episodes is reported; NaN leaves an episode out
            of it, such as one that had another goal than the name says. By default what `reached` finds
            for `success_radii`.
        """
        return reached(coord, length, place, self.success_radii)

    def _goal_obs(self, place: Array) -> Obs:
        """Observations [n, ...] of worlds that stand still at goals [n, C]; not drawn at random."""
        raise self._no_goals()

    def _no_goals(self) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} defines no goals; evaluate it by its reward")

    def _place(self, goal: str | ArrayLike) -> Array:
        shapes = f"a place of shape ({self.coord_dim},), or several of shape (n, {self.coord_dim})"
        if isinstance(goal, str):
            if goal not in self.named_goals:
                accepted = ", ".join((*map(repr, self.goal_names), shapes))
                raise WorldError(f"goal {goal!r} is unknown; accepted: {accepted}")
            return np.array(self.named_goals[goal], np.float64)
        try:
            place = np.array(goal, np.float64)
        except (TypeError, ValueError) as error:
            raise WorldError(f"goal is {goal!r}; accepted: {shapes}") from error
        if place.ndim not in (1, 2) or place.shape[-1] != self.coord_dim:
            raise WorldError(f"goal has shape {place.shape}; accepted: {shapes}")
        if not np.isfinite(place).all():
            raise WorldError(f"goal is {goal!r}; accepted: finite numbers")
        return place


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
