"""Off-policy learning: episodes go into a replay buffer, and updates take batches from it."""

from __future__ import annotations

import torch

from csf.agents import Agent
from csf.errors import ConfigError
from csf.learners.base import Budget, Learner, learners
from csf.learners.updates import run_updates
from csf.replay import ReplayBuffer
from csf.types import Episodes, Stateful


@learners("replay")
class ReplayLearner(Learner):
    """Stores episodes, then makes gradient steps on batches of all that is stored."""

    def __init__(self, agent: Agent, budget: Budget, device: torch.device | str) -> None:
        """Allocate the replay buffer on `device`.

        Raises:
            ConfigError: the replay buffer does not hold an epoch, or does not fit into memory.
        """
        super().__init__(agent, budget, device)
        size, steps = budget.replay_size, budget.episodes_per_epoch * agent.spec.max_steps
        if size < steps:
            raise ConfigError(f"task.replay_size is {size}, less than the {steps} transitions of an epoch")
        try:
            self.replay = ReplayBuffer(size, agent.spec, agent.objective.cfg.skill_dim, device)
        except RuntimeError as error:  # PyTorch cannot allocate it
            raise ConfigError(f"task.replay_size is {size}, which does not fit into memory") from error

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes and update the agent; no update before the buffer holds `min_replay_size` transitions."""
        self.replay.add(episodes)
        if len(self.replay) < self.budget.min_replay_size:
            return {}
        count = self.budget.updates_per_epoch
        metrics = run_updates(self.update, self.replay, count, self.budget.batch_size, self.make_steps)
        self.gradient_steps += count
        return metrics

    def parts(self) -> dict[str, Stateful]:
        """The learner and its replay buffer."""
        return {**super().parts(), "replay": self.replay}
