"""Pretrained skills in a controller's run: where they come from, the copy that the run keeps, and worlds over them."""

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
from csf.io import policy
from csf.io.load import choose, find, open_newest, read, run_of
from csf.io.run_dir import differences, read_config
from csf.types import Worlds
from csf.worlds import base_of, make_worlds

KEPT = "skills.safetensors"  # in the folder of a controller's run
SHOWN = 3  # runs that were not taken, by their names


class Skills(NamedTuple):
    """A frozen agent whose skills are a controller's actions."""

    agent: Agent
    about: Mapping[str, Any]  # what its file says of itself
    cp_path: str  # the file that the controller's run was started with
    kept: bool  # whether the run has its own copy


def prepared(tree: Any, overrides: Sequence[str]) -> tuple[Config, Skills | None]:
    """The configuration of a job, from the tree that Hydra composed of these overrides, and the skills that it uses.

    A run that has the folder which earlier versions gave to this configuration is continued there.

    Raises:
        ConfigError: a key, a type or a value that is not accepted.
        CheckpointError: there are no such skills.
    """
    cfg = compose.build(tree)
    former = compose.former_name(tree, overrides)
    if former != cfg.run_name and read_config(cfg.exp_dir / cfg.run_name) is None:
        kept = read_config(cfg.exp_dir / former)
        if kept is not None and (found := _under(former, kept, cfg, overrides)):
            sys.stderr.write(f"continuing {cfg.exp_dir / former}: the name that an earlier version gave to this run\n")
            return found
    return with_skills(cfg, overrides)


def _under(
    name: str, kept: Mapping[str, Any], cfg: Config, overrides: Sequence[str]
) -> tuple[Config, Skills | None] | None:
    """A job under another name, if the run of that name has the job's configuration."""
    cfg = dataclasses.replace(cfg, run_name=name, tree=cfg.tree | {"run_name": name})
    loose = {"cp_path", "agent"} if cfg.skills else set()  # which the skills decide
    if differences(*({key: value for key, value in each.items() if key not in loose} for each in (kept, cfg.tree))):
        return None
    found = with_skills(cfg, overrides)
    return None if differences(kept, found[0].tree) else found


def with_skills(cfg: Config, overrides: Sequence[str]) -> tuple[Config, Skills | None]:
    """Resolve the skills that a job uses: its configuration with the file that has them, and the skills.

    One-hot skills select a backbone with one-hot actions, unless the job names a backbone itself.

    Raises:
        CheckpointError: there are no such skills.
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
        sys.stderr.write(f"passed over: {names} ({len(others)} in all; cp_path= chooses another)\n")
    return compose.build(tree), skills


def skills_of(config: Mapping[str, Any], folder: Path) -> Skills | None:
    """The skills that a run in `folder` with this plain configuration uses; None if it uses none.

    Raises:
        CheckpointError: the skills are not there, or cannot be used.
    """
    if config.get("skills") is None:
        return None
    return _open(folder, config["cp_path"], config["skills"], base_of(config["env"]))


def worlds_of(config: Mapping[str, Any], count: int, skills: Skills | None, device: torch.device) -> Worlds:
    """N worlds of a run, with skills as their actions if it uses skills.

    Args:
        config: plain, as a run and its checkpoints keep it.
        count: N.
        skills: of the run.
        device: where the agent computes that has the skills.

    Raises:
        ConfigError: an environment or a setting that is not accepted, or skills that do not fit.
    """
    worlds = make_worlds(config["env"], count)
    if skills is None:
        return worlds
    try:
        return cast(Worlds, SkillVectorEnv(worlds, skills.agent.to(device), config["hold"]))
    except ValueError as error:
        raise ConfigError(f"{config['cp_path']}: {error}") from error


def filmed(config: Mapping[str, Any], skills: Skills | None, device: torch.device) -> Callable[[int], Worlds]:
    """Makes N worlds of a run that take pictures."""
    return lambda count: worlds_of(
        {**config, "env": {**config["env"], "render_mode": "rgb_array"}}, count, skills, device
    )


def keep(folder: Path, skills: Skills | None) -> None:
    """Copy the skills of a run into its folder, once: their own run may delete the file when it prunes old policies.

    Raises:
        CheckpointError: the copy cannot be written.
    """
    if skills is not None and not skills.kept:
        policy.save(folder / KEPT, skills.agent, {**skills.about, "cp_path": skills.cp_path})


def _source(folder: Path, cfg: Config, method: str, env: str) -> tuple[str, list[Path]]:
    """The file that a run takes its skills from, and those of other runs that were not taken.

    It is the one that the run was started with, unless `cp_path` names another. Without either, a run with the
    method's plain settings is preferred, and among them one with the same seed.

    Args:
        folder: of the run, which need not exist.
        cfg: of the run.
        method: name of the agent that has the skills.
        env: name of the environment on which it was trained.

    Raises:
        CheckpointError: there is no such file.
    """
    began = (read_config(folder) or {}).get("cp_path")
    if began and (cfg.cp_path is None or _names(cfg.cp_path, began)):
        return str(began), []
    if cfg.cp_path:
        return str(find(cfg.cp_path)), []
    path, others = choose(cfg.exp_dir, method, env, cfg.seed)
    return str(path), others


def _open(folder: Path, cp_path: str, method: str, env: str) -> Skills:
    """Read the skills, from the run's own copy if there is one.

    Raises:
        CheckpointError: there is no such file, it is damaged, or of another method, environment or format.
    """
    about, agent, kept = _kept(folder, cp_path) or (*open_newest(cp_path)[1:], False)
    name, id = agent.objective.cfg.name, agent.spec.id
    if name != method:
        raise CheckpointError(f"{cp_path} is of agent={name}; accepted here: {method}, as skills={method} says")
    if id != env:
        raise CheckpointError(f"{cp_path} is of env={id}; accepted here: {env}")
    return Skills(agent, about, cp_path, kept)


def _kept(folder: Path, cp_path: str) -> tuple[dict[str, Any], Agent, bool] | None:
    """The run's own copy, if it is of these skills."""
    copy = folder / KEPT
    if not copy.is_file():
        return None
    about, agent = read(copy)
    return (about, agent, True) if about.get("cp_path") == cp_path else None


def _names(cp_path: str, file: str) -> bool:
    """Whether a path or a pattern names a file or a folder around it."""
    named, whole = Path(cp_path).expanduser().resolve(), Path(file).resolve()
    by_letter = named in (whole, *whole.parents)  # a run whose name has [8,8] in it is no pattern
    return by_letter or fnmatch(str(whole), str(named)) or fnmatch(str(whole), f"{named}/*")
