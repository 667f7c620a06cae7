"""What callers may hand over as observations, goals, skills and counts, made into what an agent computes with."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def fits(value: Any, dtype: torch.dtype) -> bool:
    """Whether nothing needs to be converted."""
    return isinstance(value, Tensor) and value.dtype is dtype


def rows(value: Any, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor [N, *shape] of `dtype` on `device` from a tensor or a NumPy array of numbers.

    Raises:
        TypeError: it is neither.
        ValueError: it has another shape.
    """
    accepted = (
        f"accepted: a tensor or a NumPy array of {str(dtype).removeprefix('torch.')} [N, {', '.join(map(str, shape))}]"
    )
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.as_tensor(np.ascontiguousarray(value))
    # Numbers between 0 and 1 must not become bytes.
    if not isinstance(value, Tensor) or not torch.can_cast(value.dtype, dtype):
        kind = value.dtype if isinstance(value, np.ndarray | Tensor) else f"type {type(value).__name__}"
        raise TypeError(f"{name} is of {str(kind).removeprefix('torch.')}; {accepted}")
    if value.shape[1:] != shape or value.dim() != len(shape) + 1:
        raise ValueError(f"{name} has shape {list(value.shape)}; {accepted}")
    return value.to(device, dtype)


def whole(n: Any) -> int:
    """A number of rows.

    Raises:
        ValueError: it is not an integer of at least 0.
    """
    try:
        count = operator.index(n)
    except TypeError:
        count = -1
    if count < 0 or isinstance(n, bool):
        raise ValueError(f"n is {n!r}; accepted: an integer of at least 0")
    return count
