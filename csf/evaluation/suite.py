"""Which evaluators suit an agent and its environment."""

from __future__ import annotations

import logging

from csf.agents import Agent
from csf.evaluation.goals import ZeroShotGoals
from csf.evaluation.rollouts import SkillRollouts
from csf.types import Evaluator, Worlds

log = logging.getLogger(__name__)


def suite(
    agent: Agent, worlds: Worlds, skills: int, goals: int, seed: int, plot_range: float | None
) -> list[Evaluator]:
    """What the environment and the method allow to be measured.

    Args:
        agent: to be measured.
        worlds: say what is measured, and draw the goals.
        skills: episodes for coverage and return.
        goals: of zero-shot goal reaching.
        seed: of skills, goals, worlds and actions.
        plot_range: half the side of pictures of the plane; None: as far as skills go.
    """
    found: list[Evaluator] = [SkillRollouts(worlds, skills, seed, plot_range)]
    if not worlds.has_goals or not agent.objective.cfg.skill_dim:
        return found
    if not agent.objective.reaches_goals():
        log.warning("%s has no rule to reach a goal; eval/goal is left out", agent.objective.cfg.name)
        return found
    found.append(ZeroShotGoals(worlds, goals, seed))
    if agent.objective.prior == "one_hot" and agent.objective.goal_from_here:
        found.append(ZeroShotGoals(worlds, goals, seed, single=True))
    return found
