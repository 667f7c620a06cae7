"""What there is to be done in Kitchen: the goals, and when each is reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from envs.observations import Array


@dataclass(frozen=True)
class Chore:
    """Something to be done to one object of the kitchen.

    Attributes:
        joints: Entries of qpos that have other values when it is done.
        values: These values.
        judged: How many of the entries, counted from `first`, say whether it is done.
        first: The first of them.
        radius: It is done where their distance to the values is less, in radians or meters.
        border: In place of `radius`: it is done on the side of this value on which the goal is.
    """

    joints: tuple[int, ...]
    values: tuple[float, ...]
    first: int = 0
    judged: int = 1
    radius: float = 0.0
    border: float | None = None

    @property
    def columns(self) -> list[int]:
        """The coordinates that say whether it is done."""
        return [COLUMNS.index(joint) for joint in self.seen]

    @property
    def seen(self) -> tuple[int, ...]:
        """The entries of qpos that say whether it is done."""
        return self.joints[self.first : self.first + self.judged]

    @property
    def wanted(self) -> tuple[float, ...]:
        """The values of `seen` at the goal."""
        return self.values[self.first : self.first + self.judged]

    def done(self, coord: Array, wanted: ArrayLike) -> Array:
        """Whether it is done [...] in coordinates [..., C]; wanted are values [..., k] of those that count."""
        seen, values = coord[..., self.columns], np.asarray(wanted, np.float64)
        if self.border is not None:
            return np.asarray((seen < self.border) == (values < self.border))[..., 0]
        return np.asarray(np.linalg.norm(seen - values, axis=-1) < self.radius)


CHORES = {
    "bottom_burner": Chore((9, 10), (-0.88, -0.01), border=-0.38),
    "light_switch": Chore((17, 18), (-0.69, -0.05), border=-0.25),
    "slide_cabinet": Chore((19,), (0.37,), radius=0.1),
    "hinge_cabinet": Chore((20, 21), (0.0, 0.5), first=1, radius=0.2),
    "microwave": Chore((22,), (-0.5,), radius=0.2),
    "kettle": Chore((23, 24, 25), (-0.23, 0.75, 1.62), judged=2, radius=0.2),
}
COLUMNS = [joint for chore in CHORES.values() for joint in chore.seen]  # entries of qpos that are the coordinates


def rows() -> dict[str, tuple[float, ...]]:
    """The goals by name, as rows of coordinates with NaN for objects that do not matter."""
    found = {}
    for name, chore in CHORES.items():
        row = np.full(len(COLUMNS), np.nan)
        row[chore.columns] = chore.wanted
        found[name] = tuple(row.tolist())
    return found
