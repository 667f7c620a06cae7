"""What the type of a setting says besides its kind: the numbers that it accepts, and its value before it existed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Before:
    """What the program did before a setting existed, as a value of it: `Annotated[bool, Before(False)]`.

    Every setting that is added to a released program declares one, which may differ from the value in configs/. It
    stands in where a file of an earlier version lacks the setting, so that files of all versions stay readable.
    """

    value: Any


@dataclass(frozen=True)
class Range:
    """An interval of numbers; `above` leaves its lower end out."""

    low: float
    high: float = float("inf")
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return f"of exactly {self.low}"
        low = f"{'above' if self.above else 'of at least'} {self.low}"
        return low if self.high == float("inf") else f"{low} and at most {self.high}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # PyTorch takes more, but seeds of other things are sums with this one
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
