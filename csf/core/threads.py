"""How the cores are shared between PyTorch's threads and those of the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
