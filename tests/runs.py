"""Runs of csf.train in processes of their own, which can be signalled, limited and killed like any other.

They are forked from one process that has imported everything, which spares each of them seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from conftest import ROOT
from torch import Tensor

SECONDS = 120.0  # after which a process is taken to hang
# What a run imports, some of it late.
PRELOAD = ["csf.train", "envs.point", "matplotlib.figure", "PIL.Image", "tensorboard.compat.proto.event_pb2"]
PRELOAD += ["tensorboard.summary.writer.record_writer", "torch._dynamo"]
# A world of five steps and a buffer of five epochs, so that it wraps early; pictures only before and after.
TINY = [
    "env=point",
    "+env.max_steps=5",
    "threads=1",
    "agent.hidden=[8,8]",
    "agent.num_negatives=8",
    "agent.backbone.hidden=[8,8]",
    "task.episodes_per_epoch=4",
    "task.updates_per_epoch=3",
    "task.batch_size=16",
    "task.replay_size=100",
    "task.min_replay_size=40",
    "task.coverage_skills=3",
    "task.goals=3",
    "task.eval_every=1000",
]


@dataclass
class Child:
    """A process, and the file that its stderr goes to."""

    process: ForkServerProcess
    log: Path

    def wait(self) -> int:
        """Its exit code; negative for the signal that ended it."""
        self.process.join(SECONDS)
        code = self.process.exitcode
        self.process.kill()
        assert code is not None, f"hangs: {self.said}"
        return code

    def kill(self, signal: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal)

    @property
    def said(self) -> str:
        """Its stderr, without the line that depends on how busy the machine is."""
        lines = self.log.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("the machine is busy"))


def fork(log: Path, function: Callable[..., object], *args: Any, daemon: bool = True) -> Child:
    """Call a function of a test module in a process of its own; one that is no daemon may have child processes."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_call, args=(log, function, args), daemon=daemon)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1"):  # for the process that forks
        process.start()
    return Child(process, log)


def _call(log: Path, function: Callable[..., object], args: tuple[Any, ...]) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 2)
    try:
        function(*args)
    finally:  # if it has limited the size of files, what it says last must fit nevertheless
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def train(folder: Path, *words: str) -> Child:
    """`python -m csf.train`, in a process of its own; `folder` is the run's."""
    settings = [*TINY, f"exp_dir={folder.parent}", f"run_name={folder.name}", *words]
    return fork(folder.with_name(folder.name + ".log"), main, settings)


def main(words: list[str]) -> None:
    """The entry point with these arguments."""
    from csf import train
    from csf.core import signals

    signals.guard()
    sys.argv = ["csf.train", *words]
    train.main()


def rows(folder: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl that are whole."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def reached(folder: Path) -> int:
    """The epoch of the newest whole row; -1 before the first."""
    file = folder / "metrics.jsonl"
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return int(json.loads(whole.rpartition("\n")[2])["epoch"]) if whole else -1


def wait_for_epoch(child: Child, folder: Path, epoch: int) -> None:
    """Until the row of an epoch is written."""
    end = time.monotonic() + SECONDS
    while reached(folder) < epoch:
        assert child.process.exitcode is None, f"ended before epoch {epoch}: {child.said}"
        assert time.monotonic() < end, f"no epoch {epoch}: {child.said}"
        time.sleep(0.01)


def error_of(child: Child) -> str:
    """What a run says that ends with exit code 1: one line, in which the reason is, and no traceback."""
    code, said = child.wait(), child.said
    assert code == 1, said
    assert "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, said
    assert said.splitlines()[-1] == errors[0], said
    return errors[0]


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and sequences by their path."""
    if isinstance(tree, Mapping):
        pairs = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        pairs = [(str(i), value) for i, value in enumerate(tree)]
    else:
        return {path: tree}
    return {key: leaf for name, value in pairs for key, leaf in flat(value, f"{path}/{name}").items()}


def different(a: Any, b: Any) -> list[str]:
    """Paths at which two trees are not equal bit for bit."""
    one, other = flat(a), flat(b)
    return [path for path in {**one, **other} if not _same(one.get(path), other.get(path))]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and bool(a == b)
