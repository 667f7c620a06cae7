"""Proximal policy optimization over [obs, skill], on the newest episodes only.

Source: Schulman et al. 2017 (arXiv 1707.06347), with the losses and constants of the CSF paper's released program: no
bootstrapping after the last step of an episode, and an entropy bonus of fixed weight, computed before the tanh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from csf.backbones.base import Backbone, BackboneConfig, backbones
from csf.config.ranges import Count, Fraction, NotNegative, Positive
from csf.core.optim import Minimizer
from csf.nets.encoder import make_encoder
from csf.nets.mlp import ObsMLP, linear
from csf.types import Batch, EnvSpec, Metrics, Rewarder, Rollout

EPS = 1e-8  # avoids division by zero if all advantages are equal


@dataclass(frozen=True)
class PPOConfig(BackboneConfig):
    """Proximal policy optimization."""

    hidden: tuple[Count, ...]  # layer widths of policy and value
    lr: NotNegative  # learning rate of policy and value
    discount: Fraction  # gamma
    gae_lambda: Fraction  # lambda of generalized advantage estimation: 0: one-step TD error, 1: return minus value
    clip: Positive  # epsilon: the ratio of new to old density is clipped to 1 +- epsilon
    entropy_weight: NotNegative  # weight of the entropy bonus


@backbones("ppo")
class PPO(Backbone):
    """A stochastic policy and a state-value function, trained on advantages and returns from the learner."""

    Config: ClassVar[type[BackboneConfig]] = PPOConfig
    cfg: PPOConfig
    discrete = None
    learner = "rollout"
    least_batch = 2  # advantages are normalized by their standard deviation

    def __init__(self, cfg: PPOConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        xavier_normal = partial(linear, init=nn.init.xavier_normal_)
        self.actor = self.make_actor(cfg.hidden)
        self.critic = ObsMLP(make_encoder(spec), [*cfg.hidden, 1], skill_dim, layer=xavier_normal)
        self.minimizers = {
            "actor": Minimizer(self.actor.parameters(), cfg.lr),
            "critic": Minimizer(self.critic.parameters(), cfg.lr),
        }

    def values(self, batch: Batch | Rollout) -> Tensor:
        """Values of the observations before the steps, [B]."""
        value: Tensor = self.critic(batch.obs, batch.skill)
        return value.squeeze(-1)

    def appraise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-densities of the actions, and values of the observations in which they were taken, both [B].

        Old and new densities are both computed from the action, so that their ratio is 1 before the first update. The
        released program computes the old ones from the action before the tanh, so the ratio of a saturated action
        differs from 1.
        """
        law = self.actor.distribution(batch.obs, batch.skill)
        return law.log_prob(batch.action), self.values(batch)

    def actor_loss(self, batch: Rollout) -> tuple[Tensor, Metrics]:
        """Clipped policy loss with entropy bonus, [], and metrics."""
        law = self.actor.distribution(batch.obs, batch.skill)
        change = law.log_prob(batch.action) - batch.log_prob
        ratio = change.exp()
        clipped = ratio.clamp(1 - self.cfg.clip, 1 + self.cfg.clip)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + EPS)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        entropy = law.entropy()
        loss = -(gain + self.cfg.entropy_weight * entropy).mean()
        return loss, {
            "policy/entropy": entropy.detach().mean(),
            "policy/divergence": -change.detach().mean(),  # an estimate of KL(old, new), in nats
            "policy/clipped": (ratio != clipped).float().mean(),
        }

    def critic_loss(self, batch: Rollout, objective: Rewarder) -> tuple[Tensor, Metrics]:
        """Mean squared error of the value to the return, [], and metrics; the objective is not used."""
        error = self.values(batch) - batch.return_to_go
        return error.square().mean(), {"critic/target": batch.return_to_go.mean()}

    def update(self, batch: Rollout, objective: Rewarder) -> Metrics:
        """Update the policy, then the value."""
        actor_loss, actor_metrics = self.actor_loss(batch)
        actor_loss = self.minimizers["actor"].step(actor_loss)
        critic_loss, critic_metrics = self.critic_loss(batch, objective)
        critic_loss = self.minimizers["critic"].step(critic_loss)
        return {**critic_metrics, "loss/actor": actor_loss, "loss/critic": critic_loss, **actor_metrics}
