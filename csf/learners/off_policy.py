"""From fresh episodes to gradient steps, through the replay buffer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from csf.agents import Agent
from csf.errors import NonFiniteError
from csf.replay import ReplayBuffer
from csf.types import Episodes


class OffPolicyLearner:
    """Stores episodes, then takes `updates` gradient steps on batches of `batch_size`."""

    def __init__(self, agent: Agent, replay: ReplayBuffer, updates: int, batch_size: int, min_size: int) -> None:
        """Learn nothing until the replay buffer holds `min_size` transitions."""
        self.agent, self.replay = agent, replay
        self.updates, self.batch_size, self.min_size = updates, batch_size, min_size
        self.gradient_steps = 0

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes and update the agent; the means of the updates' metrics, empty while data is too little.

        Raises:
            NonFiniteError: a metric of an update is not finite.
        """
        self.replay.add(episodes)
        if len(self.replay) < self.min_size:
            return {}
        rows: list[Tensor] = []
        indices: list[Tensor] = []
        names: list[str] = []
        for _ in range(self.updates):
            indices.append(self.replay.sample_index(self.batch_size))
            metrics = self.agent.update(self.replay.gather(indices[-1]))
            names = list(metrics)
            # Copied, since a captured update overwrites its metrics.
            rows.append(torch.stack([value.float() for value in metrics.values()]))
        self.gradient_steps += self.updates
        table = torch.stack(rows).tolist()  # the epoch's only read of a metric
        self._check(names, table, indices)
        means = (sum(column) / len(table) for column in zip(*table, strict=True))
        return dict(zip(names, means, strict=True))

    def _check(self, names: list[str], table: list[list[float]], indices: list[Tensor]) -> None:
        for update, row in enumerate(table):
            # Losses first: of several numbers that are not finite, a loss says most.
            for name, value in sorted(zip(names, row, strict=True), key=lambda pair: not pair[0].startswith("loss/")):
                if not math.isfinite(value):
                    history = {key: [r[i] for r in table[: update + 1]] for i, key in enumerate(names)}
                    batch = self.replay.gather(indices[update])._asdict()
                    message = f"{name} is {value} at update {update}"
                    raise NonFiniteError(message, {"batch": batch, "metrics": history})

    def full_state(self) -> dict[str, Any]:
        """The count of gradient steps; agent and replay are parts of their own."""
        return {"gradient_steps": self.gradient_steps}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned."""
        self.gradient_steps = state["gradient_steps"]
