"""What saving costs training when the replay buffer is full: `python tests/benchmark/saving.py` prints a table.

By default the run is that of CSF on Ant with its buffer of a million transitions. The first save writes all of them,
as after a resumption in another folder; each later one the transitions of the epochs since the previous save.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import csf  # first: how threads wait is decided before PyTorch is loaded

# isort: split
import torch
from training import processor

from csf.config.compose import check
from csf.core.device import use_threads
from csf.replay import ReplayBuffer
from csf.run import Run
from csf.types import Episodes


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeat", type=int, default=3, help="saves that are measured")
    arguments.add_argument("--folder", help="place of the run; default: the system's folder of temporary files")
    arguments.add_argument("overrides", nargs="*", help="key=value, as for csf.train")
    given = arguments.parse_args()
    use_threads(0)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        cfg = check(["agent=csf", "env=ant", *given.overrides, f"exp_dir={folder}"])
        with Run(cfg, torch.device("cpu")) as run:
            (replay,) = (part for part in run.parts.values() if isinstance(part, ReplayBuffer))
            skills = run.agent.objective.sample_skills(cfg.task.episodes_per_epoch)
            episodes = run.trainer.learner.collect(run.trainer.sampler, skills)
            while replay.total < replay.capacity:
                replay.add(episodes)
            times = [seconds(run)]
            for _ in range(given.repeat):
                times.append(later(run, replay, episodes, cfg.task.save_every))
    print(f"{processor()}; csf {csf.__version__}; {replay.capacity:,} transitions, {replay.nbytes / 1e9:.2f} GB\n")
    print("| save | seconds |\n|---|---|")
    print(f"| of the whole buffer | {times[0]:.2f} |")
    print(f"| after {cfg.task.save_every} more epochs (task.save_every), median | {statistics.median(times[1:]):.2f} |")


def later(run: Run, replay: ReplayBuffer, episodes: Episodes, epochs: int) -> float:
    """Seconds of a save after more epochs."""
    for _ in range(epochs):
        replay.add(episodes)
    run.counters.epoch += epochs
    return seconds(run)


def seconds(run: Run) -> float:
    """Seconds of a save."""
    start = time.perf_counter()
    run.save({})
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
