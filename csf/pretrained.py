"""Pretrained skills in a controller's run: finds and copies them, and builds worlds whose actions are skills."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from csf.agents import Agent
from csf.backbones import backbones
from csf.config import compose
from csf.config.schema import Config
from csf.errors import CheckpointError, ConfigError
from csf.hierarchy import SkillVectorEnv
from csf.io import packaged, policy
from csf.io.load import EXPORTED, choose, find, open_newest, read, run_of
from csf.io.run_dir import differences, read_config
from csf.types import Worlds
from csf.worlds import base_of, make_worlds

KEPT = "skills.safetensors"  # in the folder of a controller's run
SHOWN = 3  # maximum number of other runs that are listed


class Skills(NamedTuple):
    """A frozen agent whose skills are a controller's actions."""

    agent: Agent
    about: Mapping[str, Any]  # metadata of its file
    cp_path: str  # file that the controller's run was started with
    kept: bool  # whether the agent was read from the run's own copy


def prepared(tree: Any, overrides: Sequence[str]) -> tuple[Config, Skills | None]:
    """Return the configuration of a job and the skills that it uses.

    If a run of this configuration exists under the name that earlier versions gave it, it is resumed there.

    Args:
        tree: tree that Hydra composed.
        overrides: the overrides of the job.

    Raises:
        ConfigError: if a key, type or value is not accepted.
        CheckpointError: if the skills cannot be found or used.
    """
    cfg = compose.build(tree)
    former = compose.former_name(tree, overrides)
    if former != cfg.run_name and read_config(cfg.exp_dir / cfg.run_name) is None:
        kept = read_config(cfg.exp_dir / former)
        if kept is not None and (found := _under(former, kept, cfg, overrides)):
            sys.stderr.write(f"resuming {cfg.exp_dir / former}: the name of this run in an earlier version\n")
            return found
    return with_skills(cfg, overrides)


def _under(
    name: str, kept: Mapping[str, Any], cfg: Config, overrides: Sequence[str]
) -> tuple[Config, Skills | None] | None:
    """Return the job under another name; None if the run of that name has another configuration."""
    cfg = dataclasses.replace(cfg, run_name=name, tree=cfg.tree | {"run_name": name})
    loose = {"cp_path", "agent"} if cfg.skills else set()  # determined by the skills
    if differences(*({key: value for key, value in each.items() if key not in loose} for each in (kept, cfg.tree))):
        return None
    found = with_skills(cfg, overrides)
    return None if differences(kept, found[0].tree) else found


def with_skills(cfg: Config, overrides: Sequence[str]) -> tuple[Config, Skills | None]:
    """Find the skills of a job; returns its configuration with the path of their file, and the skills.

    One-hot skills select a backbone with one-hot actions, unless an override chooses the backbone.

    Raises:
        CheckpointError: if the skills cannot be found or used.
    """
    if cfg.skills is None:
        return cfg, None
    folder, env = cfg.exp_dir / cfg.run_name, base_of(cfg.env)
    cp_path, others = _source(folder, cfg, cfg.skills, env)
    skills = _open(folder, cp_path, cfg.skills, env)
    named = any(word.lstrip("+").startswith("agent/backbone=") for word in overrides)
    unfit = skills.agent.objective.prior == "one_hot" and backbones[cfg.backbone.name].discrete is False
    tree = compose.recompose(overrides, ["agent/backbone=discrete_sac"] if unfit and not named else [])
    tree.cp_path, tree.run_name = cp_path, cfg.run_name
    sys.stderr.write(f"skills of {cfg.skills} on {env} after epoch {skills.about['epoch']}: {cp_path}\n")
    if others:
        names = ", ".join(str(run_of(path)) for path in others[:SHOWN]) + (", ..." if others[SHOWN:] else "")
        sys.stderr.write(f"other runs: {names} ({len(others)} besides the one used; select one with cp_path=)\n")
    return compose.build(tree), skills


