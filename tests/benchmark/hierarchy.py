"""How fast an epoch of a controller on AntMultiGoal is, beside what bounds it: `python tests/benchmark/hierarchy.py`.

8 episodes of 8 decisions of 25 steps, with skills of a CSF policy of the paper's size, then 50 gradient steps.
Collecting is compared with the physics within it, and with the same physics alone. Medians, measured in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import csf  # first: how threads wait is decided before PyTorch is loaded

# isort: split
import numpy as np
import torch

from csf.agents import Agent
from csf.config.compose import check
from csf.core.device import one_thread
from csf.hierarchy import SkillVectorEnv
from csf.io import checkpoint
from csf.learners import EpochBudget
from csf.learners.replay import ReplayLearner
from csf.sampler import RolloutSampler
from csf.worlds import describe, make_worlds

WITHIN = "physics within collect"


class Physics:
    """The worlds' physics with a clock in it, and the actions that reached it last."""

    def __init__(self, worlds: Any) -> None:
        self.worlds, self.below = worlds, worlds._advance
        worlds._advance = self
        self.actions: list[np.ndarray] = []
        self.seconds = 0.0

    def __call__(self, action: np.ndarray) -> Any:
        start = time.perf_counter()
        found = self.below(action)
        self.seconds += time.perf_counter() - start
        self.actions.append(action.copy())
        return found

    def within(self, collect: Callable[[], object]) -> float:
        """Seconds of physics within a collection."""
        self.actions, self.seconds = [], 0.0
        collect()
        return self.seconds

    def alone(self) -> None:
        """The same steps from other starts, and nothing else."""
        self.worlds.reset(seed=0)
        for action in self.actions:
            self.below(action)


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=7, help="measurements of each phase")
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    cfg = check(["env=ant_multi_goal", "task=hierarchical", *given.overrides])
    torch.set_num_threads(cfg.threads or len(os.sched_getaffinity(0)))
    parts, physics = phases(cfg)
    times: dict[str, list[float]] = {name: [] for name in [*parts, WITHIN]}
    for number in range(given.repeat + 1):
        for name, phase in parts.items():
            start, inside = time.perf_counter(), 0.0
            if name == "collect":
                inside = physics.within(phase)
            else:
                phase()
            if number:  # the first is to warm up
                times[name].append(time.perf_counter() - start)
                times[WITHIN] += [inside] if inside else []
    report(times)


def phases(cfg: Any) -> tuple[dict[str, Callable[[], object]], Physics]:
    """An epoch's episodes, their physics and their skills' policy alone, and its gradient steps; and the physics."""
    base = check(["agent=csf", "env=ant"])
    ants = make_worlds(base.env, 1)
    child = Agent(base.agent, base.backbone, describe(ants, "ant"))
    ants.close()
    own: Any = make_worlds(cfg.env, cfg.task.episodes_per_epoch)
    physics = Physics(own)
    env: Any = SkillVectorEnv(own, child, cfg.hold)
    spec = describe(env, "ant_multi_goal")
    agent = Agent(cfg.agent, cfg.backbone, spec)
    sampler = RolloutSampler(env, spec, 0, "cpu", cfg.task.terminal_at_limit)
    none = agent.objective.sample_skills(cfg.task.episodes_per_epoch)
    budget = dataclasses.replace(EpochBudget.of(cfg.task), min_replay_size=1)
    learner = ReplayLearner(agent, budget, "cpu")
    episodes = sampler.collect(agent.act, none)

    def policy() -> None:
        obs, skill = torch.zeros(len(none), child.spec.obs_dim), torch.ones(len(none), child.objective.cfg.skill_dim)
        with one_thread(torch.device("cpu")):
            for _ in physics.actions:
                child.act(obs, skill, True)

    return {
        "collect": lambda: sampler.collect(agent.act, none),
        "physics alone": physics.alone,
        "policy of the skills alone": policy,
        "learn": lambda: learner.learn(episodes),
    }, physics


def report(times: dict[str, list[float]]) -> None:
    """Print medians and the part of the physics."""
    middle = {name: statistics.median(values) for name, values in times.items()}
    sys.stdout.write(
        f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {platform.machine()}, "
        f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}, load {os.getloadavg()[0]:.1f}\n"
    )
    for name, values in times.items():
        sys.stdout.write(f"{name:<32} {middle[name]:7.3f} s   ({min(values):.3f} to {max(values):.3f})\n")
    share = middle[WITHIN] / middle["collect"]
    sys.stdout.write(
        f"physics within collect / collect: {share:.0%}\nepoch: {middle['collect'] + middle['learn']:.2f} s\n"
    )


if __name__ == "__main__":
    main()
