"""Places of transitions in their episodes, and states of earlier versions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from csf.types import map_obs


def places(length: Tensor, skipped: int) -> tuple[Tensor, Tensor]:
    """Lengths of E consecutive episodes -> for each row, whether it ends its episode, and how many steps precede it.

    Args:
        length: number of rows of each episode [E], all above 0.
        skipped: number of steps of the first episode before its first row.
    """
    ends = length.cumsum(0)
    last = torch.zeros(int(length.sum()), dtype=torch.bool)
    last[ends - 1] = True
    step = torch.arange(len(last)) - (ends - length).repeat_interleave(length)
    step[: int(length[0]) if len(length) else 0] += skipped
    return last, step


def segmented(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a state with rows in the order of the ring, as versions before format 2 saved it.

    They did not save how many steps of the oldest episode were overwritten, so images cannot be stacked.
    """
    capacity, size, cursor = state["capacity"], state["counters"]["size"], state["counters"]["cursor"]
    begin = cursor if size == capacity else 0
    order = (begin + torch.arange(size)) % capacity
    names = ("obs", "action", "reward", "terminal")
    segment = {
        "begin": begin,
        "skipped": 0,
        "length": state["live"].long(),
        "rows": {name: map_obs(lambda rows: rows[order], state["rows"][name]) for name in names},
        "final": state["final"],
        "skill": state["skill"],
    }
    return {"capacity": capacity, "total": begin + size, "segments": [segment] if size else []}
