"""Copies batches from host memory to a device while the host prepares the next ones."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from csf.types import Batch, map_obs

AHEAD = 2  # batches that may wait for the device; more would only take memory


class Upload:
    """Copies batches through page-locked memory, without waiting for the copies.

    PyTorch reuses page-locked memory only after the copies from it have ended.
    """

    def __init__(self, device: torch.device) -> None:
        """Copy to a CUDA device."""
        self.device = device
        self._pending: deque[torch.cuda.Event] = deque()

    def __call__(self, batch: Batch) -> Batch:
        """A batch in host memory -> the same batch on the device, in the order of its current stream."""
        while len(self._pending) >= AHEAD:
            self._pending.popleft().synchronize()
        copied = Batch(*(map_obs(self._copy, field) for field in batch))
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        self._pending.append(event)
        return copied

    def _copy(self, rows: Tensor) -> Tensor:
        return rows.pin_memory().to(self.device, non_blocking=True)
