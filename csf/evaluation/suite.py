"""Selects the evaluators for an agent and its environment."""

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
    """Return the evaluators that the environment and the method support.

    Args:
        agent: the agent to evaluate.
        worlds: define metrics and goals; they are not stepped.
        skills: number of episodes for coverage and return.
        goals: number of goals for zero-shot goal reaching.
        seed: seeds skills, goals, worlds and actions.
        plot_range: plots show [-plot_range, plot_range]; None: the range of the data.
    """
    found: list[Evaluator] = [SkillRollouts(worlds, skills, seed, plot_range)]
    if not worlds.has_goals or not agent.objective.cfg.skill_dim:
        return found
    if not agent.objective.reaches_goals():
        log.warning("agent=%s cannot infer skills for goals; eval/goal is omitted", agent.objective.cfg.name)
        return found
    found.append(ZeroShotGoals(worlds, goals, seed))
    if agent.objective.prior == "one_hot" and agent.objective.goal_from_here:
        found.append(ZeroShotGoals(worlds, goals, seed, single=True))
    return found
