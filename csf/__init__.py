"""Mutual-information skill learning in PyTorch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csf.io.load import load as load

# PyTorch's threads sleep instead of spinning while they wait, since they share the cores with the simulator's threads
# and with other processes. To compare: OMP_WAIT_POLICY=ACTIVE python tests/benchmark/training.py next to a busy
# process. OpenMP reads this variable once, when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> object:
    """Import `csf.load` on first use, so that `import csf` is fast."""
    if name == "load":
        from csf.io.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
