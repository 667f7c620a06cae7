"""Soft actor-critic for one-hot actions; critics output one value per action, and expectations are exact sums.

Source: Christodoulou 2019 (arXiv 1910.07207), with the losses and constants of the CSF paper's released program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from csf.backbones.base import BackboneConfig, backbones
from csf.backbones.sac import SAC, SACConfig
from csf.nets.actor import CategoricalActor
from csf.types import Obs


@dataclass(frozen=True)
class DiscreteSACConfig(SACConfig):
    """Soft actor-critic for one-hot actions."""

    target_entropy: float  # as a fraction of log A, the largest entropy; with 1, as released, alpha never decreases


@backbones("discrete_sac")
class DiscreteSAC(SAC):
    """Critics map [obs, skill] to values [E, B, A]; updates are deterministic."""

    Config: ClassVar[type[BackboneConfig]] = DiscreteSACConfig
    discrete = True
    actor: CategoricalActor

    def joined_dim(self) -> int:
        """Length of a critic's input besides the observation: the skill."""
        return self.skill_dim

    def value_dim(self) -> int:
        """One value per action."""
        return self.spec.action_dim

    def wanted_entropy(self) -> float:
        """Target entropy of the temperature's loss, in nats."""
        return float(self.cfg.target_entropy * math.log(self.spec.action_dim))

    def values(self, net: nn.Module, obs: Obs, action: Tensor, skill: Tensor) -> Tensor:
        """Q of every head [E, B] for observations [B, *O], one-hot actions [B, A] and skills [B, Z]."""
        return (net(obs, skill) * action).sum(-1)

    def soft_value(self, net: nn.Module, obs: Obs, skill: Tensor) -> tuple[Tensor, Tensor]:
        """Soft value of the policy with the smaller head of each action, and its negative entropy, both [B].

        The negative entropy is the mean log-probability, in which the temperature's loss is linear.
        """
        law = self.actor.distribution(obs, skill)
        probs, log_probs = law.probs, law.log_probs
        soft = net(obs, skill).amin(0) - self.alpha() * log_probs
        return (probs * soft).sum(-1), -law.entropy()
