"""Candidates that a bound compares with each other, selected from the scores of all skills."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["all", "batch", "fresh", "states"]


class Candidates(NamedTuple):
    """Scores of the candidates of every row, of which one is its own."""

    scores: Tensor  # [B, K]
    own: Tensor  # [B] int64, column of the own candidate
    population: bool  # whether the candidates are all skills instead of samples of the prior


def every_skill(table: Tensor, skill: Tensor) -> Candidates:
    """All skills, from the scores of all skills [B, K] and each row's own skill [B] int64."""
    return Candidates(table, skill, True)


def batch_skills(table: Tensor, skill: Tensor) -> Candidates:
    """The skills of the batch, [B, B]: column j has the skill of row j, which other rows may have too."""
    return Candidates(table[:, skill], _diagonal(table), False)


def fresh_skills(table: Tensor, skill: Tensor, drawn: Tensor) -> Candidates:
    """The own skill, then M skills `drawn` from the prior [M] int64 and shared by the batch, [B, M + 1]."""
    own = table.gather(-1, skill[:, None])
    return Candidates(torch.cat([own, table[:, drawn]], -1), torch.zeros_like(skill), False)


def batch_states(table: Tensor, skill: Tensor) -> Candidates:
    """The states of the batch for the skill of the row, [B, B]: column j has the state of row j."""
    return Candidates(table[:, skill].T, _diagonal(table), False)


def _diagonal(table: Tensor) -> Tensor:
    return torch.arange(len(table), device=table.device)
