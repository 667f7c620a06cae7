"""Choice of the library that computes float32 matrix products on the CPU."""

from __future__ import annotations

from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL, which uses AVX512 on Intel's CPUs only."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and CPU_INFO.exists() and "GenuineIntel" not in CPU_INFO.read_text()


FASTER = onednn_is_faster()
