"""Which entries of an observation a critic depends on: three measures for each entry.

With entries that no action affects, they test whether a representation corresponds to what can be controlled.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from csf.agents import Agent

BINS = 10
SHUFFLES = 5  # of the skills, whose mean information is the bias of the estimate
RIDGE = 1e-3  # relative to the number of states


def information(states: Tensor, skill: Tensor, skills: int) -> Tensor:
    """I(s_i; z) in nats of every entry, [O], from a histogram over quantiles, less that of shuffled skills.

    Args:
        states: [N, O].
        skill: indices of skills, [N] int64.
        skills: K.
    """
    order = [torch.randperm(len(skill), generator=torch.Generator().manual_seed(i)) for i in range(SHUFFLES)]
    bins = torch.stack([_quantile_bins(column) for column in states.T])  # [O, N]
    found = torch.stack([_mutual(row, skill, skills) for row in bins])
    bias = torch.stack([torch.stack([_mutual(row, skill[each], skills) for each in order]).mean() for row in bins])
    return found - bias


def _quantile_bins(column: Tensor) -> Tensor:
    """The bin of every value, [N] int64; equal values share a bin."""
    edges = column.double().quantile(torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1])
    return torch.bucketize(column.double(), edges)


def _mutual(row: Tensor, skill: Tensor, skills: int) -> Tensor:
    joint = torch.zeros(BINS * skills, dtype=torch.float64)
    joint.scatter_add_(0, row * skills + skill, torch.ones(len(row), dtype=torch.float64))
    p = joint.view(BINS, skills) / len(row)
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    return (p * (p.clamp(min=1e-12) / independent.clamp(min=1e-12)).log()).sum()


def saliency(agent: Agent, states: Tensor, skill: Tensor) -> Tensor:
    """Mean |d log q(z|s) / d s_i| times the standard deviation of the entry, [O].

    q is the softmax over all skills of the critic's scores, whatever its bound; the product has no unit.
    """
    x = states.clone().requires_grad_()
    scores = agent.objective.represent(x)
    assert scores is not None
    own = scores.log_softmax(-1).gather(-1, skill[:, None]).sum()
    (gradient,) = torch.autograd.grad(own, x)
    return gradient.abs().mean(0) * states.std(0)


def features(agent: Agent, states: Tensor) -> Tensor:
    """Inputs of the last layer of the critic's network for states, [N, F]."""
    network = cast(nn.Sequential, agent.objective.body())
    with torch.no_grad():
        kept: Tensor = network[:-1](states)
    return kept


def probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Tensor:
    """R^2 of a linear prediction of every entry of the states from features, [O], at least 0.

    Args:
        train: features [N, F] and states [N, O] on which the prediction is fitted, with a small ridge.
        test: the same of other episodes, on which it is measured.
    """
    (x, y), (x_test, y_test) = ([part.double() for part in pair] for pair in (train, test))
    mean, scale, middle = x.mean(0), x.std(0).clamp(min=1e-6), y.mean(0)
    x, x_test = (x - mean) / scale, (x_test - mean) / scale
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    predicted = x_test @ torch.linalg.solve(gram, x.T @ (y - middle)) + middle
    left = (y_test - predicted).square().mean(0)
    return (1 - left / y_test.var(0, correction=0).clamp(min=1e-12)).clamp(min=0)
