"""What a study would take: jobs, steps, and hours from rates that are measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch

from csf.agents import Agent
from csf.config import compose
from csf.config.schema import AdaptConfig, Config
from csf.core.device import use_threads
from csf.io import checkpoint
from csf.learners import EpochBudget, learners
from csf.learners.cost import update_cost
from csf.pretrained import worlds_of
from csf.sampler import RolloutSampler
from csf.study.plan import ADAPTATION, Study, digest
from csf.types import EnvSpec, Growing
from csf.worlds import describe

STEPS, UPDATES = 50, 5  # of an episode and of an epoch that are timed
IMAGE_STEPS = 10  # of an episode with images, each of which is rendered
ADAM = 3  # a parameter and its two moments


class Rates(NamedTuple):
    """How fast a core of this machine is with one configuration, whatever else it runs."""

    per_step: float  # seconds of the core per environment step
    per_update: float  # the same per gradient step
    length: int  # environment steps of an episode


class Cost(NamedTuple):
    """Cost of runs."""

    steps: float  # environment steps
    updates: float
    hours: float  # of one core


def cost(study: Study) -> list[Cost]:
    """Estimate the cost of each run and adaptation that a study still needs, without other measurements.

    Rates are measured once per configuration. Steps are counted as if no episode ended early.
    """
    use_threads(1)
    measured: dict[str, Rates] = {}
    found = []
    for cfg, epochs in _needed(study):
        key = digest([str({**cfg.tree, "seed": 0, "run_name": "", "variant": ""})])
        if key not in measured:
            measured[key] = rates(cfg)
        found.append(cost_of(cfg, epochs, measured[key]))
    return found


def cost_of(cfg: Config | AdaptConfig, epochs: int, measured: Rates) -> Cost:
    """The cost of one run or adaptation at known rates."""
    if isinstance(cfg, AdaptConfig):
        steps, updates = float(cfg.task.steps), cfg.task.steps * cfg.task.updates_per_step
    else:
        steps = float(epochs * cfg.task.episodes_per_epoch * measured.length)
        updates = float(epochs * cfg.task.updates_per_epoch)
    return Cost(steps, updates, (steps * measured.per_step + updates * measured.per_update) / 3600)


def _needed(study: Study) -> Iterator[tuple[Config | AdaptConfig, int]]:
    """The configurations of what has not finished, with the number of epochs of pretraining."""
    for run in study.runs:
        if not run.finished():
            yield study.configs[run.folder], run.epochs
    for part in study.parts:
        if part.kind == ADAPTATION and not part.file.is_file():
            reference = [] if any(word.startswith("method=") for word in part.words) else ["method=scratch"]
            yield compose.check_adaptation([*part.words, *reference]), 0  # of the same size as the skills' policy


def rates(cfg: Config | AdaptConfig) -> Rates:
    """Measure the rates of a configuration in two short epochs, of which the second one is timed."""
    whole = _spec(cfg)
    length = whole.max_steps
    if whole.has_image:
        return _image_rates(cfg, length)
    count = cfg.task.episodes_per_epoch
    env = {**cfg.tree["env"], "max_steps": min(STEPS, length)}
    worlds = worlds_of({**cfg.tree, "env": env}, count, None, torch.device("cpu"))
    spec = describe(worlds, str(cfg.env["name"]))
    agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
    budget = EpochBudget(count, UPDATES, cfg.task.batch_size, 10_000, 1)
    learner, sampler = learners[agent.backbone.learner](agent, budget, "cpu"), RolloutSampler(worlds, spec, 0, "cpu")
    marks: list[float] = []
    for _ in range(2):
        skills = agent.objective.sample_skills(count)
        marks = [time.process_time()]
        episodes = learner.collect(sampler, skills)
        marks.append(time.process_time())
        learner.learn(episodes)
        marks.append(time.process_time())
    sampler.close()
    return Rates((marks[1] - marks[0]) / episodes.env_steps(), (marks[2] - marks[1]) / UPDATES, length)


def _image_rates(cfg: Config | AdaptConfig, length: int) -> Rates:
    """Measure the rates of a configuration with images, of whose slow gradient steps a part of one is timed."""
    worlds = worlds_of({**cfg.tree, "env": {**cfg.tree["env"], "max_steps": IMAGE_STEPS}}, 1, None, torch.device("cpu"))
    spec = describe(worlds, str(cfg.env["name"]))
    agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
    sampler = RolloutSampler(worlds, spec, 0, "cpu")
    seconds = 0.0
    for _ in range(2):  # the first images take longer, because the renderer is created
        start = time.process_time()
        episodes = sampler.collect(agent.act, agent.objective.sample_skills(1))
        seconds = time.process_time() - start
    sampler.close()
    return Rates(
        seconds / episodes.env_steps(), update_cost(agent, cfg.task.batch_size, time.process_time).seconds, length
    )


def disk(cfg: Config) -> float:
    """Return the bytes that a run of csf train takes in the end, without logs and pictures."""
    spec, task = _spec(cfg), cfg.task
    agent = Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)
    epoch = task.episodes_per_epoch * spec.max_steps
    # A replay buffer of this size can take gigabytes: one of an epoch is made instead.
    small = replace(EpochBudget.of(task), replay_size=min(epoch, task.replay_size))
    parts = learners[agent.backbone.learner](agent, small, "cpu").parts().values()
    share = min(task.replay_size, task.epochs * epoch) / small.replay_size
    growing = share * sum(part.nbytes for part in parts if isinstance(part, Growing))
    kept = agent.state_dict() if task.keep_critics else agent.policy_state()
    policy, whole = (sum(each.nbytes for each in state.values()) for state in (kept, agent.state_dict()))
    saved = checkpoint.saved_epochs(task.epochs, task.save_every)
    policies = len(checkpoint.milestones(saved, task.keep_policy_every)) + task.keep_full
    full = min(task.keep_full, len(saved)) * ADAM * whole
    return growing + policies * policy + full


def _spec(cfg: Config | AdaptConfig) -> EnvSpec:
    """Describe the environment of a configuration."""
    worlds = worlds_of(cfg.tree, 1, None, torch.device("cpu"))
    try:
        return describe(worlds, str(cfg.env["name"]))
    finally:
        worlds.close()
