"""No skills, and the task's own reward: plain reinforcement learning, and the high level of hierarchical control.

Healthy: episode/return rises. On SAC, policy/entropy falls to its target (half a nat below 0 per action dimension) and
policy/alpha with it; on PPO, policy/divergence stays at a few hundredths of a nat.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives
from csf.config.ranges import Range
from csf.types import Batch


@dataclass(frozen=True)
class NoSkillsConfig(ObjectiveConfig):
    """Nothing to set."""

    skill_dim: Annotated[int, Range(0, 0)]  # none


@objectives("task")
class Task(Objective):
    """Rewards what the task rewards and learns no representation; a backbone does the rest."""

    Config = NoSkillsConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Make nothing."""
        return ()

    def reward(self, batch: Batch) -> Tensor:
        """The task's reward, [B]."""
        return batch.reward
