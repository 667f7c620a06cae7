"""One Adam optimizer per loss, so that a step never changes the parameters of another part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from csf.core.precision import computed_with, refresh


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Context in which losses have no gradient with respect to a module's parameters, so that none is computed."""
    leaves = [leaf for param in module.parameters() if (leaf := computed_with(param)).requires_grad]
    try:
        for leaf in leaves:
            leaf.requires_grad_(False)
        yield
    finally:
        for leaf in leaves:
            leaf.requires_grad_(True)


class Minimizer:
    """Fused Adam for one group of parameters; a step has no host sync."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, max_norm: float = 0.0
    ) -> None:
        """Create the optimizer.

        Args:
            params: parameters that a step changes.
            lr: learning rate.
            weight_decay: lambda; lambda times the parameter is added to its gradient, as in Adam, not AdamW.
            max_norm: norm of the gradient of all parameters together, to which a larger one is scaled; 0: unlimited.
        """
        self.params, self.max_norm = list(params), max_norm
        self.adam = torch.optim.Adam(self.params, lr=lr, weight_decay=weight_decay, fused=True)

    def include(self, params: Iterable[nn.Parameter]) -> None:
        """Also optimize other parameters from now on."""
        added = list(params)
        self.params += added
        self.adam.add_param_group({"params": added})

    def step(self, loss: Tensor) -> Tensor:
        """Take one Adam step on `loss` [] for this group only; returns the loss, detached."""
        leaves = [computed_with(param) for param in self.params]
        for param, grad in zip(self.params, torch.autograd.grad(loss, leaves), strict=True):
            # Fused Adam requires parameter and gradient with equal strides. Unlike backward(), grad() does not ensure
            # this: the gradient of a convolution has the strides of its input.
            fits = grad.dtype == param.dtype and grad.stride() == param.stride()
            param.grad = grad if fits else torch.empty_like(param).copy_(grad)
        if self.max_norm:
            nn.utils.clip_grad_norm_(self.params, self.max_norm)
        self.adam.step()
        # Fused Adam does not count its changes, by which copies of parameters are known to be outdated.
        torch.autograd.graph.increment_version(self.params)
        refresh(self.params)
        return loss.detach()

    @contextmanager
    def capturable(self) -> Iterator[None]:
        """Inside, a step may be recorded as part of a CUDA graph.

        Fused Adam computes the same either way and has its step counts on the device; PyTorch only wants to be told.
        The flag is taken back, so that it is in no checkpoint: those made with and without graphs are alike.
        """
        groups = self.adam.param_groups
        before = [group["capturable"] for group in groups]
        try:
            for group in groups:
                group["capturable"] = True
            yield
        finally:
            for group, value in zip(groups, before, strict=True):
                group["capturable"] = value

    def state(self) -> list[Tensor]:
        """Moments and step counts, which stay where they are from the first step on."""
        return [value for kept in self.adam.state.values() for value in kept.values() if isinstance(value, Tensor)]

    def full_state(self) -> dict[str, Any]:
        """Adam's moments and step counts."""
        return self.adam.state_dict()

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        self.adam.load_state_dict(state)
