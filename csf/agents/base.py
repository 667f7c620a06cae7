"""Base class of skill-discovery methods: prior over skills, representation loss and intrinsic reward."""

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
    """Squared length of a step [B, Z] in the representation, and its cosine with the skill [B, Z], as means."""
    step = step.detach()
    alignment = F.cosine_similarity(step, skill, dim=-1).mean()
    return {"phi/step": step.square().sum(-1).mean(), "phi/alignment": alignment}


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of every method; their values are in configs/agent/<name>.yaml only."""

    name: str
    skill_dim: Count  # Z
    hidden: tuple[Count, ...]  # layer widths of the method's own networks
    lr: NotNegative  # learning rate of the method's own networks


class Objective(nn.Module):
    """Base class of a method, without the optimization of its policy.

    Subclasses override `build`, `loss`, and `cumulant` or `reward`; optionally `represent` and `goal_skill`.
    """

    Config: ClassVar[type[ObjectiveConfig]] = ObjectiveConfig
    prior: Prior = "sphere"  # distribution of the skills; controllers and exports also use it
    accepts_images: ClassVar[bool] = True  # whether observations may be images
    least_batch: int = 1  # smallest number of transitions in an update
    goal_from_here: ClassVar[bool] = True  # whether the skill for a goal depends on the current observation
    anchor: Tensor

    def __init__(self, cfg: Any, spec: EnvSpec) -> None:
        super().__init__()
        self.cfg, self.spec = cfg, spec
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # tracks the device of the module
        self.minimizers: dict[str, Minimizer] = {}
        if trained := list(self.build()):
            self.minimizers["representation"] = self.make_minimizer(trained)

    def build(self) -> Iterable[nn.Parameter]:
        """Create the method's modules; returns the parameters that `loss` trains, which may be none."""
        raise NotImplementedError

    def make_minimizer(self, params: list[nn.Parameter]) -> Minimizer:
        """Create the optimizer of the parameters that `loss` trains."""
        return Minimizer(params, self.cfg.lr)

    def cumulant(self, batch: Batch) -> Tensor:
        """Features [B, Z] whose inner product with the skill is the reward; only for methods with such a reward."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Representation loss [] and 0-d metrics; must be traceable as a single graph."""
        raise NotImplementedError

    def reward(self, batch: Batch) -> Tensor:
        """Intrinsic reward [B]."""
        return (self.cumulant(batch) * batch.skill).sum(-1)

    def update(self, batch: Batch) -> Metrics:
        """Take one gradient step on `loss`, unless there are no trained parameters; returns metrics."""
        if "representation" not in self.minimizers:
            return {}
        loss, metrics = self.loss(batch)
        return {"loss/representation": self.minimizers["representation"].step(loss), **metrics}

    def sample_skills(self, n: int) -> Tensor:
        """Sample skills [n, Z] from the prior, on the method's device."""
        shape, device = (n, self.cfg.skill_dim), self.device()
        if self.prior == "one_hot":
            index = torch.randint(self.cfg.skill_dim, (n,), device=device)
            return F.one_hot(index, self.cfg.skill_dim).float()
        if self.prior == "box":
            return 2 * torch.rand(shape, device=device) - 1
        skills = torch.randn(shape, device=device)
        return F.normalize(skills, dim=-1) if self.prior == "sphere" else skills

    def evaluation_skills(self, n: int) -> Tensor:
        """Skills [n, Z] for evaluation: samples of the prior, or for one-hot skills each about equally often."""
        if self.prior == "one_hot":
            index = torch.arange(n, device=self.device()) % self.cfg.skill_dim
            return F.one_hot(index.sort().values, self.cfg.skill_dim).float()
        return self.sample_skills(n)

    def skill_count(self, n: int) -> int:
        """Number of skills to try: all K one-hot ones, or `n` samples of another prior."""
        return int(self.cfg.skill_dim) if self.prior == "one_hot" else n

    def linear(self) -> bool:
        """Whether the reward is the inner product of the cumulant and the skill."""
        return type(self).cumulant is not Objective.cumulant

    def pointwise(self) -> bool:
        """Whether the reward of a transition depends only on its observations, action and skill.

        Only then it can be computed for predicted transitions.
        """
        return True

    def represent(self, obs: Obs) -> Tensor | None:
        """The learned representation [N, Z] of observations [N, *O]; None if the method has none."""
        return None

    def body(self) -> nn.Module | None:
        """The ReLU network of observations, or of observations and skills, whose layers can initialize critics."""
        return None

    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor | None:
        """The skill [N, Z] that leads from obs [N, *O] to goal [N, *O]; None if the method cannot infer one."""
        return None

    def reaches_goals(self) -> bool:
        """Whether the method can infer a skill for a goal."""
        return type(self).goal_skill is not Objective.goal_skill

    def device(self) -> torch.device:
        """The device of the method's modules."""
        return self.anchor.device
