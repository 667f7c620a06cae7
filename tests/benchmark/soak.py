"""Whether memory, open files, threads and the time of an epoch stay flat: `python tests/benchmark/soak.py`.

Trains a tiny CSF on the plane for many short epochs, in a process of its own which is looked at from outside. It saves
every 10 epochs and evaluates, with pictures, every 100. Exit code 1 if something grew from the second tenth of the run
on, or the run failed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import ROOT
from runs import TINY, reached, rows

LOOKS = 100  # of the process in a run
GROWTH = 1.05  # of memory between two parts of a run, above which it leaks


class Look(NamedTuple):
    """What the process holds after an epoch."""

    epoch: int
    memory: float  # MB
    files: int
    threads: int


def main() -> int:
    """Train, print a table; returns the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--epochs", type=int, default=10_000)
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        words = [*TINY, "task.save_every=10", "task.eval_every=100", f"task.epochs={given.epochs}", *given.overrides]
        command = [sys.executable, "-m", "csf.train", *words, f"exp_dir={place}", "run_name=run"]
        with (Path(place) / "said").open("w") as said:
            process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)
            looks = list(watch(process, folder, given.epochs))
        if process.returncode:
            sys.stderr.write((Path(place) / "said").read_text())
            return 1
        seconds = [row["time/collect"] + row["time/learn"] for row in rows(folder)[1:]]
        size = sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())
    return report(looks, seconds, size)


def watch(process: subprocess.Popen[bytes], folder: Path, epochs: int) -> Iterator[Look]:
    """Look at a process every hundredth of its epochs until it ends."""
    due = 0
    while process.poll() is None:
        if (epoch := reached(folder)) >= due:
            due = epoch + max(epochs // LOOKS, 1)
            try:
                yield look(process.pid, epoch)
            except OSError:  # it has just ended
                continue
        time.sleep(0.1)


def look(process: int, epoch: int) -> Look:
    """Read what a process holds from /proc."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    memory = int(status["VmRSS"].split()[0]) / 1e3
    return Look(epoch, memory, len(os.listdir(f"/proc/{process}/fd")), int(status["Threads"]))


def report(looks: list[Look], seconds: list[float], size: int) -> int:
    """Print the second tenth of the run beside its last; returns 1 if something grew."""
    tenth = max(len(looks) // 10, 1)
    early, late = looks[tenth : 2 * tenth], looks[-tenth:]
    grew = []
    print(f"{platform.node()}, {os.cpu_count()} cores, {date.today()}: {len(seconds):,} epochs, {len(looks)} looks")
    for name, allowed in (("memory", GROWTH), ("files", 1.0), ("threads", 1.0)):
        before, after = (median(getattr(each, name) for each in part) for part in (early, late))
        print(f"{name:8} {before:8.1f} in the second tenth, {after:8.1f} in the last, most {max_of(looks, name):8.1f}")
        grew += [name] if after > allowed * before else []
    part = len(seconds) // 10
    before, after = median(seconds[part : 2 * part]), median(seconds[-part:])
    print(f"epoch    {1e3 * before:8.2f} ms in the second tenth, {1e3 * after:8.2f} ms in the last")
    print(f"checkpoints take {size / 1e6:.2f} MB at the end")
    print(f"grew: {', '.join(grew)}" if grew else "nothing grew")
    return 1 if grew else 0


def max_of(looks: list[Look], name: str) -> float:
    """The largest value of a figure."""
    return max(getattr(each, name) for each in looks)


if __name__ == "__main__":
    sys.exit(main())
