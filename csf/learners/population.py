"""Learning with a population: each epoch evaluates perturbed copies of the policy, each on its own episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from csf.agents import Agent
from csf.errors import ConfigError
from csf.learners.base import EpochBudget, Learner, learners
from csf.learners.replay import make_replay
from csf.learners.rewards import rewards
from csf.learners.updates import run_updates
from csf.types import Batch, Episodes, Generation, Metrics, Obs, Rewarder, Sampler, Stateful, map_obs


class PopulationBackbone(Protocol):
    """A backbone that learns from the fitness of perturbed policies."""

    cfg: Any  # with skills_per_member

    def draw_noise(self, pairs: int) -> Tensor:
        """Draw noise on the policy's parameters, [P, D]."""
        ...

    def population(self, noise: Tensor) -> Callable[[Obs, Tensor], Tensor]:
        """A function with which 2P members, perturbed by noise [P, D] and its negative, act in rows of [N, *O]."""
        ...

    def update(self, batch: Generation, objective: Rewarder) -> Metrics:
        """Take one step on the policy."""
        ...


@learners("population")
class PopulationLearner(Learner):
    """Collects with mirrored pairs of perturbed policies, which share skills and seeds of the worlds.

    As with `replay`, the objective takes `updates_per_epoch` gradient steps on batches from the replay buffer. Then the
    new episodes are scored with the updated objective, and the policy takes one step.
    """

    noise: Tensor  # [P, D], of the episodes that were collected last

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str) -> None:
        """Allocate the replay buffer on `device`.

        Raises:
            ConfigError: the number of episodes does not fit the population, or as `make_replay`.
        """
        super().__init__(agent, budget, device)
        self.backbone = cast(PopulationBackbone, agent.backbone)
        episodes, pair = budget.episodes_per_epoch, 2 * self.backbone.cfg.skills_per_member
        if episodes % pair:
            raise ConfigError(
                f"task.episodes_per_epoch is {episodes}; accepted with agent/backbone={self.backbone.cfg.name}: "
                f"multiples of 2 x agent.backbone.skills_per_member, which is {pair}"
            )
        self.pairs = episodes // pair
        self.update = agent.objective.update
        self.replay = make_replay(agent, budget, device)

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """Collect an episode of every member with each of its skills.

        Only the first half of `skills` [n, Z] is used: both members of a pair have the same skills.
        """
        self.noise = self.backbone.draw_noise(self.pairs)
        members = self.backbone.population(self.noise)

        def act(obs: Obs, skill: Tensor, mode: bool = False, /) -> Tensor:
            return members(obs, skill)

        return sampler.collect(act, skills[: len(skills) // 2].repeat(2, 1), twins=True)

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes, update the objective, then the policy, once there are `min_replay_size` transitions.

        Raises:
            NonFiniteError: a metric is not finite.
        """
        self.replay.add(episodes)
        if len(self.replay) < self.budget.min_replay_size:
            return {}
        metrics: dict[str, float] = {}
        if self.agent.objective.minimizers:
            count = self.budget.updates_per_epoch
            metrics = run_updates(self.update, self.replay, count, self.budget.batch_size, self.make_steps)
            self.gradient_steps += count
        generation, reward = self.score(episodes)
        found = {"reward/mean": reward, **self.backbone.update(generation, self.agent.objective)}
        self.gradient_steps += 1
        return {**metrics, **{name: value.item() for name, value in found.items()}}

    @torch.no_grad()
    def score(self, episodes: Episodes) -> tuple[Generation, Tensor]:
        """Compute the fitness of every member with the current objective, and the mean reward []."""
        batch = Batch(*(map_obs(lambda rows: rows.to(self.device), field) for field in episodes.transitions()))
        reward = rewards(self.agent.objective, batch, self.budget.batch_size)
        real = episodes.steps().to(self.device)
        grid = reward.new_zeros(real.shape)
        grid[real] = reward
        fitness = grid.sum(1).unflatten(0, (2 * self.pairs, -1)).mean(1)
        valid = (episodes.length > 0).to(self.device).unflatten(0, (2, self.pairs, -1)).all(2).all(0)
        return Generation(self.noise, fitness, valid), reward.mean()

    def parts(self) -> dict[str, Stateful]:
        """The learner and its replay buffer."""
        return {**super().parts(), "replay": self.replay}
