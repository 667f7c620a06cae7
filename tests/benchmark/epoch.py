"""Where the time of a training epoch goes: `python tests/benchmark/epoch.py` prints a table in Markdown.

Calls are timed from outside, and time within a timed call counts only there. By default the epoch is that of CSF on
Ant; the median of several epochs is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from training import processor

import csf  # first: how threads wait is decided before PyTorch is loaded
from csf.config.compose import check
from csf.core.device import use_threads
from csf.io import checkpoint
from csf.run import Run

WARM_UP = 1  # epochs before measuring
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Clock:
    """Sums up the time of named phases; a phase within another one stops the outer one."""

    def __init__(self, read: Callable[[], float]) -> None:
        """Use the clock `read`, in seconds."""
        self.read = read
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._phases = [""]
        self._since = read()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Context in which time counts as this phase."""
        self._switch()
        self._phases.append(name)
        try:
            yield
        finally:
            self._switch()
            self._phases.pop()

    def wrap(self, owner: Any, function: str, name: str) -> None:
        """Let the calls of an attribute of an object or module count as a phase."""
        inner: Callable[..., Any] = getattr(owner, function)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return inner(*args, **kwargs)

        setattr(owner, function, timed)

    def take(self) -> defaultdict[str, float]:
        """The sums so far, which start again at zero."""
        found, self.seconds = self.seconds, defaultdict(float)
        return found

    def _switch(self) -> None:
        now = self.read()
        self.seconds[self._phases[-1]] += now - self._since
        self._since = now


def watch(clock: Clock, run: Run) -> None:
    """Time the phases of an epoch, in the order of the table."""
    worlds: Any = run.worlds
    learner: Any = run.trainer.learner
    clock.wrap(worlds, "reset", "collect: reset")
    if hasattr(worlds, "_advance"):
        clock.wrap(worlds, "_advance", "collect: physics")
    clock.wrap(worlds, "step", "collect: observations, rewards, infos")
    clock.wrap(learner, "act", "collect: policy")
    clock.wrap(run.trainer.sampler, "collect", "collect: records")
    if hasattr(learner, "replay"):
        clock.wrap(learner.replay, "add", "learn: storing episodes")
        for function in ("sample_index", "gather"):
            clock.wrap(learner.replay, function, "learn: sampling a batch")
    clock.wrap(learner, "update", "learn: losses, forward")
    clock.wrap(torch.autograd, "grad", "learn: losses, backward")
    for minimizer in run.agent.minimizers().values():
        clock.wrap(minimizer.adam, "step", "learn: optimizer")
    clock.wrap(torch, "_foreach_lerp_", "learn: target update")
    clock.wrap(learner, "learn", "learn: metrics and the rest")
    clock.wrap(run.logger, "write", "logging")


def epoch(run: Run, number: int) -> None:
    """Collect, learn and log once, without evaluating and saving."""
    trainer = run.trainer
    skills = run.agent.objective.sample_skills(trainer.schedule.episodes)
    metrics = trainer.learner.learn(trainer.learner.collect(trainer.sampler, skills))
    run.logger.write({"epoch": number, **metrics}, {})


def main() -> None:
    """Run the epochs and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=7, help="measured epochs")
    arguments.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: sum over threads, for a busy machine")
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    clock, load = Clock(CLOCKS[given.clock]), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        fixed = [f"exp_dir={folder}", "device=cpu", "task.min_replay_size=1"]
        cfg = check(["agent=csf", "env=ant", *given.overrides, *fixed])
        use_threads(cfg.threads)
        rows = []
        with Run(cfg, torch.device("cpu")) as run:
            watch(clock, run)
            run.logger.open("disabled", cfg.run_name, cfg.tree)
            for number in range(WARM_UP + given.repeat):
                clock.take()
                epoch(run, number)
                rows.append(clock.take())
    report(rows[WARM_UP:], f"precision={cfg.precision}, {given.clock} time, load {load:.1f}")


def report(rows: list[defaultdict[str, float]], about: str) -> None:
    """Print the median of each phase, and its share of the sum of the medians."""
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    middle["the rest"] = middle.pop("", 0.0)
    order = sorted(middle, key=lambda name: (name.partition(":")[0], -middle[name]))
    total = sum(middle.values())
    lines = [
        f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {processor()}, "
        f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{about}, medians of {len(rows)} epochs\n",
        "| phase | ms | share |",
        "|---|---|---|",
        *(f"| {name} | {1000 * middle[name]:.1f} | {middle[name] / total:.1%} |" for name in order),
        f"| sum | {1000 * total:.1f} | |",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
