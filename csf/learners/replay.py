"""Off-policy learning: episodes are stored in a replay buffer, from which batches are sampled."""

from __future__ import annotations

import logging

import torch

from csf.agents import Agent
from csf.errors import ConfigError
from csf.learners.base import EpochBudget, Learner, learners
from csf.learners.updates import make_steps, run_updates
from csf.replay import ReplayBuffer
from csf.types import EnvSpec, Episodes, Stateful

log = logging.getLogger(__name__)

SHARE = 0.6  # of the free GPU memory, up to which images are stored there; the rest is for networks and batches


def make_replay(agent: Agent, budget: EpochBudget, device: torch.device | str) -> ReplayBuffer:
    """Allocate a replay buffer for the agent's transitions on `device`.

    Raises:
        ConfigError: the replay buffer is smaller than an epoch, or does not fit into memory.
    """
    size, steps = budget.replay_size, budget.episodes_per_epoch * agent.spec.max_steps
    if size < steps:
        raise ConfigError(f"task.replay_size is {size}; accepted: at least the {steps} transitions of an epoch")
    skill_dim, device = agent.objective.cfg.skill_dim, torch.device(device)
    try:
        return ReplayBuffer(size, agent.spec, skill_dim, device, _storage(size, agent.spec, skill_dim, device))
    except RuntimeError as error:  # PyTorch cannot allocate it
        raise ConfigError(f"task.replay_size is {size}, which does not fit into memory") from error


def _storage(size: int, spec: EnvSpec, skill_dim: int, device: torch.device) -> torch.device:
    """The device that has room for the replay buffer."""
    if device.type != "cuda" or not spec.has_image:
        return device
    needed = ReplayBuffer(size, spec, skill_dim, "meta").nbytes
    free, _ = torch.cuda.mem_get_info(device)
    if needed <= SHARE * free:
        return device
    log.warning(
        "the replay buffer is in host memory, because %s transitions take %.1f GB and the GPU has %.1f GB free; "
        "gradient steps run without CUDA graphs",
        f"{size:,}",
        needed / 1e9,
        free / 1e9,
    )
    return torch.device("cpu")


@learners("replay")
class ReplayLearner(Learner):
    """Stores episodes, then takes gradient steps on batches sampled from all stored transitions."""

    def __init__(self, agent: Agent, budget: EpochBudget, device: torch.device | str) -> None:
        """Allocate the replay buffer on `device`, or in host memory if it has images and the GPU has too little.

        Raises:
            ConfigError: the replay buffer is smaller than an epoch, or does not fit into memory.
        """
        super().__init__(agent, budget, device)
        self.replay = make_replay(agent, budget, device)

    def capture(self) -> None:
        """Replay acting as CUDA graphs, and gradient steps if batches are gathered on the GPU."""
        super().capture()
        if self.replay.upload is not None:  # a graph cannot read host memory that changes
            self.make_steps = make_steps

    def learn(self, episodes: Episodes) -> dict[str, float]:
        """Store the episodes, then update the agent as `improve` does."""
        self.store(episodes)
        return self.improve()

    def store(self, episodes: Episodes) -> None:
        """Add the episodes to the replay buffer."""
        self.replay.add(episodes)

    def improve(self, updates: int | None = None) -> dict[str, float]:
        """Update the agent on stored transitions, once there are at least `min_replay_size`; returns metrics.

        Args:
            updates: number of gradient steps; None: `updates_per_epoch`.

        Raises:
            NonFiniteError: a metric is not finite.
        """
        if len(self.replay) < self.budget.min_replay_size:
            return {}
        count = self.budget.updates_per_epoch if updates is None else updates
        metrics = run_updates(self.update, self.replay, count, self.budget.batch_size, self.make_steps)
        self.gradient_steps += count
        return metrics

    def parts(self) -> dict[str, Stateful]:
        """The learner and its replay buffer."""
        return {**super().parts(), "replay": self.replay}
