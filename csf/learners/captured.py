"""Gradient steps as CUDA graphs: the same work as without them, several steps in one replay."""

from __future__ import annotations

from typing import Any

import torch

from csf.agents import Agent
from csf.core.compile import Captured, Recorder
from csf.learners.updates import Source, Steps, Update, make_steps

LONGEST = 16  # gradient steps in a graph; more gain nothing and take longer to record


def per_replay(count: int) -> int:
    """How many of `count` gradient steps a graph holds: the largest divisor up to `LONGEST`."""
    return max(size for size in range(1, LONGEST + 1) if count % size == 0)


class CapturedSteps:
    """Makes gradient steps by replaying a graph of several: index sampling, gathering, updates, metrics.

    The graph is recorded at the first call, and again where the source or the agent has replaced its tensors.
    """

    def __init__(self, agent: Agent, record: Recorder[Steps] | None = None) -> None:
        self.agent, self.record = agent, record
        self._key: tuple[Any, ...] = ()
        self._graph: Captured[Steps] | None = None

    def __call__(self, update: Update, source: Source, count: int, batch_size: int) -> Steps:
        """As `make_steps`."""
        size = per_replay(count)
        graph = self._recorded(update, source, size, batch_size)
        tables, indices = [], []
        for _ in range(count // size):
            names, table, index = graph()
            tables.append(table.clone())  # copied, since the next replay overwrites them
            indices.append(index.clone())
        return Steps(names, torch.cat(tables), torch.cat(indices))

    def _recorded(self, update: Update, source: Source, size: int, batch_size: int) -> Captured[Steps]:
        key = (update, source, source.layout, size, batch_size)
        if self._graph is None or key != self._key or self._graph.stale():
            self._graph = None  # its memory first
            self._key = key
            self._graph = Captured(lambda: make_steps(update, source, size, batch_size), self.agent, self.record)
        return self._graph
