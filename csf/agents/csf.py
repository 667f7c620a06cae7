"""CSF (Zheng et al. 2024, "Can a MISL Fly?", arXiv 2412.08021): contrastive successor features.

phi is trained so that d = phi(s') - phi(s) identifies its own skill among `num_negatives` others. The same difference
is the cumulant of the successor features that the policy maximizes. With `agent/backbone=sac`, this is METRA with the
contrastive loss (METRA-C in the paper).

Healthy: for the first half hour on Ant, loss/representation stays at xi log num_negatives (27.73) and coverage at a few
cells. Once skills emerge, phi/alignment becomes positive and phi/step grows.

phi first grows along a single direction, because the policy learns last what is rewarded least. With `whiten`, the
reward is W d.z, where W gives all directions of d the same mean square: see `csf.nets.whitening`. The paper has no W.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from csf.agents.base import Objective, ObjectiveConfig, objectives, step_metrics
from csf.config.ranges import Before, Count, NotNegative
from csf.mi.bounds import contrast
from csf.nets.encoder import make_encoder
from csf.nets.transition import TRANSITIONS
from csf.nets.whitening import make_whitening
from csf.types import Batch, Metrics, Obs


@dataclass(frozen=True)
class CSFConfig(ObjectiveConfig):
    """Contrastive successor features."""

    features: Literal["difference", "pair"]  # phi(s') - phi(s), or one network f(s, s')
    negatives: Literal["fresh", "batch"]  # drawn at every update, or the skills of the batch, the own one included
    num_negatives: Count  # number of fresh negatives, shared by the batch
    negative_weight: NotNegative  # xi, weight of the log-sum-exp over the negatives
    reward_contrast: bool  # reward with the whole bound, d.z - xi log-sum-exp, not only d.z; not for successor
    whiten: Annotated[bool, Before(False)]  # reward W d.z, where W makes all directions of d equally large; ours


@objectives("csf")
class CSF(Objective):
    """Maximizes d.z - xi log sum_j exp(d.z_j) over phi."""

    Config = CSFConfig

    def build(self) -> Iterable[nn.Parameter]:
        """Create phi.

        Raises:
            ConfigError: `whiten` and `reward_contrast` are both set.
        """
        self.phi = TRANSITIONS[self.cfg.features](make_encoder(self.spec), self.cfg.hidden, self.cfg.skill_dim)
        self.whitening = make_whitening(self.cfg.whiten, self.linear(), self.cfg.skill_dim)
        return self.phi.parameters()

    def body(self) -> nn.Module | None:
        """The network phi, unless it is one of pairs of observations."""
        return self.phi if self.cfg.features == "difference" else None

    def cumulant(self, batch: Batch) -> Tensor:
        """The features d of the step, whitened if `whiten` is set, [B, Z]."""
        return self.whitening(self.phi.step(batch.obs, batch.next_obs))

    def bound(self, step: Tensor, skill: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d.z - xi log sum_j exp(d.z_j) for steps [B, Z] and skills [B, Z]; also d.z and the log-sum-exp, all [B]."""
        others = skill if self.cfg.negatives == "batch" else self.sample_skills(self.cfg.num_negatives)
        positive = (step * skill).sum(-1)
        bound, negative = contrast(positive, step @ others.T, self.cfg.negative_weight)
        return bound, positive, negative

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Contrastive loss [] and metrics."""
        step = self.phi.step(batch.obs, batch.next_obs)
        self.whitening.follow(step)
        bound, positive, negative = self.bound(step, batch.skill)
        parts = {"phi/positive": positive.detach().mean(), "phi/negative": negative.detach().mean()}
        return -bound.mean(), {**parts, **step_metrics(step, batch.skill)}

    def reward(self, batch: Batch) -> Tensor:
        """d.z, [B], minus the weighted log-sum-exp if `reward_contrast` is set."""
        if not self.cfg.reward_contrast:
            return super().reward(batch)
        return self.bound(self.phi.step(batch.obs, batch.next_obs), batch.skill)[0]

    def linear(self) -> bool:
        """Whether the reward is d.z."""
        return not self.cfg.reward_contrast

    def pointwise(self) -> bool:
        """Whether the reward is not computed with the skills of the batch."""
        return not self.cfg.reward_contrast or self.cfg.negatives == "fresh"

    def represent(self, obs: Obs) -> Tensor | None:
        """phi, [N, *O] -> [N, Z]."""
        return self.phi.state(obs)

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor:
        """The direction of the step from obs to goal, [N, Z]."""
        return F.normalize(self.whitening(self.phi.step(obs, goal)), dim=-1)
