"""One epoch of collecting and learning: one after the other, or at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from csf.agents import Agent
from csf.core.precision import Precision, refresh
from csf.core.random import DrawFrom
from csf.learners.base import Learner
from csf.learners.replay import ReplayLearner
from csf.types import Episodes, Sampler


class Epoch(NamedTuple):
    """The result of one epoch."""

    episodes: Episodes  # collected in it
    metrics: dict[str, float]  # of its gradient steps
    collect: float  # seconds of collecting
    learn: float  # seconds of learning
    learn_cpu: float  # CPU seconds of the learning thread


RunEpoch = Callable[[Sampler, Tensor], Epoch]
T = TypeVar("T")


def in_turn(learner: Learner, sampler: Sampler, skills: Tensor) -> Epoch:
    """Collect one episode per row of `skills` [n, Z], then learn from them."""
    episodes, collect, _ = timed(lambda: learner.collect(sampler, skills))
    metrics, learn, learn_cpu = timed(lambda: learner.learn(episodes))
    return Epoch(episodes, metrics, collect, learn, learn_cpu)


def timed(work: Callable[[], T]) -> tuple[T, float, float]:
    """The result of a call, its wall time and the CPU time of this thread, in seconds."""
    start, computed = time.perf_counter(), time.thread_time()
    found = work()
    return found, time.perf_counter() - start, time.thread_time() - computed


class Overlapped:
    """Collects on a thread with the policy from the start of the epoch, while the learner updates the agent.

    The updates use the episodes of earlier epochs; those of this epoch are stored at its end. Both orders of the two
    threads have the same results: the policy is a copy, and its actions draw from a generator of their own, whose seed
    is the only number that an epoch draws from PyTorch's global generator for collecting.
    """

    def __init__(self, learner: ReplayLearner, precision: Precision) -> None:
        """Copy the policy to the CPU, where it collects, also if the agent is on another device.

        Args:
            learner: the learner whose episodes are collected; its `act` becomes the copied policy.
            precision: precision of the agent. The copy has the same if the agent is on the CPU, otherwise float32.
        """
        self.learner = learner
        self.actor = ActingCopy(learner.agent, precision if learner.device.type == "cpu" else "float32")
        learner.act = self.actor.agent.act
        self._thread = ThreadPoolExecutor(1, "csf-collect")
        # Skills as actions are executed on the agent's device. On the default stream they would wait for the learner.
        self._stream = torch.cuda.Stream(learner.device) if learner.device.type == "cuda" else None
        self._first = True

    def __call__(self, sampler: Sampler, skills: Tensor) -> Epoch:
        """Collect one episode per row of `skills` [n, Z] while learning from earlier episodes."""
        self.actor.update()
        seed = int(torch.randint(2**63 - 1, ()))
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
        skills = skills.cpu()
        job = self._thread.submit(timed, lambda: self._collect(sampler, skills, seed))
        if self._first:  # collecting may record graphs, which changes and restores the global generators
            wait([job])
            self._first = False
        metrics, learn, learn_cpu = timed(self.learner.improve)
        episodes, collect, _ = job.result()
        _, store, store_cpu = timed(lambda: self.learner.store(episodes))
        return Epoch(episodes, metrics, collect, learn + store, learn_cpu + store_cpu)

    def _collect(self, sampler: Sampler, skills: Tensor, seed: int) -> Episodes:
        """Collect in the thread, with actions drawn from a generator with this seed."""
        stream: Any = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with stream, DrawFrom(torch.Generator().manual_seed(seed)):
            return self.learner.collect(sampler, skills)

    def close(self) -> None:
        """End the thread once it has collected its episodes; only then may the worlds be closed."""
        self._thread.shutdown()


class ActingCopy:
    """A copy of an agent on the CPU that acts as the agent did at the last call of `update`."""

    def __init__(self, source: Agent, precision: Precision) -> None:
        self.source = source
        with torch.random.fork_rng(devices=[]):  # initial values are drawn and then overwritten
            self.agent = Agent(source.objective.cfg, source.backbone.cfg, source.spec, source.encoder_cfg)
        self.agent.use_precision(precision)
        self._state = self.agent.policy_state()

    def update(self) -> None:
        """Copy all parameters and buffers that acting needs."""
        for name, value in self.source.policy_state().items():
            self._state[name].copy_(value)
        refresh(self.agent.parameters())
