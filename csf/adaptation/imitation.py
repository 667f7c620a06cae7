"""Imitation: trains a policy to take a planner's actions, so that it can be adapted."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from csf.agents import Agent
from csf.core.optim import Minimizer
from csf.core.precision import refresh
from csf.types import Episodes, map_obs

BATCH = 256  # transitions
RATE = 1e-3  # learning rate


def imitate(target: Agent, episodes: Episodes, updates: int) -> float:
    """Train the mode of the agent's policy on the actions in the episodes; returns its mean squared error on them.

    Args:
        target: the task's agent.
        episodes: of the policy to imitate.
        updates: number of gradient steps.
    """
    actor, device = target.backbone.actor, target.objective.device()
    data = episodes.transitions()
    obs, action = map_obs(lambda rows: rows.to(device), data.obs), data.action.to(device)
    minimizer = Minimizer(actor.parameters(), RATE)

    def error(rows: torch.Tensor) -> torch.Tensor:
        seen = target.encode(map_obs(lambda each: each[rows], obs))
        mode = actor.distribution(seen, action.new_zeros(len(rows), 0)).mode
        return F.mse_loss(mode, action[rows])

    for _ in range(updates):
        # Parameters without influence on the mode, those of the standard deviation, have a gradient of 0.
        minimizer.step(error(torch.randint(len(action), (BATCH,), device=device)))
    refresh(target.parameters())
    with torch.no_grad():
        return float(error(torch.arange(len(action), device=device)))
