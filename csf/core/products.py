"""Float32 matrix products on the CPU, computed by oneDNN where it is faster than PyTorch's default library.

PyTorch multiplies float32 matrices with MKL, which uses AVX512 on Intel's CPUs only. On CPUs of other vendors that have
AVX512, oneDNN is about twice as fast. Results of the two libraries differ in rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")
LEAST = 2**22  # multiplications below which the overhead of a call to oneDNN exceeds the gain


def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL on this machine's CPU."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and CPU_INFO.exists() and "GenuineIntel" not in CPU_INFO.read_text()


FASTER = onednn_is_faster()


def use_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether `multiply` is to replace PyTorch's own product of [..., I] by [O, I].

    Compiled code keeps PyTorch's own: its compiler takes oneDNN's operator only for weights that never change.
    """
    if torch.compiler.is_compiling() or not FASTER:
        return False
    rows = x.numel() // max(x.shape[-1], 1)
    large = rows * weight.shape[-1] * weight.shape[-2] >= LEAST
    return large and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., I] -> [..., O] by weight [O, I] of any strides and bias [O], differentiable to any order."""
    rows = _apply(x.reshape(-1, x.shape[-1]), weight, bias)
    return rows.view(*x.shape[:-1], weight.shape[0])


class _Product(torch.autograd.Function):
    """[B, I], [O, I], [O] -> [B, O]; oneDNN's operator has no derivative of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            _apply(grad, weight.t(), None) if to_x else None,
            _weight_gradient(grad, x, weight) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


_apply: Callable[..., Tensor] = _Product.apply


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The product of grad [B, O] and x [B, I], [O, I], with the strides of the weight, which saves a copy."""
    if weight.is_contiguous():
        return _apply(grad.t(), x.t(), None)
    return _apply(x.t(), grad.t(), None).t()
