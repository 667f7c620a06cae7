"""The objective's rewards of many transitions, computed in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from csf.agents import Objective
from csf.types import Batch, map_obs


def rewards(objective: Objective, batch: Batch, length: int | None = None) -> Tensor:
    """Compute rewards [B] in chunks of `length` transitions; None: all at once.

    A reward may depend on the other transitions of its batch (the particle entropy of CIC does) and may take memory
    quadratic in their number. So rewards are computed as in off-policy learning: on batches of the size of an update's,
    each drawn from all episodes.
    """
    size = len(batch.reward)
    found = torch.zeros_like(batch.reward)
    for rows, fresh in chunks(size, length or max(size, 1), objective.least_batch):
        index = rows.to(found.device)
        part = Batch(*(map_obs(lambda rows: rows[index], each) for each in batch))  # noqa: B023
        found[index[:fresh]] = objective.reward(part)[:fresh]
    return found


def chunks(size: int, length: int, least: int) -> Iterator[tuple[Tensor, int]]:
    """Split rows 0 to size - 1 into chunks; yields row indices [length] int64, and how many of them are new.

    Rows are shuffled in an order that depends only on `size`, so that a chunk resembles a batch drawn from all
    episodes. The last chunk is filled up with rows of the first one. If there are fewer than `length` rows, the only
    chunk contains each of them once, repeated if necessary to reach `least` rows.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    width = torch.arange(min(length, max(size, least)))
    for start in range(0, size, length):
        yield order[(start + width) % size], min(length, size - start)
