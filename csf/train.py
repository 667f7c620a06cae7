"""Entry point of csf train: builds a run from its configuration and trains it."""

from __future__ import annotations

if __name__ == "__main__":  # before imports that take seconds
    from csf.core import signals

    signals.guard()

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import csf
from csf import pretrained, sweep
from csf.config import compose, overrides
from csf.config import help as usage
from csf.config.schema import Config
from csf.errors import ConfigError, CsfError
from csf.io import checkpoint, logger
from csf.io.run_dir import check_place, differing
from csf.run import run

FLAGS = {"-m", "--multirun", "-c", "--cfg", "-i", "--info", "-p", "--package", "-r", "--run", "--resolve", "-h"}
FLAGS |= {"--help", "--hydra-help", "--version", "-sc", "--shell-completion", "-cp", "--config-path", "-cn"}
FLAGS |= {"--config-name", "-cd", "--config-dir", "--experimental-rerun"}  # all that Hydra knows


@hydra.main(version_base="1.3", config_path=str(compose.CONFIGS), config_name="train")
def launch(tree: DictConfig) -> float | None:
    """One job: called by Hydra once, or once per point of a sweep, there perhaps in another process.

    Returns its exit code or, for a search, the value of `objective`; None if there is none.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        compose.register_resolvers()  # this may be a process of a launcher
        folder, found = Path(str(tree.exp_dir), str(tree.run_name)), list[float]()

        def work() -> int:
            code = train(tree)
            if not code and tree.objective is not None:
                found.append(logger.newest(folder, tree.objective))
            return code

        code = sweep.job(work, Path(HydraConfig.get().runtime.output_dir), str(folder))
        return code if tree.objective is None else next(iter(found), None)
    try:
        code = train(tree)
    except CsfError as error:
        sys.exit(f"error: {error}")
    if code:
        sys.exit(code)
    return code


def train(tree: DictConfig) -> int:
    """Train what a composed tree describes; returns the exit code."""
    return run(*pretrained.prepared(tree, HydraConfig.get().overrides.task))


def check_flags(flags: set[str]) -> None:
    """Refuse what Hydra does not know, to which argparse would answer with a page of usage, and what makes no sense."""
    if unknown := sorted(flag for flag in flags if flag.split("=")[0] not in FLAGS):
        raise ConfigError(f"{unknown[0]} is not understood; accepted: key=value, -m, --cfg job, --help, --version")
    if flags & {"-m", "--multirun"} and flags & {"-c", "--cfg", "-i", "--info"}:
        raise ConfigError("-m runs every point of a sweep, --cfg shows one configuration; accepted: one of them")


def checked_place(words: Sequence[str], settings: Sequence[str], flags: set[str]) -> Path:
    """Check the points of a sweep before its first job; returns the folder of its runs."""
    if "hydra/sweeper=optuna" in words and not any(word.startswith("objective=") for word in words):
        raise ConfigError("a search needs objective=METRIC, a name in metrics.jsonl such as eval/coverage")
    points = compose.points(settings if flags <= {"-m", "--multirun"} else _places(settings))
    first = next(points)
    check_place(first.exp_dir / first.run_name)
    for cfg in points:
        if cfg.seed == first.seed:  # a seed whose folder cannot be used fails alone
            check_place(cfg.exp_dir / cfg.run_name)
        check_apart(first, cfg)
    return first.exp_dir


def check_apart(one: Config, other: Config) -> None:
    """Refuse two points of a sweep that would write to the same folder, of which the second would fail."""
    if one.run_name == other.run_name and one.exp_dir == other.exp_dir and (found := differing(one.tree, other.tree)):
        key = min(found, key=len)  # of a group its name
        same = f"run_name is {one.run_name!r} whatever {key} is, so runs would share a folder"
        raise ConfigError(f"{same}; accepted: one with ${{{key}}}, in single quotes, or none")


def main() -> None:
    """Check the arguments, report a mistake in one line, and otherwise start Hydra."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    compose.register_resolvers()
    # Hydra takes flags only behind overrides; the launch scripts' users write them anywhere.
    words = sorted(sys.argv[1:], key=lambda word: word.startswith("-") or "=" not in word)
    many = bool({"-m", "--multirun"} & set(words))
    try:
        for word in overrides.FORMER.keys() & set(words):
            sys.stderr.write(f"{word} is now called {overrides.FORMER[word]}\n")
        words = sys.argv[1:] = overrides.literal(words, many)
        settings = [word for word in words if not word.startswith("-")]
        flags = set(words) - set(settings)
        check_flags(flags)
        if "--version" in words:
            versions = {"csf": csf.__version__, **checkpoint.provenance()}
            sys.stdout.write("".join(f"{name} {value}\n" for name, value in versions.items()))
        elif "--help" in words or "-h" in words:
            sys.stdout.write(usage.text(compose.check(settings)) + "\n")
        elif many:
            sweep.check(words)
            sweep.run(launch, words, checked_place(words, settings, flags))
        else:
            if not flags:  # Hydra reports its own mistakes where another flag asks for something of it
                if launcher := sweep.launcher(words):
                    raise ConfigError(f"{launcher} is for the jobs of a sweep: add -m")
                compose.check(settings)
            launch()
    except CsfError as error:
        sys.exit(f"error: {error}")


def _places(settings: Sequence[str]) -> list[str]:
    """The settings that say where runs are."""
    return [word for word in settings if word.partition("=")[0] == "exp_dir"]


if __name__ == "__main__":
    main()
