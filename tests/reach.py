"""A method with a known answer, without the program's files: the skill is the place to go to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from conftest import configure
from torch import Tensor, nn

from csf.agents import Agent
from csf.agents.base import Objective, ObjectiveConfig
from csf.backbones import backbones
from csf.learners import EpochBudget, Learner, learners
from csf.sampler import RolloutSampler
from csf.types import Batch, Episodes
from csf.worlds import describe
from envs import make_vec

STEPS = 10


class Reach(Objective):
    """Rewards being near the skill, a place in a square of side 1.6; nothing is learned."""

    prior = "box"

    def build(self) -> Iterable[nn.Parameter]:
        return ()

    def sample_skills(self, n: int) -> Tensor:
        return 0.8 * super().sample_skills(n)

    def reward(self, batch: Batch) -> Tensor:
        return -(batch.next_obs - batch.skill).norm(dim=-1)


class Reaching:
    """An agent that learns this on the plane, where it may go 1 far on each axis; and its worlds."""

    def __init__(self, backbone: str, worlds: int, *words: str, **limits: int) -> None:
        env: Any = make_vec("point", worlds, max_steps=STEPS)
        spec = describe(env, "point")
        self.sampler = RolloutSampler(env, spec, 0, "cpu")
        cfg = configure("agent=csf", f"agent/backbone={backbone}", "agent.skill_dim=2", *words)
        self.agent = Agent(cfg.agent, cfg.backbone, spec)
        self.agent.objective = Reach(ObjectiveConfig("reach", 2, (), 0.0), spec)
        budget = {"updates_per_epoch": 50, "batch_size": 64, "replay_size": 10000, "min_replay_size": 1, **limits}
        self.learner: Learner = learners[backbones[backbone].learner](
            self.agent, EpochBudget(episodes_per_epoch=worlds, **budget), "cpu"
        )

    def epoch(self) -> dict[str, float]:
        """Collect and learn once; the metrics."""
        return self.learner.learn(self.learner.collect(self.sampler, self.agent.sample_skills(self.worlds)))

    def distance(self) -> float:
        """The mean distance from the last position to the goal, for fixed goals."""
        return float(
            (last(self.sampler.collect(self.agent.act, self.goals(), True, seed=7)) - self.goals()).norm(dim=-1).mean()
        )

    def goals(self) -> Tensor:
        """Corners and sides of the square, repeated for all worlds."""
        sides: Sequence[tuple[float, float]] = [(0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)]
        sides = [*sides, (0.0, 0.8), (0.8, 0.0), (-0.8, 0.0), (0.0, -0.8)]
        return torch.tensor(sides).repeat(-(-self.worlds // 8), 1)[: self.worlds]

    @property
    def worlds(self) -> int:
        return self.sampler.env.num_envs


def last(episodes: Episodes) -> Tensor:
    """The last observation of every episode, [N, O]."""
    obs: Tensor = episodes.obs[torch.arange(len(episodes.length)), episodes.length]
    return obs
