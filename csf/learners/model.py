"""Off-policy learning of a planner: the first episodes are random, because a model must be trained before planning."""

from __future__ import annotations

import torch
from torch import Tensor

from csf.learners.base import learners
from csf.learners.replay import ReplayLearner
from csf.types import Episodes, Obs, Sampler


@learners("model")
class ModelLearner(ReplayLearner):
    """Learns as `replay` does; acts uniformly at random before the first update."""

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """Collect one episode per row of `skills` [n, Z], with the planner once there are `min_replay_size` steps."""
        if len(self.replay) >= self.budget.min_replay_size:
            return super().collect(sampler, skills)
        actions = self.agent.spec.action_dim

        def act(obs: Obs, skill: Tensor, mode: bool = False, /) -> Tensor:
            return 2 * torch.rand(len(skill), actions, device=skill.device) - 1

        return sampler.collect(act, skills)
