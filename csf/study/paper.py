"""Entry point: python -m csf.study.paper pretrains the CSF paper's table of methods, environments and seeds."""

from __future__ import annotations

if __name__ == "__main__":  # before imports that take seconds
    from csf.core import signals

    signals.guard()

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from csf import sweep
from csf.config import compose
from csf.config.ranges import Range
from csf.config.schema import Config
from csf.config.values import one_of
from csf.core.device import use_threads
from csf.errors import ConfigError, CsfError
from csf.run import run, say
from csf.study import arguments, estimate
from csf.study.plan import Run

METHODS = ("csf", "metra", "diayn", "dads", "cic", "visr")
ENVS = ("ant", "half_cheetah", "quadruped", "humanoid", "kitchen", "robobin")
ON_VECTORS = {"dads": ("ant", "half_cheetah")}  # methods that cannot learn from images
HEAD = """\
Pretrain the CSF paper's table: every method on every environment with every seed, as one sweep.

usage: sh scripts/sweep/paper.sh [KEY=VALUE ...]   (or python -m csf.study.paper)

Runs have the folders of scripts/pretrain. The same command resumes what was interrupted, skips what is finished and
tries again what has failed. dry_run=true prints the jobs that remain, their hours and disk, and starts none; it times a
few steps and updates of each method on each environment, which takes seconds for each line of the table.

Other arguments with a dot or a slash are settings of every run (task.epochs=1000) or of Hydra's launcher
(hydra/launcher=joblib hydra.launcher.n_jobs=2).

Keys, with their values:
"""


@dataclass(frozen=True)
class Settings:
    """Settings of the table."""

    methods: str | None  # methods, separated by commas; null: all
    envs: str | None  # environments, separated by commas; null: all
    seeds: Annotated[int, Range(1)]  # number of seeds, from 0
    exp_dir: Path  # folder of all runs
    dry_run: bool  # whether to print what it would take, at rates measured now, instead of starting it


@dataclass(frozen=True)
class Cell:
    """A method on an environment."""

    method: str
    env: str
    cfg: Config  # with seed 0

    def runs(self, words: Sequence[str], seeds: int) -> Iterator[Run]:
        """Its runs that are not finished; `words` are settings of all."""
        for seed in range(seeds):
            folder = self.cfg.exp_dir / Path(self.cfg.run_name).with_name(f"sd{seed:03d}")
            found = Run(folder, (*_words(self.method, self.env, words), f"seed={seed}"), self.cfg.task.epochs)
            if not found.finished():
                yield found


def _words(method: str, env: str, words: Sequence[str]) -> list[str]:
    return [f"agent={method}", f"env={env}", "task=pretrain", *words]


def _chosen(key: str, given: str | None, known: Sequence[str]) -> list[str]:
    names = arguments.listed(given)
    for name in names:
        one_of(key, name, list(known))
    return list(dict.fromkeys(names)) or list(known)


def pairs(settings: Settings) -> list[tuple[str, str]]:
    """The methods and environments of the table.

    Raises:
        ConfigError: a method or an environment is not accepted.
    """
    methods, envs = _chosen("methods", settings.methods, METHODS), _chosen("envs", settings.envs, ENVS)
    found = [(method, env) for env in envs for method in methods if env in ON_VECTORS.get(method, ENVS)]
    if not found:  # then only one method is chosen
        method, vectors = methods[0], ", ".join(ON_VECTORS[methods[0]])
        raise ConfigError(f"envs is {settings.envs!r}; accepted with methods={method}, which needs vectors: {vectors}")
    return found


def cells(settings: Settings, words: Sequence[str]) -> list[Cell]:
    """The cells of the table.

    Raises:
        ConfigError: a method, an environment or a setting is not accepted.
    """
    return [Cell(method, env, compose.check(_words(method, env, words))) for method, env in pairs(settings)]


def table(settings: Settings, training: Sequence[str], launcher: Sequence[str]) -> None:
    """Train what remains of the table, or say what it would take.

    Raises:
        CsfError: a setting is not accepted.
        SystemExit: the sweep was stopped, or jobs failed.
    """
    words = [*training, f"exp_dir={settings.exp_dir}"]
    found = [(cell, list(cell.runs(words, settings.seeds))) for cell in cells(settings, words)]
    runs = [run for _, each in found for run in each]
    say(f"{len(found) * settings.seeds} runs, {len(runs)} of them to train")
    if settings.dry_run:
        if runs:
            foresee([(cell, len(each)) for cell, each in found if each])
        return
    labels = [str(run.folder) for run in runs]
    sweep.each(partial(train, runs), len(runs), settings.exp_dir, launcher, labels)


def train(runs: Sequence[Run], number: int) -> int:
    """Train one run of a list; returns the exit code."""
    return run(compose.check(runs[number].words))


def foresee(found: Sequence[tuple[Cell, int]]) -> None:
    """Print the jobs of each cell with their hours of one core and disk, at rates that are measured now."""
    use_threads(1)
    say("timing a few steps and updates on one core: seconds for each line")
    jobs, hours, disk = 0, 0.0, 0.0
    write = sys.stdout.write
    write("environment   method   jobs  hours of one core  disk, GB\n")
    for cell, count in found:
        write(f"{cell.env:<14}{cell.method:<7}{count:>6}")
        sys.stdout.flush()  # what is measured now
        try:
            needed = estimate.cost_of(cell.cfg, cell.cfg.task.epochs, estimate.rates(cell.cfg))
            taken, size = count * needed.hours, count * estimate.disk(cell.cfg) / 1e9
        except (CsfError, OSError, RuntimeError) as error:
            write(f"  not measured: {str(error).splitlines()[0]}\n")
            continue
        write(f"{taken:>19,.0f}{size:>10,.1f}\n")
        jobs, hours, disk = jobs + count, hours + taken, disk + size
    rates = "at the rates of this machine's CPU and without evaluations"
    write(f"{jobs} jobs: {hours:,.0f} hours of one core, {disk:,.1f} GB of disk, {rates}\n")
    if rest := sum(count for _, count in found) - jobs:
        write(f"{rest} jobs more could not be measured\n")


def main() -> None:
    """Run the command; user errors print one line."""
    arguments.run_command(Settings, "paper", (), HEAD, table)


if __name__ == "__main__":
    main()
