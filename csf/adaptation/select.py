"""Returns of policies on a task, and the choice of the skill with the highest return."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation.entropy import random_policy
from csf.evaluation.rollouts import isolated
from csf.hierarchy import visible
from csf.types import Episodes, Policy, Sampler, SomeObs


class Choice(NamedTuple):
    """The skill that is adapted, and how it was chosen."""

    skills: list[list[float]]  # [M, Z], those that were tried
    returns: list[float]  # [M], mean return of each on the task
    best: int  # index of the highest return

    def skill(self, device: torch.device) -> Tensor:
        """The best skill, [Z]."""
        return torch.tensor(self.skills[self.best], device=device)


def choose_skill(source: Agent, sampler: Sampler, candidates: int, episodes: int, seed: int) -> Choice:
    """Choose the skill whose deterministic policy has the highest mean return of the environment's reward.

    Args:
        source: the pretrained agent.
        sampler: collects episodes of the task.
        candidates: number of skills drawn from a continuous prior; one-hot skills are all tried.
        episodes: number of episodes per skill.
        seed: seeds skills and worlds.
    """
    objective = source.objective
    with isolated(source, seed):
        skills = objective.evaluation_skills(objective.skill_count(candidates))
        found = returns(sampler.collect(act_of(source), skills.repeat_interleave(episodes, 0), True, seed))
    table = found.view(len(skills), episodes)
    means = table.nanmean(1).nan_to_num(-torch.inf)  # NaN: the simulation diverged in every episode
    return Choice(skills.tolist(), means.tolist(), int(means.argmax()))


def act_of(source: Agent) -> Policy:
    """The policy of a pretrained agent on a task, which may append columns to the observation."""

    def act(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        return source.act(visible(obs, source.spec), skill, mode)

    return act


def with_skill(source: Agent, skill: Tensor) -> Policy:
    """The policy of a pretrained agent with a fixed skill [Z], whatever skills it is given."""
    act_with = act_of(source)

    def act(obs: SomeObs, skills: Tensor, mode: bool = False, /) -> Tensor:
        return act_with(obs, skill.expand(len(skills), -1), mode)

    return act


def collect_skill(source: Agent, skill: Tensor, sampler: Sampler, episodes: int, seed: int) -> Episodes:
    """Collect deterministic episodes of one skill [Z]."""
    with isolated(source, seed):
        return sampler.collect(with_skill(source, skill), skill.expand(episodes, -1), True, seed)


def random_return(sampler: Sampler, episodes: int, seed: int) -> float:
    """Mean return of uniformly random actions."""
    found = sampler.collect(random_policy(sampler.spec, seed), torch.zeros(episodes, 0), False, seed)
    return mean_return(found)


def mean_return(episodes: Episodes) -> float:
    """Mean return of the episodes that were not discarded."""
    return float(returns(episodes).nanmean())


def returns(episodes: Episodes) -> Tensor:
    """Sum of rewards of every episode, [N] float64; NaN for discarded ones."""
    return episodes.returns().masked_fill(episodes.length == 0, torch.nan)
