"""Numbers that a setting accepts, written into its type: `discount: Fraction`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """An interval of numbers; `above` leaves its lower end out."""

    low: float
    high: float = float("inf")
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

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
