"""Choice of the library that computes float32 matrix products on the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")
LEAST = 2**20  # multiplications below which the overhead of a call to oneDNN exceeds the gain


def use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is faster than PyTorch's own product of [..., I] by [O, I]."""
    rows = x.numel() // max(x.shape[-1], 1)
    large = rows * weight.shape[-1] * weight.shape[-2] >= LEAST
    return large and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL, which uses AVX512 on Intel's CPUs only."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and CPU_INFO.exists() and "GenuineIntel" not in CPU_INFO.read_text()
