"""Annotations of settings: accepted ranges, and values for files that predate a setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Before:
    """The value of a setting for files that were written before it existed: `Annotated[bool, Before(False)]`.

    Every setting that is added after a release declares one. It reproduces the earlier behavior, may differ from the
    value in configs/, and keeps files of earlier versions readable.
    """

    value: Any


@dataclass(frozen=True)
class Range:
    """An interval of numbers; with `above`, its lower end is excluded."""

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
Seed = Annotated[int, Range(0, 2**32 - 1)]  # PyTorch accepts more, but other seeds are sums with this one
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
