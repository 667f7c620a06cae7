"""From fresh episodes to gradient steps, without a memory of older ones."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from csf.agents import Agent
from csf.learners.off_policy import OffPolicyLearner
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


class Rollouts:
    """The newest episodes, appraised once by the policy that ran them; with the calls of a replay buffer."""

    def __init__(self, agent: Agent) -> None:
        """Hold nothing yet."""
        self.agent = agent
        self.rollout: Rollout | None = None

    def __len__(self) -> int:
        return 0 if self.rollout is None else len(self.rollout.reward)

    @torch.no_grad()
    def add(self, episodes: Episodes) -> None:
        """Take the real steps of N episodes in place of what was there."""
        objective, backbone = self.agent.objective, cast(OnPolicyBackbone, self.agent.backbone)
        device = objective.device()
        batch = Batch(*(map_obs(lambda rows: rows.to(device), field) for field in episodes.transitions()))
        log_prob, value = backbone.appraise(batch)
        real = episodes.steps().to(device)
        reward, value = (_padded(rows, real) for rows in (objective.reward(batch), value))
        discount = backbone.cfg.discount
        advantage = advantages(reward, value, discount, backbone.cfg.gae_lambda)
        return_to_go = discounted_sums(reward, discount)
        self.rollout = Rollout(*batch, log_prob, advantage[real], return_to_go[real])

    def sample_index(self, batch_size: int) -> Tensor:
        """Rows drawn uniformly with replacement, [batch_size] int64."""
        return torch.randint(len(self), (batch_size,), device=self.agent.objective.device())

    def gather(self, index: Tensor) -> Rollout:
        """The steps of rows [B]; copies, every field [B, ...].

        Raises:
            ValueError: nothing has been added.
        """
        if self.rollout is None:
            raise ValueError("there are no episodes")
        return Rollout(*(map_obs(lambda rows: rows[index], field) for field in self.rollout))


def _padded(rows: Tensor, real: Tensor) -> Tensor:
    """Rows [sum(length)] in their places [N, T], 0 elsewhere."""
    grid = rows.new_zeros(real.shape)
    grid[real] = rows
    return grid


class OnPolicyLearner(OffPolicyLearner):
    """Takes the same gradient steps on the newest episodes alone, from the first epoch on."""

    def __init__(self, agent: Agent, updates: int, batch_size: int) -> None:
        """Take `updates` steps on batches of `batch_size` after every collection."""
        newest: Any = Rollouts(agent)  # stands in for a replay buffer
        super().__init__(agent, newest, updates, batch_size, min_size=1)
