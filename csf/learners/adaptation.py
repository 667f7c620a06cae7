"""Off-policy learning of a task from a pretrained policy: a warm-up by another policy, then updates per step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from csf.agents import Agent
from csf.learners.base import EpochBudget
from csf.learners.replay import ReplayLearner
from csf.types import Episodes, Policy, Sampler


class AdaptationLearner(ReplayLearner):
    """Learns as `replay` does, but takes a number of gradient steps per environment step collected.

    Until the warm-up is over, episodes are collected without updates.

    Attributes:
        warm_up: the policy that collects in the warm-up; by default the agent's.
    """

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str, updates_per_step: float) -> None:
        """Allocate the replay buffer on `device`.

        Args:
            agent: the agent that learns.
            budget: limits; `min_replay_size` is the number of environment steps of the warm-up.
            device: device of the replay buffer.
            updates_per_step: gradient steps per environment step.

        Raises:
            ConfigError: the replay buffer is smaller than an epoch, or does not fit into memory.
        """
        super().__init__(agent, budget, device)
        self.updates_per_step, self.warm_up = updates_per_step, self.act

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """Collect one episode per row of `skills` [n, Z]."""
        policy: Policy = self.warm_up if self._warms_up() else self.act
        return sampler.collect(policy, skills)

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes, then update the agent in proportion to their steps, unless they are the warm-up's.

        Raises:
            NonFiniteError: a metric is not finite.
        """
        warmed = not self._warms_up()
        self.store(episodes)
        return self.improve(math.ceil(self.updates_per_step * int(episodes.length.sum()))) if warmed else {}

    def _warms_up(self) -> bool:
        return len(self.replay) < self.budget.min_replay_size
