"""What a skill-discovery method defines: which skills exist, what is learned from data, what is rewarded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.config.ranges import Count, NotNegative
from csf.core.optim import Minimizer
from csf.registry import Registry
from csf.types import Batch, EnvSpec, Metrics, Obs

Prior = Literal["sphere", "gaussian", "box", "one_hot"]

objectives: Registry[type[Objective]] = Registry("agent")


def step_metrics(step: Tensor, skill: Tensor) -> Metrics:
    """How long a step [B, Z] in the representation is, and how it is aligned with its skill [B, Z]."""
    step = step.detach()
    alignment = F.cosine_similarity(step, skill, dim=-1).mean()
    return {"phi/step": step.square().sum(-1).mean(), "phi/alignment": alignment}


@dataclass(frozen=True)
class ObjectiveConfig:
    """Fields that every method has. Values live in configs/agent/<name>.yaml, nowhere else."""

    name: str
    skill_dim: Count  # Z
    hidden: tuple[Count, ...]  # widths of the method's own networks
    lr: NotNegative  # of the method's own networks


class Objective(nn.Module):
    """A method without its policy optimizer.

    A method overrides `build`, `loss`, and `cumulant` or `reward`; `represent` and `goal_skill` where it has them.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    prior: Prior = "sphere"  # the law of the skills, which a controller, an export and a reader need to know
    least_batch: int = 1  # transitions that an update takes at least
    goal_from_here: ClassVar[bool] = True  # whether the skill to a goal depends on where the agent is
    anchor: Tensor

    def __init__(self, cfg: Any, spec: EnvSpec) -> None:
        super().__init__()
        self.cfg, self.spec = cfg, spec
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # is where the method is
        self.minimizers: dict[str, Minimizer] = {}
        if trained := list(self.build()):
            self.minimizers["representation"] = Minimizer(trained, cfg.lr)

    def build(self) -> Iterable[nn.Parameter]:
        """Make the method's modules; return the parameters that `loss` trains, none where nothing is learned."""
        raise NotImplementedError

    def cumulant(self, batch: Batch) -> Tensor:
        """Features [B, Z] whose inner product with the skill is the reward, if the method has them."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Representation loss [] and 0-d metrics; must trace as one graph."""
        raise NotImplementedError

    def reward(self, batch: Batch) -> Tensor:
        """Intrinsic reward [B]."""
        return (self.cumulant(batch) * batch.skill).sum(-1)

    def update(self, batch: Batch) -> Metrics:
        """One step on `loss`, if there is something to learn."""
        if "representation" not in self.minimizers:
            return {}
        loss, metrics = self.loss(batch)
        return {"loss/representation": self.minimizers["representation"].step(loss), **metrics}

    def sample_skills(self, n: int) -> Tensor:
        """Skills [n, Z] from the prior, on the method's device."""
        shape, device = (n, self.cfg.skill_dim), self.device()
        if self.prior == "one_hot":
            index = torch.randint(self.cfg.skill_dim, (n,), device=device)
            return F.one_hot(index, self.cfg.skill_dim).float()
        if self.prior == "box":
            return 2 * torch.rand(shape, device=device) - 1
        skills = torch.randn(shape, device=device)
        return F.normalize(skills, dim=-1) if self.prior == "sphere" else skills

    def evaluation_skills(self, n: int) -> Tensor:
        """Skills [n, Z] to judge a repertoire by: from the prior; one-hot ones in turn, n // K or one more of each."""
        if self.prior == "one_hot":
            index = torch.arange(n, device=self.device()) % self.cfg.skill_dim
            return F.one_hot(index.sort().values, self.cfg.skill_dim).float()
        return self.sample_skills(n)

    def linear(self) -> bool:
        """Whether the reward is the inner product of the cumulant and the skill."""
        return type(self).cumulant is not Objective.cumulant

    def represent(self, obs: Obs) -> Tensor | None:
        """The learned representation of observations [N, *O] as [N, Z], if the method has one."""
        return None

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor | None:
        """The skill [N, Z] that leads from obs [N, *O] to goal [N, *O]; None where the method has no such rule."""
        return None

    def reaches_goals(self) -> bool:
        """Whether the method has a rule to reach a goal."""
        return type(self).goal_skill is not Objective.goal_skill

    def device(self) -> torch.device:
        """Where the method computes."""
        return self.anchor.device
