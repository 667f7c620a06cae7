"""On-policy learning: batches are sampled only from the newest episodes."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from csf.agents import Agent
from csf.learners.base import EpochBudget, Learner, learners
from csf.learners.rewards import rewards
from csf.learners.updates import run_updates
from csf.replay import random_rows
from csf.types import Batch, Episodes, Rollout, map_obs


def discounted_sums(rows: Tensor, rate: float) -> Tensor:
    """[N, T] -> [N, T]: the value at step t is the sum over k >= 0 of rate^k rows[t + k]."""
    step = torch.arange(rows.shape[1], device=rows.device)
    ahead = step[:, None] - step  # number of steps from the step of the sum to the summed step
    weight = torch.where(ahead >= 0, rate ** ahead.clamp(min=0).to(rows), 0)
    return rows @ weight


def advantages(reward: Tensor, value: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, arXiv 1506.02438); all [N, T].

    Rewards and values are 0 after the end of an episode, so there is no bootstrapping from the last step, even at a
    time limit, as in the CSF paper's released program.
    """
    following = F.pad(value[:, 1:], (0, 1))
    return discounted_sums(reward + discount * following - value, discount * gae_lambda)


class OnPolicyBackbone(Protocol):
    """A backbone that computes log-densities and values of collected transitions."""

    cfg: Any  # with discount and gae_lambda

    def appraise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-densities of the actions and values of the states before them, both [B]."""
        ...


class FreshEpisodes:
    """The newest episodes with rewards, log-densities and advantages, which are computed once after collection.

    Attributes:
        rollout: the transitions; with `stays`, followed by unused rows.
        stays: whether new transitions are copied into the existing tensors if they fit, which a CUDA graph requires.
        layout, count: as in the replay buffer.
    """

    def __init__(self, agent: Agent, chunk: int | None = None) -> None:
        """Create an empty store; rewards are computed for `chunk` transitions at a time, None: all at once."""
        self.agent, self.chunk = agent, chunk
        self.rollout: Rollout | None = None
        self.size = self.layout = 0
        device = agent.objective.device()
        self.stays = device.type != "cpu"
        self.count = torch.zeros((), dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return self.size

    @torch.no_grad()
    def add(self, episodes: Episodes) -> None:
        """Replace the stored transitions by the real steps of N episodes."""
        objective, backbone = self.agent.objective, cast(OnPolicyBackbone, self.agent.backbone)
        device = objective.device()
        batch = Batch(*(map_obs(lambda rows: rows.to(device), field) for field in episodes.transitions()))
        seen = self.agent.encode_batch(batch)
        log_prob, value = backbone.appraise(seen)
        real = episodes.steps().to(device)
        reward, value = (_padded(rows, real) for rows in (rewards(objective, seen, self.chunk), value))
        discount = backbone.cfg.discount
        advantage = advantages(reward, value, discount, backbone.cfg.gae_lambda)
        return_to_go = discounted_sums(reward, discount)
        found = Rollout(*batch, log_prob, advantage[real], return_to_go[real])
        self.rollout = self._placed(found, real.numel()) if self.stays else found
        self.size = len(found.reward)
        self.count.fill_(self.size)

    def _placed(self, new: Rollout, room: int) -> Rollout:
        """The steps at the head of tensors of at least `room` rows: the old ones, if there are and they suffice."""
        kept = self.rollout
        if kept is None or len(kept.reward) < room:
            kept = Rollout(*(map_obs(lambda rows: rows.new_zeros(room, *rows.shape[1:]), field) for field in new))
            self.layout += 1
        for to, of in zip(kept, new, strict=True):
            map_obs(lambda to, of: to[: len(of)].copy_(of), to, of)
        return kept

    def sample_index(self, batch_size: int) -> Tensor:
        """Sample row indices uniformly with replacement, [batch_size] int64."""
        return random_rows(self.size, self.count, batch_size)

    def gather(self, index: Tensor) -> Rollout:
        """Transitions at row indices [B], as copies; every field is [B, ...].

        Raises:
            ValueError: no episodes have been added.
        """
        if self.rollout is None:
            raise ValueError("there are no episodes")
        return Rollout(*(map_obs(lambda rows: rows[index], field) for field in self.rollout))


def _padded(rows: Tensor, real: Tensor) -> Tensor:
    """Scatter rows [sum(length)] to the real steps of a grid [N, T] that is 0 elsewhere."""
    grid = rows.new_zeros(real.shape)
    grid[real] = rows
    return grid


@learners("rollout")
class RolloutLearner(Learner):
    """Takes gradient steps on batches of the newest episodes, starting in the first epoch."""

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str) -> None:
        """Create the learner; rewards are computed in chunks of `budget.batch_size`."""
        super().__init__(agent, budget, device)
        self.rollouts = FreshEpisodes(agent, budget.batch_size)

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Compute rewards and advantages of the episodes, then update the agent `updates_per_epoch` times."""
        self.rollouts.add(episodes)
        count = self.budget.updates_per_epoch
        metrics = run_updates(self.update, self.rollouts, count, self.budget.batch_size, self.make_steps)
        self.gradient_steps += count
        return metrics
