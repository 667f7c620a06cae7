"""Random numbers of a thread of its own: redirects PyTorch's random functions to a given generator."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Functions that have no overload with a generator before PyTorch 2.10, and the method that fills a tensor in their way.
FILLED = {torch.ops.aten.randn_like.default: "normal_", torch.ops.aten.rand_like.default: "uniform_"}


class DrawFrom(TorchDispatchMode):
    """Context in which random functions on the CPU draw from `generator`, in the current thread only.

    PyTorch's global generator is shared by all threads, so the numbers that two threads draw from it at the same time
    depend on timing. A function that cannot draw from a given generator, such as native_dropout, raises a RuntimeError.
    """

    def __init__(self, generator: torch.Generator) -> None:
        """Draw from `generator` inside the context."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = generator

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operator, with the generator if it draws random numbers."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if func in FILLED:
            return getattr(torch.empty_like(*args, **kwargs), FILLED[func])(generator=self.generator)
        return self._seeded(func)(*args, **kwargs, generator=self.generator)

    def _seeded(self, func: Any) -> Any:
        """The overload of an operator that accepts a generator."""
        if any(argument.name == "generator" for argument in func._schema.arguments):
            return func
        overload = "generator" if func._overloadname == "default" else f"{func._overloadname}_generator"
        if overload not in func.overloadpacket.overloads():
            raise RuntimeError(f"{func} cannot draw from a given generator")
        return getattr(func.overloadpacket, overload)
