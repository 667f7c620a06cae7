"""Entry point: python -m csf.evaluate RUN_OR_FILE key=value ... measures the skills of any checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, NamedTuple

import numpy as np

from csf.agents import Agent
from csf.config import compose
from csf.config import help as usage
from csf.config.ranges import Count, Natural, Seed
from csf.core.device import pick_device, use_threads
from csf.errors import CheckpointError, ConfigError, CsfError
from csf.evaluation.film import film
from csf.evaluation.suite import suite
from csf.io import checkpoint, files, hub
from csf.io.load import choose, open_newest, run_of
from csf.io.logger import TensorBoard, png
from csf.pretrained import Skills, filmed, skills_of, worlds_of
from csf.sampler import RolloutSampler
from csf.types import EnvSpec, Evaluation
from csf.worlds import describe

HEAD = """\
Measure the skills of a checkpoint: python -m csf.evaluate RUN_OR_FILE [KEY=VALUE ...]

State coverage, return and zero-shot goal reaching: prints a table, writes eval_<epoch>.json and pictures beside the
checkpoint, and shows them in TensorBoard as <run>/eval. RUN_OR_FILE is the value of cp_path. With method= and env= in
place of it, the newest run of that method on that environment is taken.

Keys, with their values:
"""
MAX_WORLDS = 256  # as many episodes at once; more would take memory and save no time


@dataclass(frozen=True)
class Settings:
    """What to evaluate, and how long."""

    cp_path: str | None  # a run's folder, a policy file, a full checkpoint, a pattern of them, or hf://USER/NAME
    method: str | None  # that made it; without cp_path, the newest run of this method is taken
    env: str | None  # on which it was made
    exp_dir: Path  # without cp_path: below this folder
    skills: Count  # episodes for coverage and return
    goals: Count  # of zero-shot goal reaching
    seed: Seed  # of skills, goals, worlds and actions
    device: Literal["auto", "cpu", "cuda"]
    threads: Natural  # of PyTorch and of the simulator; 0: OMP_NUM_THREADS if it is set, else one per usable core
    video: bool  # whether to film the skills too
    out: str | None  # folder for the results; null: beside the checkpoint


def run(settings: Settings) -> None:
    """Evaluate, print a table, and write what was found beside the checkpoint."""
    device = pick_device(settings.device)
    use_threads(settings.threads)
    path, told, agent = open_newest(locate(settings), device)
    agree(told, settings, path)
    place = place_of(path, told.get("epoch"), settings)
    skills = skills_of(told["config"], run_of(path))
    spec = surroundings(told["config"], agent, skills)
    sys.stderr.write(f"evaluating {path}, epoch {told.get('epoch')}\n")
    config = told["config"] | {"env": environment(told, settings)}
    found = measure(agent, spec, config, skills, settings)
    report = {
        "checkpoint": path.name,
        **{key: told.get(key) for key in ("epoch", "env_steps", "gradient_steps")},
        "method": told["config"]["agent"]["name"],
        "env": spec.id,
        "env_version": spec.version,
        **{key: getattr(settings, key) for key in ("seed", "skills", "goals")},
        "results": found.metrics,
        "versions": checkpoint.provenance(),
    }
    sys.stdout.write("\n".join(table(report)) + "\n")
    keep(place, report, found)
    images = dict(found.images)
    if settings.video:
        sys.stderr.write("filming the skills\n")
        video = place.folder / f"{place.name}_skills.webm"
        images["skills"] = film(video, agent, filmed(config, skills, device), settings.seed)
        sys.stderr.write(f"written to {place.folder}: {video.name}\n")
    show(place.board, report, images)


class Place(NamedTuple):
    """Where results go."""

    folder: Path
    name: str  # what the names of files begin with; it has the epoch, so that every epoch keeps its results
    board: Path  # folder for TensorBoard


def place_of(path: Path, epoch: int | None, settings: Settings) -> Place:
    """Where results go: to `out`, or beside the checkpoint; the folder is tried before an evaluation of minutes.

    Raises:
        ConfigError: they would be written to the cache of downloads, or the path is not UTF-8.
        CheckpointError: the folder cannot be written.
    """
    name = checkpoint.evaluation(epoch)
    if settings.out is not None:
        folder = files.check_name(Path(settings.out).expanduser())
        place = Place(folder, name, folder / "eval")
    elif (settings.cp_path or "").startswith(hub.PREFIX):
        raise ConfigError(f"where to write the results of {settings.cp_path}? accepted: out=DIR")
    else:
        place = Place(path.parent, name, run_of(path) / "eval")
    for folder in (place.folder, place.board):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"cannot write to {folder}: {reason}; choose another folder with out=DIR") from error
    return place


def locate(settings: Settings) -> str | Path:
    """The checkpoint, run or pattern that is meant.

    Raises:
        ConfigError: neither a path, nor method and environment are given.
        CheckpointError: there is no such run.
    """
    if settings.cp_path is not None:
        return settings.cp_path
    if settings.method is None or settings.env is None:
        raise ConfigError("which checkpoint? accepted: RUN_OR_FILE, or method=METHOD env=ENVIRONMENT")
    path, _ = choose(Path(settings.exp_dir), settings.method, settings.env)
    return path.parent


def agree(told: dict[str, Any], settings: Settings, path: Path) -> None:
    """Refuse a checkpoint that is not of the method or the environment asked for.

    Raises:
        CheckpointError: it is of another.
    """
    for key, group in (("method", "agent"), ("env", "env")):
        asked, name = getattr(settings, key), told["config"][group]["name"]
        if asked not in (None, name):
            raise CheckpointError(f"{path} is of {group}={name}; accepted here: {asked}, as {key}={asked} says")


def environment(told: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The section env of the run's configuration, with the threads of this machine."""
    env = dict(told["config"]["env"])
    return env | {"threads": settings.threads} if "threads" in env else env


