"""Evaluates zero-shot goal reaching with the skills that the objective infers for goals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.rollouts import isolated
from csf.types import Evaluation, Obs, Sampler, Worlds, map_obs, obs_tensor


def goal_metrics(reached: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Average success metrics [n] over episodes, by name.

    NaN values are excluded from the mean; a metric with no other values is omitted.
    """
    rows = {name: np.asarray(values, np.float64) for name, values in reached.items()}
    known = {name: row[~np.isnan(row)] for name, row in rows.items()}
    return {name: float(row.mean()) for name, row in known.items() if len(row)}


class ZeroShotGoals:
    """Evaluates the skills inferred for goals; actions are sampled, as in the released program."""

    def __init__(self, worlds: Worlds, episodes: int, seed: int, single: bool = False) -> None:
        """Configure the evaluator; every evaluation uses the same goals.

        Args:
            worlds: define the goals and their success metrics; they are not stepped.
            episodes: number of goals.
            seed: seeds goals, worlds and actions.
            single: hold the skill inferred at the first step (the paper's "Single"), instead of inferring it at every
                step ("Adaptive").
        """
        self.worlds, self.episodes, self.seed, self.single = worlds, episodes, seed, single

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """Return `eval/goal/...` or `eval/goal_single/...` and a plot of the goals; empty if no skills are inferred.

        Discarded episodes are excluded.
        """
        if not agent.objective.reaches_goals():
            return Evaluation({}, {})
        obs, place = self.worlds.goals(self.episodes, np.random.default_rng(self.seed))
        device = agent.objective.device()
        policy = _Seeker(agent, obs_tensor(obs, device), self.single)
        numbers = torch.arange(self.episodes, device=device)
        with isolated(agent, self.seed), torch.no_grad():
            found = sampler.collect(policy, numbers[:, None], False, self.seed)
        kept = (found.length > 0).numpy()
        coord, length, place = found.coord.numpy()[kept], found.length.numpy()[kept], place[kept]
        reached = self.worlds.success(coord, length, place)
        name = "goal_single" if self.single else "goal"
        metrics = {f"eval/{name}/{key}": value for key, value in goal_metrics(reached).items()}
        images = {}
        for radius in self.worlds.success_radii[:1]:  # empty if goals are not positions
            end, staying = coord[np.arange(len(coord)), length], reached[f"staying_{radius:g}"]
            images[name] = plots.goal_map(place, end, staying, radius)
        return Evaluation(metrics, images)


class _Seeker:
    """A policy that takes goal numbers [N, 1] instead of skills, because goals may be dicts of arrays."""

    def __init__(self, agent: Agent, goals: Obs, single: bool) -> None:
        self.agent, self.goals, self.single = agent, goals, single
        self.numbers: Tensor | None = None
        self.goal: Obs | None = None
        self.skill: Tensor | None = None

    def __call__(self, obs: Obs, numbers: Tensor, mode: bool = False, /) -> Tensor:
        # The sampler passes the same tensor object at every step of a batch of episodes.
        new = numbers is not self.numbers
        if new:
            self.numbers, self.goal = numbers, map_obs(lambda rows: rows[numbers[:, 0]], self.goals)
        if new or not self.single:
            assert self.goal is not None
            self.skill = self.agent.goal_skill(obs, self.goal)
        assert self.skill is not None  # reaches_goals() is true
        return self.agent.act(obs, self.skill, mode)
