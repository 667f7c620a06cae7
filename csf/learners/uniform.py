"""Uniformly random actions, for collecting before there is a policy."""

from __future__ import annotations

from torch import Tensor

from csf.types import EnvSpec, Policy, SomeObs


def uniform_policy(spec: EnvSpec) -> Policy:
    """Return a policy with random actions [N, A], in [-1, 1] or one-hot, drawn from PyTorch's global generator."""

    def act(obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        return spec.random_actions(len(skill), skill.device)

    return act
