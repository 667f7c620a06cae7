"""Whose skills a controller's run takes, and the copy that it keeps, since the lender prunes its old policies."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import policy
from csf.io.load import about, load
from csf.io.locate import find, newest
from csf.io.run_dir import read_config

KEPT = "skills.safetensors"  # in the folder of a controller's run


def lender(folder: Path, cp_path: str | None, exp_dir: Path, method: str, env: str) -> str:
    """The file from which a run takes its skills: the one it began with, if that is not another than `cp_path` names.

    Args:
        folder: of the run, which need not exist.
        cp_path: as `csf.io.locate.find` takes it; None: the newest policy of the method on the environment.
        exp_dir: where the newest is sought.
        method: name of the agent that has the skills.
        env: name of the environment on which it was trained.

    Raises:
        CheckpointError: there is no such file.
    """
    began = (read_config(folder) or {}).get("cp_path")
    if began and (cp_path is None or _names(cp_path, began)):
        return str(began)
    return str(find(cp_path) if cp_path else newest(exp_dir, method, env))


def borrow(folder: Path, cp_path: str, method: str, env: str) -> Agent:
    """The agent that has the skills, from the run's own copy if there is one.

    Raises:
        CheckpointError: there is no such file, it is damaged, or of another method, environment or format.
    """
    agent = load(folder / KEPT if _is_kept(folder, cp_path) else cp_path)
    name, id = agent.objective.cfg.name, agent.spec.id
    if name != method:
        raise CheckpointError(f"{cp_path} is of agent={name}; accepted here: {method}, as skills={method} says")
    if id != env:
        raise CheckpointError(f"{cp_path} is of env={id}; accepted here: {env}")
    return agent


def keep(folder: Path, cp_path: str, agent: Agent) -> None:
    """Copy the agent that was borrowed into the folder of a run, once.

    Raises:
        CheckpointError: the copy cannot be written.
    """
    if not _is_kept(folder, cp_path):
        policy.save(folder / KEPT, agent, {**about(Path(cp_path)), "cp_path": cp_path})


def epoch(folder: Path, cp_path: str) -> int:
    """The epoch after which the skills were saved."""
    return int(about(folder / KEPT if _is_kept(folder, cp_path) else Path(cp_path))["epoch"])


def _is_kept(folder: Path, cp_path: str) -> bool:
    copy = folder / KEPT
    return copy.is_file() and policy.describe(copy).get("cp_path") == cp_path


def _names(cp_path: str, file: str) -> bool:
    """Whether a path or a pattern names a file or a folder around it."""
    named, whole = Path(cp_path).expanduser().resolve(), Path(file).resolve()
    by_letter = named in (whole, *whole.parents)  # a run whose name has [8,8] in it is no pattern
    return by_letter or fnmatch(str(whole), str(named)) or fnmatch(str(whole), f"{named}/*")
