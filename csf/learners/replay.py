"""Off-policy learning: episodes are stored in a replay buffer, from which batches are sampled."""

from __future__ import annotations

import torch

from csf.agents import Agent
from csf.errors import ConfigError
from csf.learners.base import EpochBudget, Learner, learners
from csf.learners.updates import run_updates
from csf.replay import ReplayBuffer
from csf.types import Episodes, Stateful


def make_replay(agent: Agent, budget: EpochBudget, device: torch.device | str) -> ReplayBuffer:
    """Allocate a replay buffer for the agent's transitions on `device`.

    Raises:
        ConfigError: the replay buffer is smaller than an epoch, or does not fit into memory.
    """
    size, steps = budget.replay_size, budget.episodes_per_epoch * agent.spec.max_steps
    if size < steps:
        raise ConfigError(f"task.replay_size is {size}; accepted: at least the {steps} transitions of an epoch")
    try:
        return ReplayBuffer(size, agent.spec, agent.objective.cfg.skill_dim, device)
    except RuntimeError as error:  # PyTorch cannot allocate it
        raise ConfigError(f"task.replay_size is {size}, which does not fit into memory") from error


@learners("replay")
class ReplayLearner(Learner):
    """Stores episodes, then takes gradient steps on batches sampled from all stored transitions."""

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str) -> None:
        """Allocate the replay buffer on `device`.

        Raises:
            ConfigError: the replay buffer is smaller than an epoch, or does not fit into memory.
        """
        super().__init__(agent, budget, device)
        self.replay = make_replay(agent, budget, device)

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes, then update the agent as `improve` does."""
        self.store(episodes)
        return self.improve()

    def store(self, episodes: Episodes) -> None:
        """Add the episodes to the replay buffer."""
        self.replay.add(episodes)

    def improve(self) -> dict[str, float]:
        """Update the agent on stored transitions, once there are at least `min_replay_size`; returns metrics.

        Raises:
            NonFiniteError: a metric is not finite.
        """
        if len(self.replay) < self.budget.min_replay_size:
            return {}
        count = self.budget.updates_per_epoch
        metrics = run_updates(self.update, self.replay, count, self.budget.batch_size, self.make_steps)
        self.gradient_steps += count
        return metrics

    def parts(self) -> dict[str, Stateful]:
        """The learner and its replay buffer."""
        return {**super().parts(), "replay": self.replay}
