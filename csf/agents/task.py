"""Reinforcement learning on the environment's reward, without skills; also the controller of hierarchical control.

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
    """A method without settings of its own."""

    skill_dim: Annotated[int, Range(0, 0)]  # always 0


@objectives("task")
class Task(Objective):
    """Passes on the environment's reward and learns no representation."""

    Config = NoSkillsConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Create no modules."""
        return ()

    def reward(self, batch: Batch) -> Tensor:
        """The environment's reward, [B]."""
        return batch.reward

    def pointwise(self) -> bool:
        """Not so: the reward of a predicted transition is unknown."""
        return False
