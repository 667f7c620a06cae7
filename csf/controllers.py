"""Hierarchical control, put together: what a pretrained run decides of a controller's, and its worlds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from csf import config as border
from csf.backbones import backbones
from csf.config import Config
from csf.errors import ConfigError
from csf.hierarchy import SkillVectorEnv, pretrained
from csf.types import Worlds
from csf.worlds import base_of, make_worlds


def with_skills(cfg: Config, overrides: Sequence[str]) -> Config:
    """The same job with what only the pretrained run can tell: which file has the skills, and what can choose them.

    One-hot skills take a backbone of one-hot actions in place of one that has none, unless the job names its own.

    Raises:
        CheckpointError: there are no such skills.
    """
    if cfg.skills is None:
        return cfg
    folder, env = cfg.exp_dir / cfg.run_name, base_of(cfg.env)
    cp_path = pretrained.lender(folder, cfg.cp_path, cfg.exp_dir, cfg.skills, env)
    prior = pretrained.borrow(folder, cp_path, cfg.skills, env).objective.prior
    named = any(word.lstrip("+").startswith("agent/backbone=") for word in overrides)
    unfit = prior == "one_hot" and backbones[cfg.backbone.name].discrete is False
    tree = border.recompose(overrides, ["agent/backbone=discrete_sac"] if unfit and not named else [])
    tree.cp_path = cp_path
    epoch = pretrained.epoch(folder, cp_path)
    sys.stderr.write(f"skills of {cfg.skills} on {env} after epoch {epoch}: {cp_path}\n")
    return border.build(tree)


def worlds_of(config: Mapping[str, Any], folder: Path, count: int, device: torch.device) -> Worlds:
    """N worlds of a run, with skills as their actions if its configuration says so.

    Args:
        config: plain, as a run and its checkpoints keep it.
        folder: of the run, where its copy of the skills is.
        count: N.
        device: where the agent computes that has the skills.

    Raises:
        ConfigError: an environment or a setting that is not accepted, or skills that do not fit.
        CheckpointError: the skills are not there, or cannot be used.
    """
    worlds, skills = make_worlds(config["env"], count), config.get("skills")
    if skills is None:
        return worlds
    agent = pretrained.borrow(folder, config["cp_path"], skills, base_of(config["env"]))
    try:
        return cast(Worlds, SkillVectorEnv(worlds, agent.to(device), config["hold"]))
    except ValueError as error:
        raise ConfigError(f"{config['cp_path']}: {error}") from error


def keep_skills(worlds: Worlds, folder: Path, cp_path: str | None) -> None:
    """Copy what these worlds' actions are made of into the folder of their run, if they are skills.

    Raises:
        CheckpointError: the copy cannot be written.
    """
    if cp_path is not None and isinstance(worlds, SkillVectorEnv):
        pretrained.keep(folder, cp_path, worlds.agent)
