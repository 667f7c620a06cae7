"""An agent is an objective (what to learn) joined to a backbone (how to act)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from csf.agents.base import Objective, objectives
from csf.backbones import Backbone, backbones
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.types import Batch, EnvSpec, Metrics, Obs


class Agent(nn.Module):
    """Everything that acts and learns."""

    objective: Objective
    backbone: Backbone

    def __init__(self, cfg: Any, backbone_cfg: Any, spec: EnvSpec) -> None:
        """Take the method's and the backbone's configuration and what may be known of the environment."""
        super().__init__()
        self.spec = spec
        self.objective = objectives[cfg.name](cfg, spec)
        self.backbone = backbones[backbone_cfg.name](backbone_cfg, spec, cfg.skill_dim)
        if self.backbone.needs_cumulant and not self.objective.linear():
            others = ", ".join(name for name in backbones.names() if not backbones[name].needs_cumulant)
            raise ConfigError(
                f"agent/backbone={backbone_cfg.name} needs a reward that is linear in the skill, "
                f"which agent={cfg.name} with these settings has not; accepted: {others}"
            )

    @torch.no_grad()
    def act(self, obs: Obs, skill: Tensor, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]; `mode` takes the policy's mode."""
        return self.backbone.act(obs, skill, mode)

    def sample_skills(self, n: int) -> Tensor:
        """Skills [n, Z] from the method's prior."""
        return self.objective.sample_skills(n)

    @torch.no_grad()
    def goal_skill(self, obs: Obs, goal: Obs) -> Tensor | None:
        """The skill [N, Z] that leads from obs [N, *O] to goal [N, *O]; None if the method has no such rule."""
        return self.objective.goal_skill(obs, goal)

    def update(self, batch: Batch) -> Metrics:
        """One step on every part. Fixed shapes, no value read on the host: safe to capture."""
        return {**self.objective.update(batch), **self.backbone.update(batch, self.objective)}

    def minimizers(self) -> dict[str, Minimizer]:
        """Every optimizer of the agent by name."""
        parts = {"objective": self.objective.minimizers, "backbone": self.backbone.minimizers}
        return {f"{part}.{name}": m for part, found in parts.items() for name, m in found.items()}

    def policy_state(self) -> dict[str, Tensor]:
        """What acting takes: the actor and the objective's networks, without critics."""
        kept = ("objective.", "backbone.actor.")
        return {name: value for name, value in self.state_dict().items() if name.startswith(kept)}

    def full_state(self) -> dict[str, Any]:
        """Modules and optimizers, tensors and plain numbers only."""
        optim = {name: minimizer.full_state() for name, minimizer in self.minimizers().items()}
        return {"modules": self.state_dict(), "optim": optim}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned."""
        self.load_state_dict(state["modules"])
        for name, minimizer in self.minimizers().items():
            minimizer.load_full_state(state["optim"][name])
