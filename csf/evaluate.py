"""Entry point of csf evaluate: measures the skills of a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, NamedTuple

import numpy as np

from csf.agents import Agent
from csf.config import help as usage
from csf.config.ranges import Count, Natural, Seed
from csf.core.device import pick_device, use_threads
from csf.errors import CheckpointError, ConfigError
from csf.evaluation.film import film
from csf.evaluation.suite import suite
from csf.io import checkpoint, files, hub, packaged
from csf.io.load import choose, open_newest, run_of
from csf.io.logger import TensorBoard, png
from csf.pretrained import Skills, filmed, skills_of, worlds_of
from csf.sampler import RolloutSampler
from csf.types import EnvSpec, Evaluation
from csf.worlds import check_same, describe

HEAD = """\
Measure the skills of a checkpoint.

usage: csf evaluate RUN_OR_FILE [KEY=VALUE ...]   (or python -m csf.evaluate)

Measures state coverage, return and zero-shot goal reaching. Prints a table, and writes eval_<epoch>.json and pictures
next to the checkpoint and a TensorBoard event file to <run>/eval; those of packaged:NAME are written to
<exp_dir>/packaged/NAME. RUN_OR_FILE is the value of cp_path; instead of it,
method= and env= select the newest run of that method on that environment.

Keys, with their values:
"""
MAX_WORLDS = 256  # more worlds at once need more memory and save no time


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation."""

    cp_path: str | None  # run's folder, policy file, full checkpoint, pattern, packaged:NAME, or hf://USER/NAME
    method: str | None  # method of the checkpoint; without cp_path, the newest run of this method is used
    env: str | None  # training environment of the checkpoint
    exp_dir: Path  # folder to search for runs if cp_path is null
    skills: Count  # number of episodes for coverage and return
    goals: Count  # number of episodes for zero-shot goal reaching
    seed: Seed  # random seed of skills, goals, worlds and actions
    seeds: Count  # number of evaluations, with the seeds from seed on; results are means, and their ranges are added
    device: Literal["auto", "cpu", "cuda"]  # device of the networks; auto: cuda if available
    threads: Natural  # number of CPU threads; 0: OMP_NUM_THREADS if set, else one per usable core
    video: bool  # whether to record a video of the skills
    out: str | None  # folder for the results; null: next to the checkpoint


def run(settings: Settings) -> None:
    """Evaluate a checkpoint, print a table, and write the results."""
    device = pick_device(settings.device)
    use_threads(settings.threads)
    path, about, agent = open_newest(locate(settings), device)
    agree(about, settings, path)
    place = place_of(path, about.get("epoch"), settings)
    skills = skills_of(about["config"], run_of(path))
    spec = surroundings(about["config"], agent, skills)
    sys.stderr.write(f"evaluating {path}, epoch {about.get('epoch')}\n")
    config = about["config"] | {"env": environment(about, settings)}
    found = measure_seeds(agent, spec, config, skills, settings)
    report = {
        "checkpoint": path.name,
        **{key: about.get(key) for key in ("epoch", "env_steps", "gradient_steps")},
        "method": about["config"]["agent"]["name"],
        "env": spec.id,
        "env_version": spec.version,
        **{key: getattr(settings, key) for key in ("seed", "seeds", "skills", "goals")},
        "results": found.metrics,
        **({"ranges": found.ranges} if settings.seeds > 1 else {}),
        "versions": checkpoint.provenance(),
    }
    sys.stdout.write("\n".join(table(report)) + "\n")
    keep(place, report, found)
    images = dict(found.images)
    if settings.video:
        sys.stderr.write("recording a video of the skills\n")
        video = place.folder / f"{place.name}_skills.webm"
        images["skills"] = film(video, agent, filmed(config, skills, device), settings.seed)
        sys.stderr.write(f"written to {place.folder}: {video.name}\n")
    show(place.board, report, images)


class Place(NamedTuple):
    """Destination of the results."""

    folder: Path
    name: str  # stem of file names; contains the epoch, so that the results of all epochs are kept
    board: Path  # folder of the TensorBoard event file


def place_of(path: Path, epoch: int | None, settings: Settings) -> Place:
    """Return the destination of the results after a test that it can be written.

    It is `out`, a folder in `exp_dir` for a packaged policy, or the checkpoint's folder.

    Raises:
        ConfigError: if it would be the cache of downloads, or its path is not UTF-8.
        CheckpointError: if it cannot be written.
    """
    name = checkpoint.evaluation(epoch)
    if settings.out is not None:
        folder = files.check_name(Path(settings.out).expanduser())
        place = Place(folder, name, folder / "eval")
    elif packaged.is_address(settings.cp_path or ""):
        folder = files.check_name(settings.exp_dir / packaged.PREFIX / path.parent.name)
        place = Place(folder, name, folder / "eval")
    elif (settings.cp_path or "").startswith(hub.PREFIX):
        raise ConfigError(f"the results of {settings.cp_path} need a folder; accepted: out=DIR")
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
    """Return the path or pattern to evaluate.

    Raises:
        ConfigError: if neither a path nor method and environment are given.
        CheckpointError: if there is no such run.
    """
    if settings.cp_path is not None and packaged.is_address(settings.cp_path):
        return packaged.complete(settings.cp_path, settings.env)
    if settings.cp_path is not None:
        return settings.cp_path
    if settings.method is None or settings.env is None:
        raise ConfigError("no checkpoint is given; accepted: RUN_OR_FILE, or method=METHOD env=ENVIRONMENT")
    path, _ = choose(Path(settings.exp_dir), settings.method, settings.env)
    return path.parent


