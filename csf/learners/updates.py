"""The gradient steps of an epoch, on randomly sampled batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from csf.errors import NonFiniteError
from csf.types import Metrics


class Source(Protocol):
    """A store of transitions."""

    def sample_index(self, batch_size: int) -> Tensor:
        """Sample row indices uniformly with replacement, [batch_size] int64."""
        ...

    def gather(self, index: Tensor) -> Any:
        """Transitions at row indices [B], as a named tuple of tensors [B, ...]."""
        ...


def run_updates(update: Callable[[Any], Metrics], source: Source, count: int, batch_size: int) -> dict[str, float]:
    """Run `count` >= 1 updates on batches of `batch_size`; returns the means of their metrics.

    Metrics are copied to the host once, after the last update.

    Raises:
        NonFiniteError: a metric is not finite.
    """
    rows: list[Tensor] = []
    indices: list[Tensor] = []
    names: list[str] = []
    for _ in range(count):
        indices.append(source.sample_index(batch_size))
        metrics = update(source.gather(indices[-1]))
        names = list(metrics)
        # Stacked into a copy, because a captured update overwrites its metrics.
        rows.append(torch.stack([value.float() for value in metrics.values()]))
    table = torch.stack(rows).tolist()
    _check(names, table, source, indices)
    means = (sum(column) / len(table) for column in zip(*table, strict=True))
    return dict(zip(names, means, strict=True))


def _check(names: list[str], table: list[list[float]], source: Source, indices: list[Tensor]) -> None:
    for step, row in enumerate(table):
        # Losses first: if several metrics are not finite, the loss is the most informative one to report.
        for name, value in sorted(zip(names, row, strict=True), key=lambda pair: not pair[0].startswith("loss/")):
            if not math.isfinite(value):
                history = {key: [r[i] for r in table[: step + 1]] for i, key in enumerate(names)}
                batch = source.gather(indices[step])._asdict()
                raise NonFiniteError(f"{name} is {value} at update {step}", {"batch": batch, "metrics": history})
