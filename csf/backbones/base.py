"""What a backbone offers: a policy, and one step that improves it under an objective's reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from csf.core.optim import Minimizer
from csf.registry import Registry
from csf.types import Batch, EnvSpec, Metrics, Rewarder

backbones: Registry[type[Backbone]] = Registry("backbone")


@dataclass(frozen=True)
class BackboneConfig:
    """Fields that every backbone has. Values live in configs/agent/backbone/<name>.yaml, nowhere else."""

    name: str


class Backbone(nn.Module):
    """How to act; sees the objective only as a `Rewarder`."""

    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    minimizers: dict[str, Minimizer]

    def __init__(self, cfg: Any, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__()
        self.cfg, self.spec, self.skill_dim = cfg, spec, skill_dim

    def act(self, obs: Tensor, skill: Tensor, mode: bool) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]; `mode` takes the policy's mode."""
        raise NotImplementedError

    def update(self, batch: Batch, objective: Rewarder) -> Metrics:
        """One step on every loss; returns 0-d metrics, reads nothing on the host."""
        raise NotImplementedError
