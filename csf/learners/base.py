"""Base class of learners, which collect episodes and learn from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from csf.agents import Agent
from csf.learners.captured import CapturedSteps
from csf.learners.updates import MakeSteps, make_steps
from csf.registry import Registry
from csf.types import Episodes, Metrics, Policy, Sampler, Stateful

learners: Registry[type[Learner]] = Registry("learner")


@dataclass(frozen=True)
class EpochBudget:
    """Limits of a learner per epoch; fields have the same names as in the section `task` of the configuration."""

    episodes_per_epoch: int
    updates_per_epoch: int  # gradient steps
    batch_size: int  # transitions
    replay_size: int  # transitions
    min_replay_size: int  # transitions collected before the first update

    @classmethod
    def of(cls, task: Any) -> EpochBudget:
        """Take the fields that concern a learner from a section `task`."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls)})


class Learner(ABC):
    """Collects episodes and learns from them; `Backbone.learner` is the registered name of the class to use.

    Subclasses override `learn`, and `collect` if more than one policy acts. They add their state to `full_state` and
    `load_full_state`; a large state can be returned as a separate part by `parts`.

    Attributes:
        agent: the agent that acts and learns.
        budget: limits per epoch.
        update: takes one gradient step on a batch; may be replaced by a compiled function.
        make_steps: takes an epoch's gradient steps, one by one or by replaying a CUDA graph of several.
        act: the policy that collects.
        gradient_steps: number of gradient steps so far.
    """

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str) -> None:
        """Create the learner; stored data is kept on `device`."""
        self.agent, self.budget, self.device = agent, budget, torch.device(device)
        self.update: Callable[[Any], Metrics] = agent.update
        self.make_steps: MakeSteps = make_steps
        self.act: Policy = agent.act
        self.gradient_steps = 0

    def capture(self) -> None:
        """Replay gradient steps as CUDA graphs from now on; requires a CUDA device."""
        self.make_steps = CapturedSteps(self.agent)

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """Collect at least one episode per row of `skills` [n, Z]; by default exactly one, with the agent's policy."""
        return sampler.collect(self.act, skills)

    @abstractmethod
    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Learn from the episodes just collected; returns metrics, empty if there was no update.

        Raises:
            NonFiniteError: a metric is not finite.
        """

    def parts(self) -> dict[str, Stateful]:
        """Components of the learner that are saved in checkpoints, by name."""
        return {"learner": self}

    def full_state(self) -> dict[str, Any]:
        """The number of gradient steps; the agent is saved separately."""
        return {"gradient_steps": self.gradient_steps}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        self.gradient_steps = state["gradient_steps"]
