"""Gradient steps and acting as CUDA graphs: the same work as without them, several steps in one replay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from csf.agents import Agent
from csf.core.compile import Captured, Recorder
from csf.learners.updates import Source, Steps, Update, make_steps
from csf.types import SomeObs, map_obs

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


class CapturedPolicy:
    """Acts by replaying a graph; each number of worlds and each mode has one of its own."""

    def __init__(self, agent: Agent, record: Recorder[Tensor] | None = None) -> None:
        self.agent, self.record = agent, record
        self._graphs: dict[tuple[Any, ...], tuple[SomeObs, Tensor, Captured[Tensor]]] = {}

    def __call__(self, obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A], as `Agent.act` of tensors."""
        key = (len(skill), mode, self.agent.training)
        if key not in self._graphs:
            self._graphs[key] = self._graph(obs, skill, mode)
        own_obs, own_skill, graph = self._graphs[key]
        map_obs(lambda to, of: to.copy_(of), own_obs, obs)
        own_skill.copy_(skill)
        return graph().clone()

    def _graph(self, obs: SomeObs, skill: Tensor, mode: bool) -> tuple[SomeObs, Tensor, Captured[Tensor]]:
        """Tensors for the inputs, and what acts on them."""
        device = self.agent.objective.device()
        own_obs: SomeObs = map_obs(lambda rows: rows.to(device, copy=True), obs)
        own_skill = skill.to(device, copy=True)
        return own_obs, own_skill, Captured(lambda: self.agent.act(own_obs, own_skill, mode), self.agent, self.record)
