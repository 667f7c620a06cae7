"""Zero-shot goal reaching: the objective turns a goal into a skill, the worlds say how far it got."""

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
    """Means over episodes of what worlds say of their goals, rows [n] by name.

    NaN leaves an episode out of the mean; a name that has nothing else is left out.
    """
    rows = {name: np.asarray(values, np.float64) for name, values in reached.items()}
    known = {name: row[~np.isnan(row)] for name, row in rows.items()}
    return {name: float(row.mean()) for name, row in known.items() if len(row)}


class ZeroShotGoals:
    """Reaches goals by the skills that the objective infers for them; actions are sampled, as released."""

    def __init__(self, worlds: Worlds, episodes: int, seed: int, single: bool = False) -> None:
        """Draw the same goals at every call.

        Args:
            worlds: draw the goals and say how far episodes got; they are not stepped.
            episodes: how many goals.
            seed: of goals, worlds and actions.
            single: hold the skill inferred at the first step (the paper's "Single"), instead of inferring it anew at
                every step ("Adaptive").
        """
        self.worlds, self.episodes, self.seed, self.single = worlds, episodes, seed, single

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/goal/...` and its map, or `eval/goal_single/...`; nothing where no rule leads to a goal.

        Episodes without a step are left out.
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
        for radius in self.worlds.success_radii[:1]:  # without one, goals are not places
            end, staying = coord[np.arange(len(coord)), length], reached[f"staying_{radius:g}"]
            images[name] = plots.goal_map(place, end, staying, radius)
        return Evaluation(metrics, images)


class _Seeker:
    """The policy that is given the number of a goal [N, 1] in place of a skill, since goals may be dicts."""

    def __init__(self, agent: Agent, goals: Obs, single: bool) -> None:
        self.agent, self.goals, self.single = agent, goals, single
        self.numbers: Tensor | None = None
        self.goal: Obs | None = None
        self.skill: Tensor | None = None

    def __call__(self, obs: Obs, numbers: Tensor, mode: bool = False, /) -> Tensor:
        # A round of episodes hands over one and the same tensor of numbers at every step.
        new = numbers is not self.numbers
        if new:
            self.numbers, self.goal = numbers, map_obs(lambda rows: rows[numbers[:, 0]], self.goals)
        if new or not self.single:
            assert self.goal is not None
            self.skill = self.agent.objective.goal_skill(obs, self.goal)
        assert self.skill is not None  # the method has a rule
        return self.agent.act(obs, self.skill, mode)
