"""Where PyTorch computes, and with how many threads."""

from __future__ import annotations

import os

import torch

from csf.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device by its configured name.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but PyTorch finds no CUDA device here; accepted here: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Have PyTorch use so many threads; 0: one per core."""
    torch.set_num_threads(count or len(os.sched_getaffinity(0)))
