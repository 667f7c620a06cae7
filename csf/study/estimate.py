"""What a study would take: jobs, steps, and hours from rates that are measured on this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import torch

from csf.agents import Agent
from csf.config.schema import Config
from csf.core.device import use_threads
from csf.learners import EpochBudget, learners
from csf.pretrained import worlds_of
from csf.sampler import RolloutSampler
from csf.study.plan import Study
from csf.worlds import describe

STEPS, UPDATES = 50, 20  # of an episode and of an epoch that are timed


class Cost(NamedTuple):
    """Cost of a study's runs that are not finished; measurements are not counted."""

    runs: int
    steps: float  # environment steps
    updates: float
    hours: float  # of one core


def cost(study: Study) -> Cost:
    """Estimate the cost of the pretraining runs that a study still needs; rates are measured once per configuration.

    Steps are counted as if no episode ended early.
    """
    use_threads(1)
    rates: dict[str, tuple[float, float, int]] = {}
    total = Cost(0, 0.0, 0.0, 0.0)
    for run in study.runs:
        if run.finished():
            continue
        cfg = study.configs[run.folder]
        kind = run.folder.parent.name
        if kind not in rates:
            rates[kind] = _rates(cfg)
        per_step, per_update, length = rates[kind]
        steps = float(cfg.task.epochs * cfg.task.episodes_per_epoch * length)
        updates = float(cfg.task.epochs * cfg.task.updates_per_epoch)
        hours = (steps * per_step + updates * per_update) / 3600
        total = Cost(total.runs + 1, total.steps + steps, total.updates + updates, total.hours + hours)
    return total


def _rates(cfg: Config) -> tuple[float, float, int]:
    """Seconds per environment step and per update, and the number of steps of an episode.

    Two short epochs are run and the second one is timed: what is done only once does not count.
    """
    whole = worlds_of(cfg.tree, 1, None, torch.device("cpu"))
    length = whole.max_steps
    whole.close()
    tree = {**cfg.tree, "env": {**cfg.tree["env"], "max_steps": min(STEPS, length)}}
    worlds = worlds_of(tree, cfg.task.episodes_per_epoch, None, torch.device("cpu"))
    spec = describe(worlds, str(cfg.env["name"]))
    agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
    budget = replace(EpochBudget.of(cfg.task), updates_per_epoch=UPDATES, replay_size=10_000, min_replay_size=1)
    learner, sampler = learners[agent.backbone.learner](agent, budget, "cpu"), RolloutSampler(worlds, spec, 0, "cpu")
    marks: list[float] = []
    for _ in range(2):
        skills = agent.objective.sample_skills(cfg.task.episodes_per_epoch)
        marks = [time.perf_counter()]
        episodes = learner.collect(sampler, skills)
        marks.append(time.perf_counter())
        learner.learn(episodes)
        marks.append(time.perf_counter())
    sampler.close()
    return (marks[1] - marks[0]) / episodes.env_steps(), (marks[2] - marks[1]) / UPDATES, length
