"""Base class of backbones: a policy, and an update that improves it under an objective's reward."""

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
    """Settings of every backbone; their values are in configs/agent/backbone/<name>.yaml only."""

    name: str


class Backbone(nn.Module):
    """Base class of policy optimizers, which use the objective only as a `Rewarder`.

    Both `act` and `update` receive the objective. A trained policy, such as SAC's, ignores it while acting. A planner
    uses it to compute rewards of predicted transitions, given as a `Batch`.

    A subclass sets `learner`, the class that collects experience and learns from it, and `policy_parts`, the modules
    and parameters that a policy file must contain for acting.
    """

    Config: ClassVar[type[BackboneConfig]] = BackboneConfig
    accepts_images: ClassVar[bool] = True  # whether observations may be images
    needs_cumulant: ClassVar[bool] = False  # whether the reward must be linear: cumulant . skill
    needs_pointwise: ClassVar[bool] = False  # whether rewards of predicted transitions are computed
    discrete: ClassVar[bool | None] = False  # whether actions are one-hot; None: both kinds are supported
    learner: ClassVar[str] = "replay"  # registered name of a class in csf/learners
    policy_parts: ClassVar[tuple[str, ...]] = ("actor",)  # attributes saved in policy files
    least_batch: int = 1  # smallest number of transitions in an update
    actor: Actor  # set by backbones that use `make_actor`
    minimizers: dict[str, Minimizer]

    def __init__(self, cfg: Any, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__()
        self.cfg, self.spec, self.skill_dim = cfg, spec, skill_dim
        if self.discrete not in (None, spec.discrete):
            kind = "one-hot" if spec.discrete else "continuous"
            fit = ", ".join(name for name in backbones.names() if backbones[name].discrete in (None, spec.discrete))
            raise ConfigError(
                f"agent/backbone={cfg.name} does not support the {kind} actions of {spec.id}; accepted: {fit}"
            )

    def make_actor(self, hidden: Sequence[int]) -> Actor:
        """Create a policy over [obs, skill] for the environment's kind of actions."""
        kind = CategoricalActor if self.spec.discrete else GaussianActor
        encoder = make_encoder(self.spec)
        return kind([encoder.out_dim + self.skill_dim, *hidden, self.spec.action_dim], encoder)

    def act(self, obs: Obs, skill: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1] or one-hot; `mode`: the policy's mode instead of a sample."""
        law = self.actor.distribution(obs, skill)
        return law.mode if mode else law.draw()

    def update(self, batch: Any, objective: Rewarder) -> Metrics:
        """Take one gradient step on every loss, given a batch from the learner; returns 0-d metrics, no host sync."""
        raise NotImplementedError
