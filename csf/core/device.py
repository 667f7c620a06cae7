"""Where PyTorch computes, and with how many threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
    """Have PyTorch use so many threads; 0: as OMP_NUM_THREADS says or, if it is not set, one per usable core.

    PyTorch itself gives MKL_NUM_THREADS precedence, which joblib sets in its workers even if OMP_NUM_THREADS was set.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is for nested regions
    torch.set_num_threads(count or (int(chosen) if chosen.isdecimal() else 0) or usable_cores())


def usable_cores() -> int:
    """Cores that this process may use; all of them where the system cannot tell, as on macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one CPU thread inside.

    While worlds are stepped, the products of a policy call are small, and PyTorch's idle threads would spin on the
    cores that the simulator's threads need (see tests/benchmark). On another device nothing changes.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
