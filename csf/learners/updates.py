"""The gradient steps of an epoch, on randomly sampled batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from csf.errors import NonFiniteError
from csf.types import Metrics


class Source(Protocol):
    """A store of transitions."""

    layout: int  # changes when `gather` no longer reads from the same memory

    def sample_index(self, batch_size: int) -> Tensor:
        """Sample row indices uniformly with replacement, [batch_size] int64."""
        ...

    def gather(self, index: Tensor) -> Any:
        """Transitions at row indices [B], as a named tuple of tensors [B, ...]."""
        ...


Update = Callable[[Any], Metrics]


class Steps(NamedTuple):
    """What gradient steps have found, on the device."""

    names: list[str]  # of M metrics
    table: Tensor  # [count, M] float32
    rows: Tensor  # [count, B] int64, the rows of each step's batch


MakeSteps = Callable[[Update, Source, int, int], Steps]


def make_steps(update: Update, source: Source, count: int, batch_size: int) -> Steps:
    """Make `count` >= 1 updates on batches of `batch_size`, one after another; nothing is read on the host."""
    rows: list[Tensor] = []
    indices: list[Tensor] = []
    names: list[str] = []
    for _ in range(count):
        indices.append(source.sample_index(batch_size))
        metrics = update(source.gather(indices[-1]))
        names = list(metrics)
        # Stacked into a copy, because a captured update overwrites its metrics.
        rows.append(torch.stack([value.float() for value in metrics.values()]))
    return Steps(names, torch.stack(rows), torch.stack(indices))


def run_updates(
    update: Update, source: Source, count: int, batch_size: int, steps: MakeSteps = make_steps
) -> dict[str, float]:
    """Make `count` >= 1 updates on batches of `batch_size` by `steps`; returns the means of their metrics.

    Metrics are read on the host once, after the last update.

    Raises:
        NonFiniteError: a metric is not finite.
    """
    found = steps(update, source, count, batch_size)
    table = found.table.tolist()
    _check(found, table, source)
    means = (sum(column) / len(table) for column in zip(*table, strict=True))
    return dict(zip(found.names, means, strict=True))


def _check(found: Steps, table: list[list[float]], source: Source) -> None:
    names = found.names
    for step, row in enumerate(table):
        # Losses first: if several metrics are not finite, the loss is the most informative one to report.
        for name, value in sorted(zip(names, row, strict=True), key=lambda pair: not pair[0].startswith("loss/")):
            if not math.isfinite(value):
                history = {key: [r[i] for r in table[: step + 1]] for i, key in enumerate(names)}
                batch = source.gather(found.rows[step])._asdict()
                raise NonFiniteError(f"{name} is {value} at update {step}", {"batch": batch, "metrics": history})
