"""Seconds of an epoch with and without `task.overlap`: `python tests/benchmark/overlap.py [KEY=VALUE ...]`.

By default CSF on Ant. Epochs of both kinds are measured in turns and printed as medians with their range, beside the
times of collecting and learning in them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

import csf  # first: how threads wait is decided before PyTorch is loaded
from csf.config.compose import check
from csf.core.device import pick_device, use_threads
from csf.io import checkpoint
from csf.run import Run

TIMES = ("epoch", "collect", "learn", "learn_cpu")


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=7, help="measurements of each kind of epoch")
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        runs = {}
        for overlap in ("false", "true"):
            words = ["agent=csf", "env=ant", f"exp_dir={folder}", "task.min_replay_size=1", *given.overrides]
            cfg = check([*words, f"task.overlap={overlap}"])
            use_threads(cfg.threads)
            runs[f"task.overlap={overlap}"] = stack.enter_context(Run(cfg, pick_device(cfg.device)))
        for number in range(given.repeat + 2):
            for name, run in runs.items():
                row = epoch(run)
                if number >= 2:  # the first epochs allocate memory, and the first with overlap does not overlap
                    for key in TIMES:
                        found.setdefault(name, {}).setdefault(key, []).append(row[key])
    report(found)


def epoch(run: Run) -> dict[str, float]:
    """Run one epoch without evaluation; returns its times in seconds."""
    start = time.perf_counter()
    row = run.trainer._train()
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    return {"epoch": time.perf_counter() - start, **{key: row[f"time/{key}"] for key in TIMES[1:]}}


def report(found: dict[str, dict[str, list[float]]]) -> None:
    """Print medians and their ratio."""
    cores = len(os.sched_getaffinity(0))
    sys.stdout.write(
        f"csf {csf.__version__} {checkpoint.provenance().get('commit', '')}, {date.today()}, {platform.machine()}, "
        f"{cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}, load {os.getloadavg()[0]:.1f}\n"
    )
    for name, times in found.items():
        for key, values in times.items():
            low, high = min(values), max(values)
            sys.stdout.write(f"{name:<20} {key:<10} {statistics.median(values):7.3f} s   ({low:.3f} to {high:.3f})\n")
    without, overlapped = (statistics.median(times["epoch"]) for times in found.values())
    sys.stdout.write(f"epoch without overlap / with overlap: {without / overlapped:.2f}\n")


if __name__ == "__main__":
    main()
