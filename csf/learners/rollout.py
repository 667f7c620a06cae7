"""On-policy learning: updates take batches of the newest episodes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from csf.agents import Agent
from csf.learners.base import Budget, Learner, learners
from csf.learners.updates import run_updates
from csf.replay import random_rows
from csf.types import Batch, Episodes, Rollout, map_obs


def discounted_sums(rows: Tensor, rate: float) -> Tensor:
    """[N, T] -> [N, T]: at step t the sum over k >= 0 of rate^k rows[t + k]."""
    step = torch.arange(rows.shape[1], device=rows.device)
    ahead = step[:, None] - step  # of the step that is summed, to the step that has the sum
    weight = torch.where(ahead >= 0, rate ** ahead.clamp(min=0).to(rows), 0)
    return rows @ weight


def advantages(reward: Tensor, value: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalized advantage estimates (Schulman et al. 2016, arXiv 1506.02438); all [N, T].

    Rewards and values are 0 beyond the end of an episode. So the last step is judged by its reward alone, also where a
    time limit cut the episode, as in the CSF paper's released program.
    """
    following = F.pad(value[:, 1:], (0, 1))
    return discounted_sums(reward + discount * following - value, discount * gae_lambda)


class OnPolicyBackbone(Protocol):
    """What a backbone has to tell of what it collected."""

    cfg: Any  # with discount and gae_lambda

    def appraise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-densities of the actions and values of the states before them, both [B]."""
        ...


class FreshEpisodes:
    """The newest episodes with their rewards, log-densities and values, computed once, right after collection.

    Attributes:
        rollout: the steps; where `stays`, followed by rows without meaning.
        stays: whether new steps are copied over the old ones, as far as they have room, which a CUDA graph needs.
        layout, count: as in a replay buffer.
    """

    def __init__(self, agent: Agent, chunk: int | None = None) -> None:
        """Hold nothing yet; `chunk` is the number of transitions that a reward is computed from, None: all of them."""
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
        """Take the real steps of N episodes in place of what was there."""
        objective, backbone = self.agent.objective, cast(OnPolicyBackbone, self.agent.backbone)
        device = objective.device()
        batch = Batch(*(map_obs(lambda rows: rows.to(device), field) for field in episodes.transitions()))
        log_prob, value = backbone.appraise(batch)
        real = episodes.steps().to(device)
        reward, value = (_padded(rows, real) for rows in (self.rewards(batch), value))
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

    def rewards(self, batch: Batch) -> Tensor:
        """The objective's rewards [B], computed chunk by chunk.

        A reward may depend on the other transitions that it is computed with (the particle entropy of CIC does), and
        takes memory that grows with the square of their number. So an objective is asked as off-policy: about batches
        of the size of an update's, each spread over all episodes.
        """
        size, least = len(batch.reward), self.agent.objective.least_batch
        reward = torch.zeros_like(batch.reward)
        for rows, fresh in chunks(size, self.chunk or max(size, 1), least):
            index = rows.to(reward.device)
            part = Batch(*(map_obs(lambda rows: rows[index], each) for each in batch))  # noqa: B023
            found = self.agent.objective.reward(part)
            reward[index[:fresh]] = found[:fresh]
        return reward

    def sample_index(self, batch_size: int) -> Tensor:
        """Rows drawn uniformly with replacement, [batch_size] int64."""
        return random_rows(self.size, self.count, batch_size)

    def gather(self, index: Tensor) -> Rollout:
        """The steps of rows [B]; copies, every field [B, ...].

        Raises:
            ValueError: nothing has been added.
        """
        if self.rollout is None:
            raise ValueError("there are no episodes")
        return Rollout(*(map_obs(lambda rows: rows[index], field) for field in self.rollout))


def chunks(size: int, length: int, least: int) -> Iterator[tuple[Tensor, int]]:
    """Rows 0 to size - 1 in chunks of `length`, in a fixed order: row numbers [length] int64, and how many are new.

    The order is a shuffle that depends on `size` alone, so that a chunk is like a batch drawn from all episodes. The
    last chunk is filled up with rows of the first one. If there are fewer than `length` rows, the only chunk has each
    of them once, or is filled up to `least` rows by repeating them.
    """
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    width = torch.arange(min(length, max(size, least)))
    for start in range(0, size, length):
        yield order[(start + width) % size], min(length, size - start)


def _padded(rows: Tensor, real: Tensor) -> Tensor:
    """Rows [sum(length)] in their places [N, T], 0 elsewhere."""
    grid = rows.new_zeros(real.shape)
    grid[real] = rows
    return grid


@learners("rollout")
class RolloutLearner(Learner):
    """Makes gradient steps on batches of the newest episodes, from the first epoch on."""

    def __init__(self, agent: Agent, budget: Budget, device: torch.device | str) -> None:
        """Make updates of `updates_per_epoch` batches after every collection."""
        super().__init__(agent, budget, device)
        self.rollouts = FreshEpisodes(agent, budget.batch_size)

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Appraise the episodes and update the agent."""
        self.rollouts.add(episodes)
        count = self.budget.updates_per_epoch
        metrics = run_updates(self.update, self.rollouts, count, self.budget.batch_size, self.make_steps)
        self.gradient_steps += count
        return metrics
