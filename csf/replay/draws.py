"""Draws row indices of stored transitions, in a way that a CUDA graph can record."""

from __future__ import annotations

import torch
from torch import Tensor

WIDE = 2**62  # range of draws before the modulo; its bias is negligible for any buffer that fits into memory


def random_rows(size: int, count: Tensor, n: int) -> Tensor:
    """Sample row indices below `size` uniformly with replacement, [n] int64, on the device of `count` [].

    `count` holds `size` on the device, where a CUDA graph reads its current value; it is the bound except on the CPU.
    """
    return torch.randint(size, (n,)) if count.device.type == "cpu" else rows_below(count, n)


def rows_below(count: Tensor, n: int) -> Tensor:
    """Sample as `random_rows` does, with a bound [] that is read on the device."""
    return torch.randint(WIDE, (n,), device=count.device) % count
