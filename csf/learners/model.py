"""Off-policy learning of a planner: the first episodes are random, because a model must be trained before planning."""

from __future__ import annotations

from torch import Tensor

from csf.learners.base import learners
from csf.learners.replay import ReplayLearner
from csf.learners.uniform import uniform_policy
from csf.types import Episodes, Sampler


@learners("model")
class ModelLearner(ReplayLearner):
    """Learns as `replay` does; acts uniformly at random before the first update."""

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """Collect one episode per row of `skills` [n, Z], with the planner once there are `min_replay_size` steps."""
        if len(self.replay) >= self.budget.min_replay_size:
            return super().collect(sampler, skills)
        return sampler.collect(uniform_policy(self.agent.spec), skills)