def surroundings(config: dict[str, Any], agent: Agent, skills: Skills | None) -> EnvSpec:
    """The environment as it is here.

    Raises:
        CheckpointError: the agent was trained with other observations or actions.
    """
    worlds = worlds_of(config, 1, skills, agent.objective.device())
    here, there = describe(worlds, agent.spec.id), agent.spec
    worlds.close()
    for name in ("obs_shape", "obs_dtype", "vector_dim", "action_dim", "discrete", "obs_mean", "obs_std"):
        a, b = getattr(there, name), getattr(here, name)
        if a != b:
            raise CheckpointError(f"env={there.id}: {name} is {a} in the checkpoint, {b} here ({here.version})")
    if there.version != here.version:
        sys.stderr.write(f"trained on {there.id} {there.version}; evaluated on {here.version}\n")
    return here


def measure(
    agent: Agent, spec: EnvSpec, config: dict[str, Any], skills: Skills | None, settings: Settings
) -> Evaluation:
    """All that the environment and the method allow to be measured, each in as many worlds as it has episodes."""
    found = Evaluation({}, {})
    device, plot_range = agent.objective.device(), config["env"].get("plot_range")
    source = worlds_of(config, 1, skills, device)  # says what can be measured, and draws goals
    for evaluator in suite(agent, source, settings.skills, settings.goals, settings.seed, plot_range):
        worlds = worlds_of(config, min(MAX_WORLDS, evaluator.episodes), skills, device)
        sampler = RolloutSampler(worlds, spec, settings.seed, device)
        metrics, images = evaluator.run(agent, sampler)
        sampler.close()
        found = Evaluation(found.metrics | metrics, found.images | images)
    source.close()
    return found


def table(report: dict[str, Any]) -> Iterator[str]:
    """What was found, as lines of text."""
    yield (
        f"{report['method']} on {report['env']} ({report['env_version']}), epoch {report['epoch']}, "
        f"{report['env_steps']:,} env steps; seed {report['seed']}, {report['skills']} skills, {report['goals']} goals"
    )
    for name, value in report["results"].items():
        yield f"  {name.removeprefix('eval/'):<24} {value:10.4g}"


def keep(place: Place, report: dict[str, Any], found: Evaluation) -> None:
    """Write eval_<epoch>.json and eval_<epoch>_<picture>.png.

    Raises:
        CheckpointError: a file cannot be written.
    """
    pictures = {f"{place.name}_{name}.png": png(image) for name, image in found.images.items()}
    contents = {f"{place.name}.json": json.dumps(report, indent=2).encode() + b"\n", **pictures}
    for name, content in contents.items():
        files.write(place.folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    sys.stderr.write(f"written to {place.folder}: {', '.join(contents)}\n")


def show(folder: Path, report: dict[str, Any], images: dict[str, np.ndarray]) -> None:
    """Write numbers, pictures and the film for TensorBoard, which lists them beside the run as <run>/eval.

    Raises:
        CheckpointError: they cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        board = TensorBoard(folder)
        board.write({"epoch": report["epoch"], **report["results"]}, images)
        board.close()
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error


def main() -> None:
    """Read the arguments; a mistake is told in one line."""
    words = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(words):
            defaults = compose.settings(Settings, "evaluate", [], ["cp_path"])
            sys.stdout.write(HEAD + "\n".join(usage.lines(defaults)) + "\n")
        else:
            run(compose.settings(Settings, "evaluate", words, ["cp_path"]))
    except CsfError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
