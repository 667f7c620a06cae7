"""Soft actor-critic over [obs, skill]; the objective computes rewards at update time.

Source: Haarnoja et al. 2018 (arXiv 1812.05905), with the losses and constants of the CSF paper's released program:
the critic's loss has a factor 1/2 and the temperature's loss is linear in log alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from csf.backbones.base import Backbone, BackboneConfig, backbones
from csf.config.ranges import Count, Fraction, NotNegative, Positive
from csf.core.optim import Minimizer, frozen
from csf.core.precision import refresh
from csf.nets.encoder import make_encoder
from csf.nets.mlp import EnsembleMLP
from csf.types import Batch, EnvSpec, Metrics, Obs, Rewarder

HEADS = 2


@dataclass(frozen=True)
class SACConfig(BackboneConfig):
    """Soft actor-critic."""

    hidden: tuple[Count, ...]  # layer widths of policy and critics
    lr: NotNegative  # learning rate of policy and critics
    alpha_lr: NotNegative  # learning rate of log alpha; 0 keeps alpha fixed
    init_alpha: Positive  # initial entropy temperature
    target_entropy: float  # nats per action dimension
    discount: Fraction  # gamma
    tau: Fraction  # target <- target + tau (online - target), once per update
    use_terminal: bool  # no bootstrapping from terminal states; false in pretraining, as in the paper


@backbones("sac")
class SAC(Backbone):
    """Two critics with target networks, a stochastic policy and a learned temperature."""

    Config: ClassVar[type[BackboneConfig]] = SACConfig
    cfg: SACConfig

    def __init__(self, cfg: SACConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        self.actor = self.make_actor(cfg.hidden)
        self.critic = self.make_critic()
        self.target = self.make_critic().requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_alpha = nn.Parameter(torch.tensor(cfg.init_alpha).log())
        self.entropy_goal = self.wanted_entropy()
        self.minimizers = {
            "critic": Minimizer(self.critic.parameters(), cfg.lr),
            "actor": Minimizer(self.actor.parameters(), cfg.lr),
            "alpha": Minimizer([self.log_alpha], cfg.alpha_lr),
        }

    def make_critic(self) -> EnsembleMLP:
        """Create the critic heads, each with its own encoder."""
        encoder = make_encoder(self.spec, HEADS)
        sizes = [encoder.out_dim + self.joined_dim(), *self.cfg.hidden, self.value_dim()]
        return EnsembleMLP(HEADS, sizes, encoder=encoder)

    def joined_dim(self) -> int:
        """Length of a critic's input besides the observation: skill and action."""
        return self.skill_dim + self.spec.action_dim

    def value_dim(self) -> int:
        """Length of a critic head's output."""
        return 1

    def wanted_entropy(self) -> float:
        """Target entropy of the temperature's loss, in nats."""
        return float(self.cfg.target_entropy * self.spec.action_dim)

    def values(self, net: nn.Module, obs: Obs, action: Tensor, skill: Tensor) -> Tensor:
        """Q of every head [E, B] for observations [B, *O], actions [B, A] and skills [B, Z]."""
        q: Tensor = net(obs, skill, action)
        return q.squeeze(-1)

    def soft_value(self, net: nn.Module, obs: Obs, skill: Tensor) -> tuple[Tensor, Tensor]:
        """Soft value of the policy with the smaller head, and log-densities of its sampled actions, both [B]."""
        action, log_prob = self.actor(obs, skill)
        return self.values(net, obs, action, skill).amin(0) - self.alpha() * log_prob, log_prob

    def proceed(self, batch: Batch) -> Tensor:
        """Discount [B] of the next state's value."""
        alive = 1 - batch.terminal if self.cfg.use_terminal else torch.ones_like(batch.terminal)
        return self.cfg.discount * alive

    def critic_loss(self, batch: Batch, objective: Rewarder) -> tuple[Tensor, Metrics]:
        """Half the mean squared TD error, summed over heads, [], and metrics."""
        with torch.no_grad():
            reward = objective.reward(batch)
            value, _ = self.soft_value(self.target, batch.next_obs, batch.skill)
            target = reward + self.proceed(batch) * value
        error = self.values(self.critic, batch.obs, batch.action, batch.skill) - target
        return 0.5 * error.square().mean(1).sum(), {"reward/mean": reward.mean(), "critic/target": target.mean()}

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Policy loss [] and the log-densities [B] of the sampled actions."""
        value, log_prob = self.soft_value(self.critic, batch.obs, batch.skill)
        return -value.mean(), log_prob.detach()

    def alpha(self) -> Tensor:
        """Entropy temperature, [], detached."""
        return self.log_alpha.detach().exp()

    def update(self, batch: Batch, objective: Rewarder) -> Metrics:
        """Update critics, targets, policy and temperature; all losses use the alpha from before the update."""
        alpha = self.alpha()
        critic_loss, metrics = self.critic_loss(batch, objective)
        critic_loss = self.minimizers["critic"].step(critic_loss)
        # Targets are read only by the next critic loss, so they may be updated before or after the policy.
        online = [param.detach() for param in self.critic.parameters()]
        target: list[Tensor] = list(self.target.parameters())
        torch._foreach_lerp_(target, online, self.cfg.tau)
        refresh(target)
        with frozen(self.critic):
            actor_loss, log_prob = self.actor_loss(batch)
        actor_loss = self.minimizers["actor"].step(actor_loss)
        alpha_loss = self.minimizers["alpha"].step(-(self.log_alpha * (log_prob + self.entropy_goal)).mean())
        return {
            **metrics,
            "loss/critic": critic_loss,
            "loss/actor": actor_loss,
            "loss/alpha": alpha_loss,
            "policy/alpha": alpha,
            "policy/entropy": -log_prob.mean(),
        }
