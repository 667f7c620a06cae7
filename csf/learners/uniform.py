"""Uniformly random actions, for collecting before there is a policy."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from csf.types import EnvSpec, Policy, SomeObs


def uniform_policy(spec: EnvSpec) -> Policy:
    """Return a policy with random actions [N, A], in [-1, 1] or one-hot, drawn from PyTorch's global generator."""

    def act(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        if spec.discrete:
            index = torch.randint(spec.action_dim, (len(skill),), device=skill.device)
            return F.one_hot(index, spec.action_dim).float()
        return 2 * torch.rand(len(skill), spec.action_dim, device=skill.device) - 1

    return act
