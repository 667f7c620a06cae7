"""What a learner does in an epoch: it collects episodes, then learns from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from csf.agents import Agent
from csf.learners.captured import CapturedPolicy, CapturedSteps
from csf.learners.updates import MakeSteps, make_steps
from csf.registry import Registry
from csf.types import Episodes, Metrics, Policy, Sampler, Stateful

learners: Registry[type[Learner]] = Registry("learner")


@dataclass(frozen=True)
class Budget:
    """What a learner may use; named as in the section `task` of the configuration."""

    episodes_per_epoch: int
    updates_per_epoch: int  # gradient steps
    batch_size: int  # transitions
    replay_size: int  # transitions
    min_replay_size: int  # transitions; no update before

    @classmethod
    def of(cls, task: Any) -> Budget:
        """The part of a section `task` that concerns a learner."""
        return cls(**{field.name: getattr(task, field.name) for field in fields(cls)})


class Learner(ABC):
    """Collects and learns; a backbone names the class that it needs in `Backbone.learner`.

    A subclass overrides `learn`, and `collect` if more than one policy acts. A state of its own goes into `full_state`
    and `load_full_state`; a large one may be a part of its own in `parts`.

    Attributes:
        agent: the agent that acts and learns.
        budget: what may be used per epoch.
        update: one gradient step on a batch; a compiled function may take its place.
        make_steps: how an epoch's gradient steps are made: one by one, or by replaying a graph of several.
        act: the policy that collects.
        gradient_steps: how many gradient steps have been made.
    """

    def __init__(self, agent: Agent, budget: Budget, device: torch.device | str) -> None:
        """Prepare learning; data that has to be kept is kept on `device`."""
        self.agent, self.budget, self.device = agent, budget, torch.device(device)
        self.update: Callable[[Any], Metrics] = agent.update
        self.make_steps: MakeSteps = make_steps
        self.act: Policy = agent.act
        self.gradient_steps = 0

    def capture(self) -> None:
        """From here on, replay gradient steps and acting as CUDA graphs; the learner is on a CUDA device."""
        self.make_steps, self.act = CapturedSteps(self.agent), CapturedPolicy(self.agent)

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        """At least one episode per row of `skills` [n, Z]; here, exactly one by the agent's policy."""
        return sampler.collect(self.act, skills)

    @abstractmethod
    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Learn from the episodes just collected; returns metrics, none if nothing was learned.

        Raises:
            NonFiniteError: a metric is not finite.
        """

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint keeps of the learner, by name."""
        return {"learner": self}

    def full_state(self) -> dict[str, Any]:
        """The number of gradient steps; the agent is a part of its own."""
        return {"gradient_steps": self.gradient_steps}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned."""
        self.gradient_steps = state["gradient_steps"]
