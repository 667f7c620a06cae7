"""The pretrained agent of an adaptation: finds it, reads it with its critics if needed, and keeps a copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from csf.agents import Agent
from csf.errors import CheckpointError, ConfigError
from csf.io import checkpoint, packaged, policy
from csf.io.load import FULL, choose, open_newest, read

KEPT = "pretrained.safetensors"  # in the folder of a run of csf adapt


class Source(NamedTuple):
    """A pretrained agent."""

    agent: Agent
    about: Mapping[str, Any]  # metadata of its file
    cp_path: str  # the file, or the address of a packaged policy
    kept: bool = False  # whether the agent was read from the run's own copy


def open_source(cp_path: str, critics: bool, env: str | None = None) -> Source:
    """Open the pretrained agent that a path names.

    Args:
        cp_path: a run's folder, a policy file, a full checkpoint, a pattern, packaged:NAME, or hf://USER/NAME.
        critics: whether the critics are needed.
        env: name of the environment of the skills, which completes packaged:.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or it has no critics and they are needed.
    """
    address = packaged.is_address(cp_path)
    if address and env is not None:
        cp_path = packaged.complete(cp_path, env)
    path, about, agent = open_newest(cp_path)
    if critics and not _has_critics(path, about):
        path, about, agent = _with_critics(path, about)
    if not agent.objective.cfg.skill_dim:
        raise CheckpointError(f"{path} was trained with agent={agent.objective.cfg.name}, which has no skills")
    return Source(agent, about, cp_path if address else str(path))


def newest_source(exp_dir: Path, method: str, env: str, seed: int, critics: bool) -> Source:
    """Open the newest run of a method on an environment, as `csf.io.load.choose` chooses it.

    Raises:
        CheckpointError: there is no such run, or as `open_source`.
    """
    return open_source(str(choose(exp_dir, method, env, seed)[0]), critics)


def kept_source(folder: Path) -> Source | None:
    """Read the copy in the folder of a run; None if there is none."""
    if not (folder / KEPT).is_file():
        return None
    about, agent = read(folder / KEPT)
    return Source(agent, about, str(about["cp_path"]), True)


def keep(folder: Path, source: Source) -> None:
    """Copy the pretrained agent into the folder of a run, once: its run may delete the original as an old policy.

    Raises:
        CheckpointError: the copy cannot be written.
    """
    if not source.kept:
        critics = _has_critics(Path(source.cp_path), source.about)
        policy.save(folder / KEPT, source.agent, {**source.about, "cp_path": source.cp_path}, critics)


def check_method(source: Source, method: str | None) -> str:
    """Return the method of the pretrained agent.

    Raises:
        ConfigError: `method` is another one.
    """
    name = str(source.agent.objective.cfg.name)
    if method not in (None, name):
        raise ConfigError(f"method is {method}; accepted with {source.cp_path}: {name}")
    return name


def _has_critics(path: Path, about: Mapping[str, Any]) -> bool:
    return path.suffix == FULL or bool(about.get("critics"))


def _with_critics(path: Path, about: Mapping[str, Any]) -> tuple[Path, dict[str, Any], Agent]:
    """Open the full checkpoint of the same epoch beside a policy without critics."""
    full = path.parent / checkpoint.FULL.format(about.get("epoch") or 0)
    if not full.is_file():
        raise CheckpointError(
            f"{path} has no critics; accepted with these task.critics: a policy trained with task.keep_critics=true, "
            "a full checkpoint epoch_*.pt, or the newest policy of a run that has its full checkpoint"
        )
    return full, *read(full)
