"""Evaluation that leaves no trace in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from csf.agents import Agent


@contextmanager
def isolated(agent: Agent, seed: int) -> Iterator[None]:
    """Inside, PyTorch draws from `seed` and modules are in evaluation mode; afterwards all is as before."""
    device = agent.objective.device()
    training = {module: module.training for module in agent.modules()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        agent.eval()
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
