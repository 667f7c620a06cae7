"""Goals of Kitchen and the conditions under which each is reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from envs.observations import Array


@dataclass(frozen=True)
class Chore:
    """Goal state of one object of the kitchen.

    Attributes:
        joints: Indices into qpos of the joints that the goal sets.
        values: Goal values of `joints`, in radians or meters.
        first: Position in `joints` of the first joint that the success condition uses.
        judged: Number of joints, starting at `first`, that the success condition uses.
        radius: The goal is reached if the distance of these joints to their goal values is less, in radians or meters.
        border: Threshold used instead of `radius`: the goal is reached if the joint is on the same side as its value.
    """

    joints: tuple[int, ...]
    values: tuple[float, ...]
    first: int = 0
    judged: int = 1
    radius: float = 0.0
    border: float | None = None

    @property
    def columns(self) -> list[int]:
        """Indices into the coordinates of the joints that the success condition uses."""
        return [COLUMNS.index(joint) for joint in self.seen]

    @property
    def seen(self) -> tuple[int, ...]:
        """Indices into qpos of the joints that the success condition uses."""
        return self.joints[self.first : self.first + self.judged]

    @property
    def wanted(self) -> tuple[float, ...]:
        """Goal values of `seen`."""
        return self.values[self.first : self.first + self.judged]

    def done(self, coord: Array, wanted: ArrayLike) -> Array:
        """Whether coordinates [..., C] reach the goal values `wanted` [..., k] of `columns`: bool [...]."""
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
COLUMNS = [joint for chore in CHORES.values() for joint in chore.seen]  # indices into qpos of the coordinates


def rows() -> dict[str, tuple[float, ...]]:
    """Return the goals by name as rows of coordinates [C], NaN for objects that the goal ignores."""
    found = {}
    for name, chore in CHORES.items():
        row = np.full(len(COLUMNS), np.nan)
        row[chore.columns] = chore.wanted
        found[name] = tuple(row.tolist())
    return found
