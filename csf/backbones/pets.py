"""Planning with a learned model: every action is the first of a plan that maximizes the predicted reward.

Source: PETS, Chua et al. 2018 (arXiv 1805.12114): a probabilistic ensemble, trajectories that each follow one member
for the whole plan (TS-infinity), and the cross-entropy method. Unlike there, a plan does not start from the one of the
previous step, so that acting has no state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from csf.backbones.base import Backbone, BackboneConfig, backbones
from csf.config.ranges import Count, Fraction, NotNegative
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.nets.dynamics import Dynamics
from csf.types import Batch, EnvSpec, Metrics, Rewarder, SomeObs

INITIAL_STD = 0.5  # of the actions' distribution: a quarter of their range
WORST = -1e30  # score of a plan whose predicted reward is not a number


@dataclass(frozen=True)
class PETSConfig(BackboneConfig):
    """Probabilistic ensembles with trajectory sampling."""

    hidden: tuple[Count, ...]  # layer widths of each network
    lr: NotNegative  # learning rate of the ensemble
    members: Count  # number of networks in the ensemble, E
    particles: Count  # predicted trajectories per plan and member
    horizon: Count  # number of actions in a plan
    iterations: Count  # number of times that the distribution of plans is refitted
    candidates: Count  # number of plans per iteration
    elites: Count  # number of best plans to which the distribution is fitted
    momentum: Fraction  # weight of the previous distribution in the next one


@backbones("pets")
class PETS(Backbone):
    """An ensemble, which learns to predict observations, and a planner, which maximizes the objective's reward."""

    Config: ClassVar[type[BackboneConfig]] = PETSConfig
    cfg: PETSConfig
    accepts_images = False
    learner = "model"
    policy_parts = ("model",)
    needs_pointwise = True
    draws: Tensor

    def __init__(self, cfg: PETSConfig, spec: EnvSpec, skill_dim: int) -> None:
        """Create the ensemble.

        Raises:
            ConfigError: there are more elites than candidates.
        """
        super().__init__(cfg, spec, skill_dim)
        if cfg.elites > cfg.candidates:
            raise ConfigError(
                f"agent.backbone.elites is {cfg.elites}; accepted: at most agent.backbone.candidates ({cfg.candidates})"
            )
        self.model = Dynamics(cfg.members, spec.obs_dim, spec.action_dim, cfg.hidden)
        self.minimizers = {"model": Minimizer(self.model.parameters(), cfg.lr)}
        # The mode of the policy always compares the same candidates, so that it is a function of its inputs.
        shape = (cfg.iterations, 1, cfg.candidates, cfg.horizon, spec.action_dim)
        draws = torch.randn(shape, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("draws", draws.to(torch.get_default_device()), persistent=False)

    def act(self, obs: SomeObs, skill: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        """[N, O], [N, Z] -> first actions [N, A] of the best plans.

        With `mode`, candidates and predictions are not random; otherwise both are sampled.
        """
        cfg = self.cfg
        mean = obs.new_zeros(len(obs), cfg.horizon, self.spec.action_dim)
        std = torch.full_like(mean, INITIAL_STD)
        for draws in self.draws:
            noise = draws if mode else torch.randn_like(draws.expand(len(obs), -1, -1, -1))
            plans = (mean[:, None] + std[:, None] * noise).clamp(-1, 1)  # [N, candidates, horizon, A]
            best = self.score(obs, skill, plans, mode, objective).topk(cfg.elites).indices
            elites = plans.gather(1, best[..., None, None].expand(-1, -1, *plans.shape[2:]))
            mean = mean.lerp(elites.mean(1), 1 - cfg.momentum)
            std = std.lerp(elites.std(1, correction=0), 1 - cfg.momentum)
        return mean[:, 0]

    def score(self, obs: Tensor, skill: Tensor, plans: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        """Predicted sum of rewards [N, C] of plans [N, C, H, A], a mean over all trajectories."""
        lead = (self.cfg.members, self.cfg.particles, *plans.shape[:2])

        def spread(rows: Tensor) -> Tensor:
            """[N, 1 or C, X] -> [E, particles * N * C, X]."""
            return rows.expand(*lead, rows.shape[-1]).flatten(1, 3)

        now, skills = spread(obs[:, None]), spread(skill[:, None])
        total = plans.new_zeros(lead)
        for step in range(plans.shape[2]):
            action = spread(plans[:, :, step])
            following = self.model.predict(now, action, None if mode else torch.randn_like(now))
            total += objective.reward(_batch((now, action, following, skills))).view(lead)
            now = following
        return total.mean((0, 1)).nan_to_num(WORST, WORST, WORST)

    def model_loss(self, batch: Batch, rows: Tensor) -> tuple[Tensor, Metrics]:
        """Loss [] of the ensemble and metrics; member e learns from the transitions rows[e], [E, B]."""
        loss, error = self.model.loss(batch, rows)
        return loss, {"model/error": error}

    def update(self, batch: Batch, objective: Rewarder) -> Metrics:
        """Update the ensemble, each member on its own resample of the batch."""
        size = len(batch.reward)
        with torch.no_grad():
            reward = objective.reward(batch).mean()
            self.model.follow(batch)
        rows = torch.randint(size, (self.cfg.members, size), device=batch.reward.device)
        loss, metrics = self.model_loss(batch, rows)
        return {"reward/mean": reward, "loss/model": self.minimizers["model"].step(loss), **metrics}


def _batch(rows: Sequence[Tensor]) -> Batch:
    """Predicted transitions [E * M] from observations, actions, next observations and skills, each [E, M, ...]."""
    obs, action, following, skill = (each.flatten(0, 1) for each in rows)
    unknown = obs.new_zeros(len(obs))
    return Batch(obs, action, following, unknown, unknown, skill)