def agree(about: dict[str, Any], settings: Settings, path: Path) -> None:
    """Check that a checkpoint is of the requested method and environment.

    Raises:
        CheckpointError: if it is not.
    """
    for key, group in (("method", "agent"), ("env", "env")):
        asked, name = getattr(settings, key), about["config"][group]["name"]
        if asked not in (None, name):
            raise CheckpointError(f"{path} was trained with {group}={name}; accepted: {asked} ({key}={asked})")


def environment(about: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the section env of the run's configuration, with the number of threads of this evaluation."""
    env = dict(about["config"]["env"])
    return env | {"threads": settings.threads} if "threads" in env else env


def surroundings(config: dict[str, Any], agent: Agent, skills: Skills | None) -> EnvSpec:
    """Return the spec of the installed environment.

    Raises:
        CheckpointError: if the agent was trained with other observations or actions.
    """
    worlds = worlds_of(config, 1, skills, agent.objective.device())
    here, there = describe(worlds, agent.spec.id), agent.spec
    worlds.close()
    check_same(there, here)
    if there.version != here.version:
        sys.stderr.write(f"trained on {there.id} {there.version}; evaluated on {here.version}\n")
    return here


def measure(
    agent: Agent, spec: EnvSpec, config: dict[str, Any], skills: Skills | None, settings: Settings
) -> Evaluation:
    """Run every evaluation that the environment and the method support, in one world per episode."""
    found = Evaluation({}, {})
    device, plot_range = agent.objective.device(), config["env"].get("plot_range")
    source = worlds_of(config, 1, skills, device)  # describes success and samples goals
    for evaluator in suite(agent, source, settings.skills, settings.goals, settings.seed, plot_range):
        worlds = worlds_of(config, min(MAX_WORLDS, evaluator.episodes), skills, device)
        sampler = RolloutSampler(worlds, spec, settings.seed, device)
        metrics, images = evaluator.run(agent, sampler)
        sampler.close()
        found = Evaluation(found.metrics | metrics, found.images | images)
    source.close()
    return found


class Measured(NamedTuple):
    """Results over several evaluation seeds."""

    metrics: dict[str, float]  # means
    ranges: dict[str, tuple[float, float]]  # the least and the largest value
    images: dict[str, np.ndarray]  # of the first seed


def measure_seeds(
    agent: Agent, spec: EnvSpec, config: dict[str, Any], skills: Skills | None, settings: Settings
) -> Measured:
    """Run every evaluation with each of the seeds."""
    each = [dataclasses.replace(settings, seed=settings.seed + i) for i in range(settings.seeds)]
    found = [measure(agent, spec, config, skills, one) for one in each]
    values = {name: [one.metrics[name] for one in found if name in one.metrics] for name in found[0].metrics}
    means = {name: float(np.mean(row)) if len(row) > 1 else row[0] for name, row in values.items()}
    return Measured(means, {name: (min(row), max(row)) for name, row in values.items()}, found[0].images)


def table(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table of results."""
    yield (
        f"{report['method']} on {report['env']} ({report['env_version']}), epoch {report['epoch']}, "
        f"{report['env_steps']:,} env steps; {_seeds(report)}, {report['skills']} skills, {report['goals']} goals"
    )
    for name, value in report["results"].items():
        between = "   ({:.4g} to {:.4g})".format(*report["ranges"][name]) if "ranges" in report else ""
        yield f"  {name.removeprefix('eval/'):<24} {value:10.4g}{between}"


def _seeds(report: dict[str, Any]) -> str:
    first, last = report["seed"], report["seed"] + report["seeds"] - 1
    return f"seed {first}" if first == last else f"means and ranges over seeds {first} to {last}"


def keep(place: Place, report: dict[str, Any], found: Measured) -> None:
    """Write eval_<epoch>.json and eval_<epoch>_<picture>.png.

    Raises:
        CheckpointError: if a file cannot be written.
    """
    pictures = {f"{place.name}_{name}.png": png(image) for name, image in found.images.items()}
    contents = {f"{place.name}.json": json.dumps(report, indent=2).encode() + b"\n", **pictures}
    for name, content in contents.items():
        files.write(place.folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    sys.stderr.write(f"written to {place.folder}: {', '.join(contents)}\n")


def show(folder: Path, report: dict[str, Any], images: dict[str, np.ndarray]) -> None:
    """Write metrics, pictures and the video to an event file, which TensorBoard shows as <run>/eval.

    Raises:
        CheckpointError: if it cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
        board = TensorBoard(folder)
        board.write({"epoch": report["epoch"], **report["results"]}, images)
        board.close()
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error


def main() -> None:
    """Run the command; user errors print one line."""
    usage.run_command(Settings, "evaluate", ["cp_path"], HEAD, run)


if __name__ == "__main__":
    main()
