"""Mutual-information skill learning in PyTorch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csf.io.load import load as load

# PyTorch's threads must sleep, not spin, while they wait: they share the cores with the simulator's threads, and with
# whatever else runs (compare OMP_WAIT_POLICY=ACTIVE python tests/benchmark/training.py beside a busy process). OpenMP
# reads this once, when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> object:
    """`csf.load`, on first use: `import csf` alone stays quick."""
    if name == "load":
        from csf.io.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
