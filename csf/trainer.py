"""The training loop, which depends on protocols and not on methods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from csf.agents import Agent
from csf.core.signals import Stop
from csf.errors import NonFiniteError
from csf.io.logger import Logger
from csf.io.progress import Progress
from csf.learners import Learner, RunEpoch
from csf.types import Evaluator, Sampler


@dataclass
class Counters:
    """Progress of a run."""

    epoch: int = 0
    env_steps: int = 0
    taken: int = 0  # environment steps of the latest epoch

    def count(self, env_steps: int) -> None:
        """Count an epoch."""
        self.epoch += 1
        self.env_steps += env_steps
        self.taken = env_steps

    def full_state(self) -> dict[str, Any]:
        """All counters."""
        return vars(self).copy()

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        vars(self).update(state)


@dataclass(frozen=True)
class Schedule:
    """Length of a run and intervals of evaluation and saving, in epochs."""

    length: int
    episodes: int  # per epoch
    eval_every: int
    save_every: int
    unit: ClassVar[str] = "epoch"

    def done(self, counters: Counters) -> int:
        """How much of the length is done."""
        return counters.epoch

    def over(self, counters: Counters) -> bool:
        """Whether the run has ended."""
        return self.done(counters) >= self.length

    def evaluates(self, counters: Counters) -> bool:
        """Whether to evaluate: before the first epoch, then at every interval, and at the end."""
        return self._due(counters, self.eval_every) or self.over(counters)

    def saves(self, counters: Counters) -> bool:
        """Whether to save: at every interval, and at the end."""
        return self._due(counters, self.save_every) or self.over(counters)

    def _due(self, counters: Counters, every: int) -> bool:
        return counters.epoch % every == 0


class StepSchedule(Schedule):
    """Length and intervals in environment steps, each rounded up to the end of an epoch."""

    unit = "environment step"

    def done(self, counters: Counters) -> int:
        """How many environment steps are done."""
        return counters.env_steps

    def _due(self, counters: Counters, every: int) -> bool:
        before = counters.env_steps - counters.taken
        return not counters.env_steps or counters.env_steps // every > before // every


@dataclass
class Trainer:
    """Runs the epochs: collect, learn, evaluate, log, save."""

    agent: Agent
    sampler: Sampler
    learner: Learner
    run_epoch: RunEpoch
    evaluators: Sequence[Evaluator]
    eval_sampler: Sampler
    logger: Logger
    counters: Counters
    schedule: Schedule
    save: Callable[[dict[str, float]], None]  # receives the metrics of the latest evaluation
    results: dict[str, float] = field(default_factory=dict)
    begun: bool = False  # whether a checkpoint was restored, which may be that of epoch 0

    def run(self, progress: Progress, stop: Stop) -> None:
        """Train to the end, or to the end of the epoch in which a signal arrives, and save.

        Raises:
            NonFiniteError: a metric is not finite; the epoch is neither logged nor saved.
        """
        saved = self.counters.epoch if self.begun else None  # the epoch of the latest checkpoint
        if saved is None:
            self._finish({}, progress)
        while not self.schedule.over(self.counters) and not stop.asked():
            epoch = self.counters.epoch + 1
            try:
                self._finish(self._train(), progress)
            except NonFiniteError as error:
                raise NonFiniteError(f"{error} in epoch {epoch}", error.evidence) from error
            if self.schedule.saves(self.counters):
                self.save(self.results)
                saved = self.counters.epoch
        if saved != self.counters.epoch:  # stopped by a signal
            self.save(self.results)

    def _train(self) -> dict[str, float]:
        """Collect episodes and update the agent; returns the metrics of the epoch."""
        skills = self.agent.objective.sample_skills(self.schedule.episodes)
        found = self.run_epoch(self.sampler, skills)
        episodes = found.episodes
        self.counters.count(episodes.env_steps())
        kept = episodes.length > 0
        final = episodes.coord[torch.arange(len(kept)), episodes.length]
        displacement = (final - episodes.coord[:, 0]).norm(dim=-1)
        return {
            "time/collect": found.collect,
            "time/learn": found.learn,
            "time/learn_cpu": found.learn_cpu,  # of this thread; less than the line above where it waits for a core
            "episode/return": episodes.reward.sum(1)[kept].mean().item(),
            "episode/displacement": displacement[kept].mean().item(),
            "episode/discarded": float((~kept).sum()),
            **found.metrics,
        }

    def _finish(self, row: dict[str, float], progress: Progress) -> None:
        """Evaluate if due, and log the epoch."""
        images: dict[str, np.ndarray] = {}
        if self.schedule.evaluates(self.counters):
            start = time.perf_counter()
            for evaluator in self.evaluators:
                found = evaluator.run(self.agent, self.eval_sampler)
                self.results.update(found.metrics)
                row = {**row, **found.metrics}
                images.update(found.images)
            row["time/eval"] = time.perf_counter() - start
        for name, value in row.items():
            if not math.isfinite(value):
                raise NonFiniteError(f"{name} is {value}")
        counts = {"env_steps": self.counters.env_steps, "gradient_steps": self.learner.gradient_steps}
        row = {"epoch": self.counters.epoch, **counts, **row}
        self.logger.write(row, images)
        progress.update(row)
