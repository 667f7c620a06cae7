"""Zero-shot goal reaching: the objective turns a goal into a skill, the environment says where the goal is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from csf.agents import Agent
from csf.evaluation import plots
from csf.evaluation.rollouts import isolated
from csf.types import Episodes, Evaluation, Obs, ObsArray, Sampler, map_obs, obs_tensor

Goals = Callable[[int, np.random.Generator], tuple[ObsArray, np.ndarray]]


def goal_distances(episodes: Episodes, place: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to `place` [N, C] after every step [N, T], infinite behind an episode's end, and the last ones [N]."""
    distance = (episodes.coord[:, 1:] - place[:, None]).norm(dim=-1)
    final = distance.gather(1, (episodes.length - 1).clamp(min=0)[:, None]).squeeze(1)
    return distance.where(episodes.steps(), torch.inf), final


def goal_metrics(episodes: Episodes, place: Tensor, radii: tuple[float, ...]) -> dict[str, float]:
    """Means over goals of what the distance to `place` [N, C] after each step says.

    For every radius: `hit`, ever within; `end`, within at the end; `staying`, the fraction of steps within. Then the
    `distance` at the end, in units of the coordinates. Episodes without a step are left out.
    """
    kept = episodes.length > 0
    distance, final = (rows[kept] for rows in goal_distances(episodes, place))
    found = {"eval/goal/distance": final.mean().item()}
    for radius in radii:
        within = distance <= radius
        found[f"eval/goal/hit_{radius:g}"] = within.any(1).double().mean().item()
        found[f"eval/goal/end_{radius:g}"] = (final <= radius).double().mean().item()
        found[f"eval/goal/staying_{radius:g}"] = (within.sum(1) / episodes.length[kept]).double().mean().item()
    return found


class ZeroShotGoals:
    """Reaches goals by the skills that the objective infers for them; actions are sampled, as released."""

    def __init__(self, goals: Goals, episodes: int, seed: int, single: bool = False) -> None:
        """Draw the same goals at every call.

        Args:
            goals: gives n goals as observations [n, *O] and places [n, C].
            episodes: how many goals.
            seed: of goals, worlds and actions.
            single: hold the skill inferred at the first step (the paper's "Single"), instead of inferring it anew at
                every step ("Adaptive").
        """
        self.goals, self.episodes, self.seed, self.single = goals, episodes, seed, single

    def run(self, agent: Agent, sampler: Sampler) -> Evaluation:
        """`eval/goal/...` and its map, or `eval/goal_single/...`; nothing where no rule leads to a goal."""
        if not agent.objective.reaches_goals():
            return Evaluation({}, {})
        obs, place = self.goals(self.episodes, np.random.default_rng(self.seed))
        device = agent.objective.device()
        policy, numbers = (
            _Seeker(agent, obs_tensor(obs, device), self.single),
            torch.arange(self.episodes, device=device),
        )
        with isolated(agent, self.seed), torch.no_grad():
            found = sampler.collect(policy, numbers[:, None], False, self.seed)
        where, name = torch.from_numpy(place), "goal_single" if self.single else "goal"
        metrics = goal_metrics(found, where, sampler.spec.success_radii)
        picture = goal_picture(found, where, sampler.spec.success_radii[0])
        return Evaluation({key.replace("/goal/", f"/{name}/"): metrics[key] for key in metrics}, {name: picture})


def goal_picture(episodes: Episodes, place: Tensor, radius: float) -> np.ndarray:
    """The goals of the episodes that have a step, as `plots.goal_map` draws them."""
    kept = episodes.length > 0
    distance, _ = goal_distances(episodes, place)
    staying = (distance <= radius).sum(1)[kept] / episodes.length[kept]
    end = episodes.coord[torch.arange(len(kept)), episodes.length][kept]
    return plots.goal_map(place[kept].numpy(), end.numpy(), staying.numpy(), radius)


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
