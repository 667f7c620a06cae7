"""A CUDA graph in all but speed, on the CPU: kernels are recorded once and run again on the same tensors.

What a graph freezes is frozen here too: Python is not run again, so that a number which it passed to a kernel stays as
it was, and tensors are those of the recording wherever their names point later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")


class Tape(TorchDispatchMode):
    """Records every operation inside, with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value is read on the host"
        self.calls.append((func, args, kwargs or {}, tree_leaves(found)))
        return found

    @torch.no_grad()
    def replay(self) -> None:
        """Run what was recorded, into the tensors that it filled then."""
        for func, args, kwargs, outputs in self.calls:
            for old, new in zip(outputs, tree_leaves(func(*args, **kwargs)), strict=True):
                # A view shows what its base holds by now; what was written in place is itself.
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(function: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """In the place of `csf.core.compile.cuda_graph`."""
    function()
    with Tape() as tape:
        found = function()
    return tape.replay, found
