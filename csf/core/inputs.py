"""Conversion and checks of observations, goals, skills and counts that callers pass to an agent."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fits(value: Any, dtype: torch.dtype) -> bool:
    """Whether `value` is a tensor of `dtype`, so that no conversion is needed."""
    return isinstance(value, Tensor) and value.dtype is dtype


def rows(value: Any, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Convert a tensor or a NumPy array of numbers to a tensor [N, *shape] of `dtype` on `device`.

    Raises:
        TypeError: `value` is neither, or its dtype cannot be converted.
        ValueError: `value` has another shape.
    """
    accepted = (
        f"accepted: a tensor or a NumPy array of {str(dtype).removeprefix('torch.')} [N, {', '.join(map(str, shape))}]"
    )
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.as_tensor(np.ascontiguousarray(value))
    # Floats are not converted to uint8: pixels between 0 and 1 would become 0.
    if not isinstance(value, Tensor) or not torch.can_cast(value.dtype, dtype):
        kind = value.dtype if isinstance(value, np.ndarray | Tensor) else f"type {type(value).__name__}"
        raise TypeError(f"{name} is of {str(kind).removeprefix('torch.')}; {accepted}")
    if value.shape[1:] != shape or value.dim() != len(shape) + 1:
        raise ValueError(f"{name} has shape {list(value.shape)}; {accepted}")
    return value.to(device, dtype)


def whole(n: Any) -> int:
    """Check a number of rows and return it as an int.

    Raises:
        ValueError: `n` is not an integer of at least 0.
    """
    try:
        count = operator.index(n)
    except TypeError:
        count = -1
    if count < 0 or isinstance(n, bool):
        raise ValueError(f"n is {n!r}; accepted: an integer of at least 0")
    return count
