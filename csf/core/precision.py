"""Matrix products of wide layers, and convolutions, in bfloat16, beside float32 parameters.

A wide weight keeps a bfloat16 working copy that every product reads; gradients are taken with respect to the copy, the
optimizer follows them in the float32 parameter, and the copy is refreshed after each step. Weights are not cast again
for every product, which would cost as much as the products save. Biases, activations, narrow layers (inputs and
heads), losses and the optimizer stay in float32; only activations between convolutions are in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csf.core import packed
from csf.core.products import multiply, use_onednn

Precision = Literal["float32", "bf16", "bf16_all"]

WIDE = 256  # inputs and outputs that a layer has at least for bfloat16 to pay
CONVOLUTION = 4  # axes of a convolution's weight; for convolutions over images, bfloat16 pays at any width


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[..., I] -> [..., O] by weight [O, I], through its working copy where it has one."""
    copy = _copy(weight)
    if copy is None:
        if packed.packs(x, weight):
            return packed.multiply(x, weight, bias)
        return multiply(x, weight, bias) if use_onednn(x, weight) else F.linear(x, weight, bias)
    x, dtype = x.to(copy.dtype), x.dtype
    y = (packed.multiply(x, copy) if packed.packs(x, copy) else F.linear(x, copy)).to(dtype)
    return y if bias is None else y + bias


def ensemble_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[E, B, I] -> [E, B, O] by weights [E, I, O] and biases [E, 1, O], likewise."""
    copy = _copy(weight)
    if copy is None and use_onednn(x[0], weight[0]):
        heads = zip(x, weight.unbind(), bias.unbind(), strict=True)
        return torch.stack([multiply(rows, factor.t(), offset.squeeze(0)) for rows, factor, offset in heads])
    if copy is None:
        return torch.baddbmm(bias, x, weight)
    return torch.bmm(x.to(copy.dtype), copy).to(x.dtype) + bias


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], scale: float | None = None
) -> Tensor:
    """[B, I, H, W] -> [B, O, H', W'] by weight [O, I, K, K], in the dtype of its working copy where it has one.

    Args:
        x: inputs of any dtype.
        weight: weight.
        bias: [O], or None.
        stride: step of the kernel along H and W.
        scale: factor of the inputs; None: 1. The weight is multiplied by it, which has far fewer entries.
    """
    copy = _copy(weight)
    factor = weight if copy is None else copy
    offset = None if bias is None else bias.to(factor.dtype)
    return F.conv2d(x.to(factor.dtype), factor if scale is None else factor * scale, offset, stride)


class Multiplies(Protocol):
    """A module that multiplies by its weights with the functions above."""

    def factors(self) -> Iterable[Tensor]:
        """The weights."""
        ...


def make_copies(module: nn.Module, differences: bool) -> None:
    """Give a working copy to every wide weight and every convolution in a module, after it is on its device.

    Args:
        module: an agent, or a part of one.
        differences: whether networks with the attribute `small_differences` get copies too. Their outputs are
            subtracted from each other, and the rounding of bfloat16 is of the order of the difference.
    """
    exact = {
        part for whole in module.modules() if getattr(whole, "small_differences", False) for part in whole.modules()
    }
    layers: list[Any] = [layer for layer in module.modules() if hasattr(layer, "factors")]
    kept = [layer for layer in layers if differences or layer not in exact]
    for weight in (weight for layer in kept for weight in layer.factors()):
        if weight.dim() == CONVOLUTION or min(weight.shape[-2:]) >= WIDE:
            copy = weight.detach().to(torch.bfloat16)
            weight.working_copy = copy.requires_grad_(weight.requires_grad)


@torch.no_grad()
def refresh(params: Iterable[Tensor]) -> None:
    """Bring working copies up to date with their parameters."""
    pairs = [(copy, param) for param in params if (copy := _copy(param)) is not None]
    if pairs:
        torch._foreach_copy_([copy for copy, _ in pairs], [param for _, param in pairs])


def computed_with(param: Tensor) -> Tensor:
    """The tensor that products read for a parameter, with respect to which its gradient is taken."""
    copy = _copy(param)
    return param if copy is None else copy


def has_instructions(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 numbers in hardware; a CPU without the instructions emulates them."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _copy(param: Tensor) -> Tensor | None:
    return getattr(param, "working_copy", None)
