"""What a backbone offers: a policy, and one step that improves it under an objective's reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.nets.actor import CategoricalActor, GaussianActor
from csf.nets.encoder import make_encoder
from csf.registry import Registry
from csf.types import EnvSpec, Metrics, Obs, Rewarder

Actor = GaussianActor | CategoricalActor

backbones: Registry[type[Backbone]] = Registry("backbone")


@dataclass(frozen=True)
class BackboneConfig:
    """Fields that every backbone has. Values live in configs/agent/backbone/<name>.yaml, nowhere else."""

    name: str


class Backbone(nn.Module):
    """How to act; sees the objective only as a `Rewarder`.

    `act` and `update` are both given the objective. A policy that is trained, such as SAC's, ignores it while acting; a
    planner asks it for the rewards of the transitions that its model predicts, as a `Batch`.

    A subclass says by `learner` how experience is collected and learned from, and by `policy_parts` what a policy file
    holds: the modules and parameters without which it cannot act.
    """

    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    needs_cumulant: ClassVar[bool] = False  # whether the reward must be cumulant . skill
    discrete: ClassVar[bool | None] = False  # whether actions are one-hot; None: as the environment has them
    learner: ClassVar[str] = "replay"  # name of a class in csf/learners
    policy_parts: ClassVar[tuple[str, ...]] = ("actor",)  # attributes that a policy file holds
    least_batch: int = 1  # transitions that an update takes at least
    actor: Actor  # of the backbones that use `make_actor`
    minimizers: dict[str, Minimizer]

    def __init__(self, cfg: Any, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__()
        self.cfg, self.spec, self.skill_dim = cfg, spec, skill_dim
        if self.discrete not in (None, spec.discrete):
            kind = "one-hot" if spec.discrete else "continuous"
            fit = ", ".join(name for name in backbones.names() if backbones[name].discrete in (None, spec.discrete))
            raise ConfigError(f"agent/backbone={cfg.name} has no {kind} actions, but {spec.id} has; accepted: {fit}")

    def make_actor(self, hidden: Sequence[int]) -> Actor:
        """A policy over [obs, skill] with the kind of actions that the environment has."""
        kind = CategoricalActor if self.spec.discrete else GaussianActor
        encoder = make_encoder(self.spec)
        return kind([encoder.out_dim + self.skill_dim, *hidden, self.spec.action_dim], encoder)

    def act(self, obs: Obs, skill: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1] or one-hot; `mode` takes the policy's mode."""
        law = self.actor.distribution(obs, skill)
        return law.mode if mode else law.draw()

    def update(self, batch: Any, objective: Rewarder) -> Metrics:
        """One step on every loss from what the learner gives; returns 0-d metrics, reads nothing on the host."""
        raise NotImplementedError
