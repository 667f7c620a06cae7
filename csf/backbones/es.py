"""Evolution strategies over [obs, skill]: the policy follows the fitness of randomly perturbed copies.

Source: Salimans et al. 2017 (arXiv 1703.03864): Gaussian noise on the parameters, in mirrored pairs, and ranks instead
of fitness values. A copy's fitness is the sum of the objective's rewards in an episode, or its mean over episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from csf.backbones.base import Actor, Backbone, BackboneConfig, backbones
from csf.config.ranges import Count, NotNegative, Positive
from csf.core.optim import Minimizer
from csf.core.precision import computed_with
from csf.nets.actor import GaussianActor
from csf.types import EnvSpec, Generation, Metrics, Obs, Rewarder, map_obs


@dataclass(frozen=True)
class ESConfig(BackboneConfig):
    """Evolution strategies."""

    hidden: tuple[Count, ...]  # layer widths of the policy
    lr: NotNegative  # learning rate of the policy
    spread: Positive  # sigma, standard deviation of the noise on the parameters
    skills_per_member: Count  # episodes per member; the population is task.episodes_per_epoch / skills_per_member


@backbones("es")
class ES(Backbone):
    """A deterministic policy, the mode of the usual one, without critics."""

    Config: ClassVar[type[BackboneConfig]] = ESConfig
    cfg: ESConfig
    discrete = None
    accepts_images = False
    learner = "population"

    def __init__(self, cfg: ESConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        self.actor = self.make_actor(cfg.hidden)
        self.minimizers = {"actor": Minimizer(self.actor.parameters(), cfg.lr)}

    def act(self, obs: Obs, skill: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A]; the policy is deterministic, whatever `mode` is."""
        return self.actor.distribution(obs, skill).mode

    def draw_noise(self, pairs: int) -> Tensor:
        """Draw noise [P, D]; it is 0 for parameters on which the policy's mode does not depend."""
        noise = [torch.randn(pairs, *param.shape, device=param.device) for param in self.actor.parameters()]
        if isinstance(self.actor, GaussianActor):
            # The second half of the heads is the standard deviation. The optimizer would move it at random.
            for (name, _), rows in zip(self.actor.named_parameters(), noise, strict=True):
                if name.startswith("heads."):
                    rows[:, self.spec.action_dim :] = 0
        return torch.cat([rows.flatten(1) for rows in noise], 1)

    @torch.no_grad()
    def population(self, noise: Tensor) -> Callable[[Obs, Tensor], Tensor]:
        """Perturb the policy by noise [P, D] and by its negative.

        Returns:
            A function from observations [N, *O] and skills [N, Z] to actions [N, A]. Each of the 2P members acts in
            N / 2P consecutive rows.
        """
        members = {f"actor.{name}": torch.cat([mean + rows, mean - rows]) for name, mean, rows in self._split(noise)}
        count, policy = 2 * len(noise), _Mode(self.actor)
        act_one = vmap(lambda params, obs, skill: functional_call(policy, params, (obs, skill)))

        def act(obs: Obs, skill: Tensor) -> Tensor:
            grouped = map_obs(lambda rows: rows.unflatten(0, (count, -1)), obs)
            action: Tensor = act_one(members, grouped, skill.unflatten(0, (count, -1))).flatten(0, 1)
            return action

        return act

    def _split(self, noise: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """Name, value and scaled noise [P, ...] of every parameter of the policy."""
        named = list(self.actor.named_parameters())
        parts = noise.split([param.numel() for _, param in named], 1)
        return [
            (name, param, self.cfg.spread * rows.view(-1, *param.shape))
            for (name, param), rows in zip(named, parts, strict=True)
        ]

    def update(self, batch: Generation, objective: Rewarder) -> Metrics:
        """Take one step along the estimated gradient of the expected rank."""
        plus, minus = centered_ranks(batch.fitness).chunk(2)
        weight = (plus - minus) * batch.valid / (len(batch.fitness) * self.cfg.spread**2)
        # The gradient of this linear function of the parameters is the estimate.
        gains = [
            (torch.tensordot(weight, rows, 1) * computed_with(param)).sum()
            for (_, _, rows), param in zip(self._split(batch.noise), self.actor.parameters(), strict=True)
        ]
        self.minimizers["actor"].step(-torch.stack(gains).sum())
        return {"fitness/mean": batch.fitness.mean(), "fitness/std": batch.fitness.std(correction=0)}


class _Mode(nn.Module):
    """An actor as a function to the mode of its distribution, which `functional_call` can evaluate."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.actor = actor

    def forward(self, obs: Obs, skill: Tensor) -> Tensor:
        return self.actor.distribution(obs, skill).mode


def centered_ranks(fitness: Tensor) -> Tensor:
    """Ranks of the fitness [M], scaled to [-0.5, 0.5]; equal values have equal ranks."""
    less = (fitness[:, None] > fitness).sum(1) + 0.5 * ((fitness[:, None] == fitness).sum(1) - 1)
    return less / (len(fitness) - 1) - 0.5
