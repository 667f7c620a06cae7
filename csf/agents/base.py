"""What a skill-discovery method defines: which skills exist, what is learned from data, what is rewarded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.core.optim import Minimizer
from csf.registry import Registry
from csf.types import Batch, EnvSpec, Metrics

Prior = Literal["sphere", "gaussian", "box", "one_hot"]

objectives: Registry[type[Objective]] = Registry("agent")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Fields that every method has. Values live in configs/agent/<name>.yaml, nowhere else."""

    name: str
    skill_dim: int  # Z
    hidden: tuple[int, ...]  # widths of the method's own networks
    lr: float  # of the method's own networks


class Objective(nn.Module):
    """A method without its policy optimizer.

    A method overrides `build`, `loss`, and `cumulant` or `reward`; `represent` and `goal_skill` where it has them.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    prior: Prior = "sphere"  # the law of the skills, which a controller, an export and a reader need to know
    anchor: Tensor

    def __init__(self, cfg: Any, spec: EnvSpec) -> None:
        super().__init__()
        self.cfg, self.spec = cfg, spec
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # is where the method is
        self.minimizers = {"representation": Minimizer(self.build(), cfg.lr)}

    def build(self) -> Iterable[nn.Parameter]:
        """Make the method's modules; return the parameters that `loss` trains."""
        raise NotImplementedError

    def cumulant(self, batch: Batch) -> Tensor:
        """Features [B, Z] whose inner product with the skill is the reward, if the method has them."""
        raise NotImplementedError(f"{self.cfg.name} has no features; use agent/backbone=sac")

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Representation loss [] and 0-d metrics; must trace as one graph."""
        raise NotImplementedError

    def reward(self, batch: Batch) -> Tensor:
        """Intrinsic reward [B]."""
        return (self.cumulant(batch) * batch.skill).sum(-1)

    def update(self, batch: Batch) -> Metrics:
        """One step on `loss`."""
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

    def represent(self, obs: Tensor) -> Tensor | None:
        """The learned representation of observations [N, *O] as [N, Z], if the method has one."""
        return None

    def goal_skill(self, obs: Tensor, goal: Tensor) -> Tensor | None:
        """The skill [N, Z] that leads from obs [N, *O] to goal [N, *O]; None where the method has no such rule."""
        return None

    def device(self) -> torch.device:
        """Where the method computes."""
        return self.anchor.device
