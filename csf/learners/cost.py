"""Estimates what an epoch's gradient steps cost on the CPU."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from csf.agents import Agent
from csf.types import Batch, Rollout, SomeObs

ROWS = 8  # transitions in the timed update; the cost of products and convolutions is proportional to them


class Cost(NamedTuple):
    """Cost of one gradient step."""

    flops: float  # floating-point operations in products and convolutions
    seconds: float


def update_cost(agent: Agent, batch_size: int) -> Cost:
    """Count and time one gradient step on random transitions; the agent is changed, the random state is not.

    Args:
        agent: agent on the CPU that is not used for anything else.
        batch_size: transitions per gradient step.
    """
    with torch.random.fork_rng([]):
        rows = min(batch_size, max(ROWS, agent.objective.least_batch, agent.backbone.least_batch))
        batch = _random_batch(agent, rows)
        with FlopCounterMode(display=False) as counter:
            agent.update(batch)
        start = time.perf_counter()
        agent.update(batch)
        seconds = time.perf_counter() - start
    scale = batch_size / rows
    return Cost(counter.get_total_flops() * scale, seconds * scale)


def _random_batch(agent: Agent, rows: int) -> Any:
    """Random transitions of the kind that the agent's learner collects."""
    spec = agent.spec

    def array(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        whole = (rows, *shape)
        return torch.randint(256, whole, dtype=torch.uint8) if dtype == "uint8" else torch.randn(whole)

    obs, next_obs = (spec.build_obs(array) for _ in range(2))
    action = torch.eye(spec.action_dim)[torch.randint(spec.action_dim, (rows,))]
    zero: SomeObs = torch.zeros(rows)
    batch = Batch(obs, action, next_obs, zero, zero, agent.objective.evaluation_skills(rows))
    return Rollout(*batch, zero, torch.randn(rows), zero) if agent.backbone.learner == "rollout" else batch
