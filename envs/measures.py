"""Evaluation metrics of environments: state coverage and directions of skills, and success in reaching goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from envs.errors import WorldError
from envs.observations import Array, Obs, row

SECTORS = 16  # number of equal sectors of the plane in which end points are counted


class Measured:
    """Goals and metrics of an environment; a subclass overrides the methods that differ from the default.

    By default a goal is a position, and coordinates, radii and cells define the metrics. A goal may also be any row
    [C] that `success` can interpret, such as one in which NaN marks irrelevant entries. No method here depends on the
    state of the worlds or on their number.

    Attributes:
        coord_dim: C, the number of coordinates in `infos["coord"]`.
        success_radii: Distances at which a goal counts as reached, largest first, in units of `coord`; empty if goals
            are not positions.
        named_goals: Name -> row [C] of the goals that have a name.
        coverage_cell: Side of a cell of the coverage metric, in units of `coord`.
        direction_radius: Least distance from the start at which an end point counts for the metric `directions`, in
            units of `coord`; None: the metric is omitted.
    """

    coord_dim: ClassVar[int]
    success_radii: ClassVar[tuple[float, ...]]
    coverage_cell: ClassVar[float]
    direction_radius: ClassVar[float | None] = None
    named_goals: ClassVar[Mapping[str, Sequence[float]]] = {}

    @property
    def goal_names(self) -> tuple[str, ...]:
        """Names accepted by `goal_at`."""
        return tuple(self.named_goals)

    @property
    def has_goals(self) -> bool:
        """Whether the environment defines goals, so that `goals`, `goal_at` and `success` can be used."""
        return bool(self.success_radii or self.named_goals)

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Obs, Array]:
        """Draws n goals.

        Returns:
            Observations of the goals [n, ...], as an agent would receive them, and their positions [n, C] float64.

        Raises:
            NotImplementedError: If the environment defines no goals.
        """
        raise self._no_goals()

    def goal_at(self, goal: str | ArrayLike) -> tuple[Obs, Array]:
        """Returns a goal given by name or position; deterministic.

        Args:
            goal: One of `goal_names`, a position [C], or positions [n, C].

        Returns:
            The observation of a world at rest at the goal, and the position [C] float64; [n, ...] and [n, C] for n
            positions.

        Raises:
            WorldError: If the name or the position is not accepted.
            NotImplementedError: If the environment defines no goals.
        """
        if not self.has_goals:
            raise self._no_goals()
        place = self._place(goal)
        obs = self._goal_obs(np.atleast_2d(place))
        return (row(obs, 0) if place.ndim == 1 else obs), place

    def measure(self, coord: Array, length: Array) -> dict[str, float]:
        """Computes metrics over the episodes of all skills together.

        Args:
            coord: [n, T + 1, C], before the first step and after every step; ignored after an episode's end.
            length: Number of steps of each episode [n], 1 to T.

        Returns:
            Metrics by name. By default `coverage`, the number of cells of side `coverage_cell` that were visited, and
            `directions` if `direction_radius` is set (see `directions`); empty if there are no coordinates.
        """
        if not self.coord_dim:
            return {}
        found = {"coverage": float(coverage(coord, length, self.coverage_cell))}
        if self.direction_radius is not None:
            found["directions"] = float(directions(coord, length, self.direction_radius))
        return found

    def success(self, coord: Array, length: Array, place: Array) -> dict[str, Array]:
        """Computes how well each of n episodes reached its goal.

        Args:
            coord: As in `measure`.
            length: As in `measure`.
            place: The goal of each episode [n, C], as returned by `goals` and `goal_at`.

        Returns:
            Metrics [n] of numbers or booleans by name; their mean over episodes is reported. Episodes with NaN are
            excluded from the mean, such as those with a different goal if the metric concerns one goal only. By
            default the metrics of `reached` for `success_radii`.
        """
        return reached(coord, length, place, self.success_radii)

    def _named_masks(self, place: Array) -> dict[str, Array]:
        """Returns, for each named goal, which of the goals [n, C] equal it, [n] bool."""
        return {
            name: np.asarray(np.isclose(place, row, equal_nan=True).all(1)) for name, row in self.named_goals.items()
        }

    def _goal_obs(self, place: Array) -> Obs:
        """Returns observations [n, ...] of worlds at rest at goals [n, C]; deterministic."""
        raise self._no_goals()

    def _no_goals(self) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} defines no goals; evaluate its reward instead")

    def _place(self, goal: str | ArrayLike) -> Array:
        shapes = f"a position of shape ({self.coord_dim},), or several of shape (n, {self.coord_dim})"
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
    """Counts the distinct cells of side `cell` visited by any episode at any step (METRA, arXiv 2310.08887).

    Args:
        coord: [n, T + 1, C], before the first step and after every step; ignored after an episode's end.
        length: Number of steps of each episode [n], 1 to T.
        cell: Side of a cell in units of `coord`.
    """
    visited = coord[np.arange(coord.shape[1]) <= length[:, None]]
    return len(np.unique(np.floor(visited / cell) + 0.0, axis=0))  # + 0.0 turns -0.0 into 0.0


def directions(coord: Array, length: Array, radius: float) -> int:
    """Counts the directions in which episodes end at least `radius` from their start.

    With one coordinate there are two directions, the sides of the start. Otherwise there are `SECTORS` equal sectors of
    the plane of the first two coordinates.

    Args:
        coord: As in `coverage`.
        length: As in `coverage`.
        radius: Least distance between start and end, in units of `coord`.
    """
    change = (coord[np.arange(len(coord)), length] - coord[:, 0])[:, :2]
    far = change[np.linalg.norm(change, axis=1) >= radius]
    if far.shape[1] == 1:
        return len(np.unique(np.sign(far)))
    turns = np.arctan2(far[:, 1], far[:, 0]) / (2 * np.pi)
    return len(np.unique(np.floor(turns * SECTORS) % SECTORS))


def reached(coord: Array, length: Array, place: Array, radii: tuple[float, ...]) -> dict[str, Array]:
    """Computes success metrics from the distance to the goal after each step.

    Args:
        coord: As in `coverage`.
        length: As in `coverage`.
        place: The goal of each episode [n, C].
        radii: Distances at which a goal counts as reached, in units of `coord`.

    Returns:
        Arrays [n]: `distance`, the final distance in units of `coord`; for every radius r `hit_r`, whether any step
        was within r; `end_r`, whether the last step was; `staying_r`, the fraction of steps that were.
    """
    distance = np.linalg.norm(coord[:, 1:] - place[:, None], axis=-1)
    real = real_steps(coord, length)
    final = distance[np.arange(len(distance)), length - 1]
    found = {"distance": final}
    for radius in radii:
        within = (distance <= radius) & real
        found[f"hit_{radius:g}"] = within.any(1)
        found[f"end_{radius:g}"] = final <= radius
        found[f"staying_{radius:g}"] = within.sum(1) / length
    return found


def judged(done: Array, length: Array, named: dict[str, Array]) -> dict[str, Array]:
    """What episodes achieved of goals that are reached or not.

    Args:
        done: Whether the goal was reached after each step [n, T]; False behind an episode's end.
        length: Steps of each episode [n].
        named: Of every goal that has a name, which episodes [n] have it.

    Returns:
        Arrays [n]: `hit`, `end`, `staying`, and `hit_NAME`, `staying_NAME` with NaN for episodes with another goal.
    """
    hit, staying = done.any(1), done.sum(1) / length
    found = {"hit": hit, "end": done[np.arange(len(done)), length - 1], "staying": staying}
    for name, those in named.items():
        found[f"hit_{name}"] = np.where(those, hit, np.nan)
        found[f"staying_{name}"] = np.where(those, staying, np.nan)
    return found


def real_steps(coord: Array, length: Array) -> Array:
    """Which steps [n, T] are not behind their episode's end; coordinates [n, T + 1, C], lengths [n]."""
    return np.arange(coord.shape[1] - 1) < length[:, None]
