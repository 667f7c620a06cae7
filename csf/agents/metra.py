"""METRA (Park et al. 2024, arXiv 2310.08887): skills that travel far under a temporal-distance constraint.

phi maximizes the step d = phi(s') - phi(s) along the skill subject to ||d||^2 <= 1, enforced by a dual variable.
One-hot skills are centered, so that they point in opposing directions.

`constraint=sum` bounds ||d||^2, the sum over the Z dimensions, as the CSF paper's program does. `constraint=mean`
bounds ||d||^2 / Z, the mean over the dimensions, as METRA's own release does. Only slack and penalty differ; the
optimal multiplier and step length are then sqrt(Z) times as large.

Healthy: phi/step, E||d||^2 under either constraint, approaches 1 (sum) or Z (mean); phi/multiplier falls from 30 while
the constraint is slack, then rises and settles; phi/alignment rises from 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives, step_metrics
from csf.config.ranges import Before, NotNegative, Positive
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.nets.encoder import make_encoder
from csf.nets.transition import TRANSITIONS
from csf.types import Batch, Metrics, Obs


@dataclass(frozen=True)
class METRAConfig(ObjectiveConfig):
    """Metric-aware abstraction."""

    prior: Literal["sphere", "one_hot"]  # unit vectors, or K = Z one-hot skills
    features: Literal["difference", "pair"]  # phi(s') - phi(s), or one network f(s, s')
    constraint: Annotated[Literal["sum", "mean"], Before("sum")]  # over dimensions of squared d; METRA's release: mean
    init_multiplier: Positive  # lambda at the start
    multiplier_lr: NotNegative  # of log lambda; 0 keeps lambda fixed
    slack: NotNegative  # epsilon, upper limit of the constraint term
    reward_penalty: bool  # reward with the penalty, d.z + lambda c, instead of d.z; not for successor


@objectives("metra")
class METRA(Objective):
    """Maximizes d.z + lambda min(1 - ||d||^2, epsilon) over phi and minimizes it over lambda."""

    Config = METRAConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Create phi and the dual variable.

        Raises:
            ConfigError: there is only one one-hot skill, which centering would turn into zero.
        """
        self.prior = self.cfg.prior
        if self.prior == "one_hot" and self.cfg.skill_dim < 2:
            dim = self.cfg.skill_dim
            raise ConfigError(f"agent.skill_dim is {dim}; accepted with agent.prior=one_hot: an integer of at least 2")
        self.phi = TRANSITIONS[self.cfg.features](make_encoder(self.spec), self.cfg.hidden, self.cfg.skill_dim)
        self.log_multiplier = nn.Parameter(torch.tensor(self.cfg.init_multiplier).log())
        self.minimizers["multiplier"] = Minimizer([self.log_multiplier], self.cfg.multiplier_lr)
        return self.phi.parameters()

    def body(self) -> nn.Module | None:
        """The network phi, unless it is one of pairs of observations."""
        return self.phi if self.cfg.features == "difference" else None

    def cumulant(self, batch: Batch) -> Tensor:
        """The features d of the step [B, Z]; for one-hot skills, centered to give d.(z - 1/K) K/(K-1) as reward."""
        return self._centered(self.phi.step(batch.obs, batch.next_obs))

    def _centered(self, step: Tensor) -> Tensor:
        if self.prior != "one_hot":
            return step
        count = self.cfg.skill_dim
        return (count * step - step.sum(-1, keepdim=True)) / (count - 1)

    def slack(self, step: Tensor) -> Tensor:
        """Slack of the constraint, at most epsilon: [B, Z] -> [B]."""
        squared = step.square()
        size = squared.mean(-1) if self.cfg.constraint == "mean" else squared.sum(-1)
        return (1 - size).clamp(max=self.cfg.slack)

    def multiplier(self) -> Tensor:
        """lambda, [], detached."""
        return self.log_multiplier.detach().exp()

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Lagrangian [] with fixed lambda, and metrics."""
        step = self.phi.step(batch.obs, batch.next_obs)
        reward = (self._centered(step) * batch.skill).sum(-1)
        slack = self.slack(step)
        loss = -(reward + self.multiplier() * slack).mean()
        constraint = {"phi/slack": slack.detach().mean(), "phi/multiplier": self.multiplier()}
        return loss, {**constraint, **step_metrics(step, batch.skill)}

    def reward(self, batch: Batch) -> Tensor:
        """d.z, [B], plus the penalty if `reward_penalty` is set."""
        step = self.phi.step(batch.obs, batch.next_obs)
        reward = (self._centered(step) * batch.skill).sum(-1)
        return reward + self.multiplier() * self.slack(step) if self.cfg.reward_penalty else reward

    def update(self, batch: Batch) -> Metrics:
        """Update phi, then lambda with the slack from before the update of phi."""
        metrics = super().update(batch)
        dual = self.minimizers["multiplier"].step(self.log_multiplier * metrics["phi/slack"])
        return {**metrics, "loss/multiplier": dual}

    def linear(self) -> bool:
        """Whether the reward is d.z."""
        return not self.cfg.reward_penalty

    def represent(self, obs: Obs) -> Tensor | None:
        """phi, [N, *O] -> [N, Z]."""
        return self.phi.state(obs)

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor:
        """The direction of the step from obs to goal, [N, Z], or the one-hot skill nearest to it."""
        step = self.phi.step(obs, goal)
        if self.prior == "one_hot":
            return F.one_hot(step.argmax(-1), self.cfg.skill_dim).float()
        return F.normalize(step, dim=-1)