def skills_of(config: Mapping[str, Any], folder: Path) -> Skills | None:
    """Return the skills that a run in `folder` with this plain configuration uses; None if it uses none.

    Raises:
        CheckpointError: if the skills cannot be found or used.
    """
    if config.get("skills") is None:
        return None
    if (folder / EXPORTED).is_file() and not (folder / KEPT).is_file():  # never a path that somebody else chose
        raise CheckpointError(
            f"{folder} has no {KEPT}, the skills of this controller; accepted: a whole exported folder"
        )
    return _open(folder, config["cp_path"], config["skills"], base_of(config["env"]))


def worlds_of(config: Mapping[str, Any], count: int, skills: Skills | None, device: torch.device) -> Worlds:
    """Build the worlds of a run, whose actions are skills if the run uses skills.

    Args:
        config: plain configuration of the run.
        count: number of worlds.
        skills: skills of the run.
        device: device of the agent with the skills.

    Raises:
        ConfigError: if the environment or a setting is not accepted, or the skills do not fit the environment.
    """
    worlds = make_worlds(config["env"], count)
    if skills is None:
        return worlds
    try:
        return cast(Worlds, SkillVectorEnv(worlds, skills.agent.to(device), config["hold"]))
    except ValueError as error:
        raise ConfigError(f"{config['cp_path']}: {error}") from error


def filmed(config: Mapping[str, Any], skills: Skills | None, device: torch.device) -> Callable[[int], Worlds]:
    """Return a function that builds N worlds of a run that can be rendered."""
    return lambda count: worlds_of(
        {**config, "env": {**config["env"], "render_mode": "rgb_array"}}, count, skills, device
    )


def keep(folder: Path, skills: Skills | None) -> None:
    """Copy the skills of a run into its folder, once: the original may be deleted by its run as an old policy.

    Raises:
        CheckpointError: if the copy cannot be written.
    """
    if skills is not None and not skills.kept:
        policy.save(folder / KEPT, skills.agent, {**skills.about, "cp_path": skills.cp_path})


def _source(folder: Path, cfg: Config, method: str, env: str) -> tuple[str, list[Path]]:
    """Return the file that a run loads its skills from, and the files of other runs that match.

    It is the file that the run was started with, unless `cp_path` names another. Without either, runs without changed
    settings are preferred, then runs with the same seed, then the most recently written one.

    Args:
        folder: folder of the run, which may not exist.
        cfg: configuration of the run.
        method: name of the agent with the skills.
        env: name of the environment on which it was trained.

    Raises:
        CheckpointError: if there is no such file.
    """
    began, given = (read_config(folder) or {}).get("cp_path"), cfg.cp_path
    if given and packaged.is_address(given):
        return packaged.complete(given, env), []  # the address, since the package may be installed elsewhere later
    if began and (given is None or names(given, began)):
        return str(began), []
    if given:
        return str(find(given)), []
    path, others = choose(cfg.exp_dir, method, env, cfg.seed)
    return str(path), others


def _open(folder: Path, cp_path: str, method: str, env: str) -> Skills:
    """Read the skills, from the run's own copy if there is one.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or has another method, environment or format.
    """
    about, agent, kept = _kept(folder, cp_path) or (*open_newest(cp_path)[1:], False)
    name, id = agent.objective.cfg.name, agent.spec.id
    if name != method:
        raise CheckpointError(f"{cp_path} was trained with agent={name}; accepted: {method} (skills={method})")
    if id != env:
        raise CheckpointError(f"{cp_path} was trained with env={id}; accepted: {env}")
    return Skills(agent, about, cp_path, kept)


def _kept(folder: Path, cp_path: str) -> tuple[dict[str, Any], Agent, bool] | None:
    """Read the run's own copy; None if there is none, or it has other skills."""
    copy = folder / KEPT
    if not copy.is_file():
        return None
    about, agent = read(copy)
    if (folder / EXPORTED).is_file() or about.get("cp_path") == cp_path:
        return about, agent, True
    return None


def names(cp_path: str, file: str) -> bool:
    """Whether a path or a pattern matches a file or a folder that contains it."""
    named, whole = Path(cp_path).expanduser().resolve(), Path(file).resolve()
    literally = named in (whole, *whole.parents)  # a run name may contain [8,8], which is not a pattern
    return literally or fnmatch(str(whole), str(named)) or fnmatch(str(whole), f"{named}/*")
