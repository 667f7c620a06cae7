"""Work that is recorded once as a CUDA graph and then replayed, so that Python launches no kernel one by one.

Recording asks of a function what it asks of any CUDA graph: tensors of fixed shape that stay where they are, no value
read on the host, and no Python number that changes between calls. Random draws go on from call to call, since PyTorch
hands the generator's state to every replay; they are those that the same calls would have made without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from csf.core.optim import Minimizer
from csf.types import Policy, SomeObs, map_obs

WARM_UP = 3  # calls before recording, in which libraries choose algorithms and allocate what they keep

T = TypeVar("T")
Recorder = Callable[[Callable[[], T]], tuple[Callable[[], None], T]]


class Subject(Protocol):
    """What the recorded work may change."""

    training: bool

    def written(self) -> list[Tensor]:
        """Every tensor that the work may write to, beside its own outputs."""
        ...

    def minimizers(self) -> dict[str, Minimizer]:
        """Every optimizer that the work may step."""
        ...


class Captured(Generic[T]):
    """A function without arguments, recorded when it is first called and replayed at every call.

    Outputs are the same tensors each time, overwritten by the next call. Recording itself leaves no trace: whatever it
    did to the subject and to random states is undone, so that every call that counts is a replay.
    """

    def __init__(self, function: Callable[[], T], subject: Subject, record: Recorder[T] | None = None) -> None:
        """Record nothing yet; `record` takes the place of `cuda_graph`."""
        self.function, self.subject = function, subject
        self.record: Recorder[T] = cuda_graph if record is None else record
        self._recorded: tuple[Callable[[], None], T] | None = None
        self._places: list[int] = []

    def __call__(self) -> T:
        """The outputs of one more call."""
        if self._recorded is None:
            with unchanged(self.subject):
                self._recorded = self.record(self.function)
            self._places = self._find()
        replay, outputs = self._recorded
        replay()
        return outputs

    def stale(self) -> bool:
        """Whether tensors of the subject were replaced since the recording, such as by loading optimizers' state."""
        return self._recorded is not None and self._places != self._find()

    def _find(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.subject.written()]


class CapturedPolicy:
    """A policy that acts by replaying CUDA graphs, one for each number of worlds and each mode."""

    def __init__(self, act: Policy, subject: Subject, record: Recorder[Tensor] | None = None) -> None:
        """Wrap the policy `act` of `subject`; `record` takes the place of `cuda_graph`."""
        self.act, self.subject, self.record = act, subject, record
        self._graphs: dict[tuple[Any, ...], tuple[SomeObs, Tensor, Captured[Tensor]]] = {}

    def __call__(self, obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A]."""
        key = (len(skill), mode, self.subject.training)
        if key not in self._graphs:
            self._graphs[key] = self._graph(map_obs(torch.clone, obs), skill.clone(), mode)
        own_obs, own_skill, graph = self._graphs[key]
        map_obs(lambda to, of: to.copy_(of), own_obs, obs)
        own_skill.copy_(skill)
        return graph().clone()  # copied, because the next replay overwrites it

    def _graph(self, obs: SomeObs, skill: Tensor, mode: bool) -> tuple[SomeObs, Tensor, Captured[Tensor]]:
        """Input tensors, and the policy applied to them."""
        return obs, skill, Captured(lambda: self.act(obs, skill, mode), self.subject, self.record)


def cuda_graph(function: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """Record a function's kernels on the current CUDA device; returns what replays them, and the outputs."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    # On the stream of the recording, so that the memory that libraries keep for it does not belong to the graph.
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Another thread may use CUDA in the meantime.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = function()
    return graph.replay, outputs


@contextmanager
def unchanged(subject: Subject) -> Iterator[None]:
    """Inside, optimizers may be recorded; afterwards the subject and the random states are as they were before."""
    before = [(tensor, tensor.detach().clone()) for tensor in subject.written()]
    known = {id(tensor) for tensor, _ in before}
    devices = {tensor.device for tensor, _ in before if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), ExitStack() as stack:
        for minimizer in subject.minimizers().values():
            stack.enter_context(minimizer.capturable())
        yield
    with torch.no_grad():
        for tensor, value in before:
            tensor.copy_(value)
        for tensor in subject.written():
            if id(tensor) not in known:  # an optimizer's state, which is made at its first step and begins at zero
                tensor.zero_()
