"""Soft actor-critic over [obs, skill]; the reward comes from the objective at update time.

Source: Haarnoja et al. 2018 (arXiv 1812.05905), with the losses and constants of the CSF paper's released program:
the critic's loss has a factor 1/2 and the temperature's loss is linear in log alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from csf.backbones.base import Backbone, BackboneConfig, backbones
from csf.core.optim import Minimizer
from csf.nets.actor import GaussianActor
from csf.nets.mlp import EnsembleMLP
from csf.types import Batch, EnvSpec, Metrics, Rewarder

HEADS = 2


@dataclass(frozen=True)
class SACConfig(BackboneConfig):
    """Soft actor-critic."""

    hidden: tuple[int, ...]  # widths of policy and critics
    lr: float  # of policy and critics
    alpha_lr: float  # of log alpha; 0 keeps alpha fixed
    init_alpha: float  # entropy temperature at the start
    target_entropy: float  # nats per action dimension
    discount: float  # gamma
    tau: float  # target <- target + tau (online - target), once per update
    use_terminal: bool  # no value beyond a terminal; false while pretraining, as in the paper


@backbones("sac")
class SAC(Backbone):
    """Two critics with target copies, a tanh-Gaussian policy and a learned temperature."""

    Config: ClassVar[type[BackboneConfig]] = SACConfig
    cfg: SACConfig

    def __init__(self, cfg: SACConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        width = spec.obs_dim + skill_dim
        sizes = [width + spec.action_dim, *cfg.hidden, self.value_dim()]
        self.actor = GaussianActor([width, *cfg.hidden, spec.action_dim])
        self.critic = EnsembleMLP(HEADS, sizes)
        self.target = EnsembleMLP(HEADS, sizes).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_alpha = nn.Parameter(torch.tensor(cfg.init_alpha).log())
        self.entropy_goal = cfg.target_entropy * spec.action_dim  # nats
        self.minimizers = {
            "critic": Minimizer(self.critic.parameters(), cfg.lr),
            "actor": Minimizer(self.actor.parameters(), cfg.lr),
            "alpha": Minimizer([self.log_alpha], cfg.alpha_lr),
        }

    def value_dim(self) -> int:
        """Numbers that a critic head predicts per state and action."""
        return 1

    def act(self, obs: Tensor, skill: Tensor, mode: bool) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]; `mode` takes tanh of the mean."""
        law = self.actor.distribution(torch.cat([obs, skill], -1))
        return law.mode if mode else law.sample()[0]

    def values(self, net: nn.Module, x: Tensor, action: Tensor, skill: Tensor) -> Tensor:
        """Q of every head [E, B] for policy inputs x = [obs, skill] [B, O + Z] and actions [B, A]."""
        q: Tensor = net(torch.cat([x, action], -1))
        return q.squeeze(-1)

    def proceed(self, batch: Batch) -> Tensor:
        """Discount [B] of the value after the step."""
        alive = 1 - batch.terminal if self.cfg.use_terminal else torch.ones_like(batch.terminal)
        return self.cfg.discount * alive

    def critic_loss(self, batch: Batch, objective: Rewarder) -> Tensor:
        """Half the mean squared TD error, summed over heads, []."""
        with torch.no_grad():
            nx = torch.cat([batch.next_obs, batch.skill], -1)
            action, log_prob = self.actor(nx)
            value = self.values(self.target, nx, action, batch.skill).amin(0) - self.alpha() * log_prob
            target = objective.reward(batch) + self.proceed(batch) * value
        x = torch.cat([batch.obs, batch.skill], -1)
        error = self.values(self.critic, x, batch.action, batch.skill) - target
        return 0.5 * error.square().mean(1).sum()

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Policy loss [] and the log-densities [B] of the actions it sampled."""
        x = torch.cat([batch.obs, batch.skill], -1)
        action, log_prob = self.actor(x)
        value = self.values(self.critic, x, action, batch.skill).amin(0)
        return (self.alpha() * log_prob - value).mean(), log_prob.detach()

    def alpha(self) -> Tensor:
        """Entropy temperature, [], detached."""
        return self.log_alpha.detach().exp()

    def update(self, batch: Batch, objective: Rewarder) -> Metrics:
        """Critics, their targets, policy, temperature; all but the last see alpha as it was before the update."""
        alpha = self.alpha()
        critic_loss = self.minimizers["critic"].step(self.critic_loss(batch, objective))
        # Only the next critic loss reads the targets, so their place before or after the policy's step is free.
        online = [param.detach() for param in self.critic.parameters()]
        torch._foreach_lerp_(list(self.target.parameters()), online, self.cfg.tau)
        actor_loss, log_prob = self.actor_loss(batch)
        actor_loss = self.minimizers["actor"].step(actor_loss)
        alpha_loss = self.minimizers["alpha"].step(-(self.log_alpha * (log_prob + self.entropy_goal)).mean())
        return {
            "loss/critic": critic_loss,
            "loss/actor": actor_loss,
            "loss/alpha": alpha_loss,
            "policy/alpha": alpha,
            "policy/entropy": -log_prob.mean(),
        }
