"""One Adam per loss, so that a step never touches another part's parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Minimizer:
    """Fused Adam over one group of parameters; a step reads no value on the host."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        self.params = list(params)
        self.adam = torch.optim.Adam(self.params, lr=lr, fused=True)

    def step(self, loss: Tensor) -> Tensor:
        """Follow the gradient of `loss` [] for this group alone; returns the loss, detached."""
        for param, grad in zip(self.params, torch.autograd.grad(loss, self.params), strict=True):
            # Fused Adam reads both in the order of memory. Unlike backward(), grad() does not make the strides agree:
            # the gradient of a convolution has those of its input.
            param.grad = grad if grad.stride() == param.stride() else torch.empty_like(param).copy_(grad)
        self.adam.step()
        return loss.detach()

    def full_state(self) -> dict[str, Any]:
        """Moments and step counts."""
        return self.adam.state_dict()

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Take over what `full_state` returned."""
        self.adam.load_state_dict(state)
