"""Weights in oneDNN's own layout, in which it multiplies the few rows of a policy's call about twice as fast.

Packing a weight takes as long as several products, so only policies use packed weights: they are called hundreds of
times between two updates. From two rows on, the results are those of oneDNN with plain weights, bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from csf.core import products

LEAST = 2**20  # multiplications below which a float32 product is not faster with a packed weight


class _Thread(threading.local):
    acting = False  # one thread may act while another one trains


_thread = _Thread()


@contextmanager
def acting() -> Iterator[None]:
    """Context in which wide layers multiply by packed weights, in the current thread and without gradients."""
    before, _thread.acting = _thread.acting, True
    try:
        with torch.no_grad():
            yield
    finally:
        _thread.acting = before


def packs(x: Tensor, weight: Tensor) -> bool:
    """Whether the product of [..., I] by [O, I], on the CPU, should use a packed copy of the weight."""
    if not _thread.acting or torch.is_grad_enabled() or torch.compiler.is_compiling() or not _supported():
        return False
    faster = products.FASTER and x.numel() * weight.shape[0] >= LEAST if x.dtype == torch.float32 else True
    # A change of an inference tensor cannot be detected.
    return faster and x.dtype == weight.dtype and weight.device.type == "cpu" and not weight.is_inference()


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., I] -> [..., O] by the packed copy of a weight [O, I], which is renewed if the weight has changed."""
    packed: _Packed | None = getattr(weight, "packed", None)
    if packed is None or packed.state != (weight._version, weight.data_ptr()):
        packed = _Packed(weight)
        keeper: Any = weight
        keeper.packed = packed
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed.factor, bias, "none", [], "")
    return product


class _Packed:
    """A packed weight, and the state of the weight at that time; copied and pickled without it."""

    def __init__(self, weight: Tensor | None = None) -> None:
        self.state = None if weight is None else (weight._version, weight.data_ptr())
        self.factor = None if weight is None else torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def __reduce__(self) -> tuple[type[_Packed], tuple[()]]:
        return _Packed, ()


@cache
def _supported() -> bool:
    """Whether PyTorch packs weights on this CPU; below AVX512 nothing has been measured."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
