"""Estimates what learning from images costs: gradient steps on the CPU, and rendering."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from csf.agents import Agent
from csf.types import Batch, Rollout, SomeObs, Worlds

ROWS = 8  # transitions in the timed update; the cost of products and convolutions is proportional to them


class Cost(NamedTuple):
    """Cost of one gradient step."""

    flops: float  # floating-point operations in products and convolutions
    seconds: float


class Rendering(NamedTuple):
    """Cost of rendering the images that are observed."""

    epoch: int  # images while an epoch collects
    evaluation: int  # images of an evaluation
    seconds: float  # per image


def update_cost(agent: Agent, batch_size: int, clock: Callable[[], float] = time.perf_counter) -> Cost:
    """Count and time one gradient step on random transitions; the agent is changed, the random state is not.

    Args:
        agent: agent on the CPU that is not used for anything else.
        batch_size: transitions per gradient step.
        clock: returns seconds.
    """
    with torch.random.fork_rng([]):
        rows = min(batch_size, max(ROWS, agent.objective.least_batch, agent.backbone.least_batch))
        batch = _random_batch(agent, rows)
        with FlopCounterMode(display=False) as counter:
            agent.update(batch)
        start = clock()
        agent.update(batch)
        seconds = clock() - start
    scale = batch_size / rows
    return Cost(counter.get_total_flops() * scale, seconds * scale)


def image_seconds(worlds: Worlds) -> float:
    """Measure the time per observed image by resetting worlds, which must be reset again before they are used."""
    worlds.reset(seed=0)  # the first images take longer, because the renderer is created
    start = time.perf_counter()
    worlds.reset(seed=0)
    return (time.perf_counter() - start) / worlds.num_envs


def describe_rendering(cost: Rendering) -> str:
    """What an epoch and an evaluation render, as text for a message."""
    parts = ((f"{images:,} images, {_about(images * cost.seconds)}") for images in (cost.epoch, cost.evaluation))
    return "renders {}; an evaluation renders {}".format(*parts)


def describe_cost(updates: int, cost: Cost, rendering: Rendering, faster: Sequence[str]) -> str:
    """The costs of learning on the CPU, as a message; `faster` are settings that reduce them."""
    return (
        f"learning from images on the CPU: an epoch makes {updates} updates of {cost.flops / 1e9:.3g} GFLOP, "
        f"{_about(updates * cost.seconds)}, and {describe_rendering(rendering)}; faster: {', '.join(faster)}"
    )


def _about(seconds: float) -> str:
    if seconds > 90 * 60:
        return f"about {seconds / 3600:.1f} hours"
    if seconds > 90:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds:.0f} seconds" if seconds >= 1.5 else "about a second"


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
