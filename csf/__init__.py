"""Mutual-information skill learning in PyTorch."""

import os

# PyTorch's threads must sleep, not spin, while they wait: they share the cores with the simulator's threads, and with
# whatever else runs (compare OMP_WAIT_POLICY=ACTIVE python tests/benchmark/training.py beside a busy process). OpenMP
# reads this once, when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
