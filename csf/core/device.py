"""Choice of PyTorch's device and number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from csf.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device for a configured name: auto, cpu or cuda.

    Raises:
        ConfigError: CUDA is requested but not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but PyTorch finds no CUDA device; accepted on this machine: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def use_threads(count: int) -> None:
    """Set PyTorch's number of threads; 0: OMP_NUM_THREADS or, if it is not set, one per usable core.

    PyTorch itself gives MKL_NUM_THREADS precedence, which joblib sets in its workers even if OMP_NUM_THREADS was set.
    """
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is for nested regions
    torch.set_num_threads(count or (int(chosen) if chosen.isdecimal() else 0) or usable_cores())


def usable_cores() -> int:
    """Number of cores that this process may use; all cores if the system cannot report it, as on macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Context in which PyTorch uses one CPU thread.

    While worlds are stepped, the products of a policy call are small, and PyTorch's idle threads would spin on the
    cores that the simulator's threads need (see tests/benchmark). On other devices, nothing changes.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
