"""Finds and loads what training leaves: an agent, or what a file says of itself."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import torch

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, policy

FULL = Path(checkpoint.FULL).suffix


def load(cp_path: str | Path, device: torch.device | str = "cpu") -> Agent:
    """A trained agent, ready to act; no code in the file can run, and neither Hydra nor the environment is needed.

    The agent has `act(obs, skill)`, `sample_skills(n)`, `goal_skill(obs, goal)` and `spec`, what it knows of its
    environment. Observations are as the environment of this package gives them: vectors [N, O] float32, normalized
    where `spec.obs_mean` and `spec.obs_std` say so, images [N, H, W, C] uint8, or both in a dict {"image", "vector"}.

    Args:
        cp_path: a run's folder, a policy file, a full checkpoint, or a pattern: see `csf.io.load.find`.
        device: where the agent computes.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another format.
    """
    return read(find(cp_path), device)[1]


def read(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Agent]:
    """What a policy file or a full checkpoint says of itself, and its agent, from one pass over the file.

    Raises:
        CheckpointError: as `load`.
    """
    if path.suffix != FULL:
        told, agent = policy.load(path)
    else:
        state = checkpoint.load(path)
        told = {key: value for key, value in state.items() if key not in ("parts", "rng")}
        policy.check_origin(path, told)
        try:
            agent = policy.rebuild(state)
            agent.load_state_dict(state["parts"]["agent"]["modules"])
        except policy.MISFITS as error:
            raise CheckpointError(f"{path} does not fit this version: {str(error).splitlines()[0]}") from error
    return told, agent.eval().to(device)


ACCEPTED = "accepted: a run's folder, a policy file, a full checkpoint, or a pattern of them"


def find(cp_path: str | Path) -> Path:
    """The policy file or full checkpoint that a path or a pattern names.

    Args:
        cp_path: such a file; a folder, of which the run last written is taken, and of it the latest epoch, as a policy
            file if there is one; or a pattern with *, ? or [] for files and folders, of which the last written counts.

    Raises:
        CheckpointError: there is no such file.
    """
    named = Path(cp_path).expanduser()
    # Not Path.exists, which raises where a name is too long or a folder may not be entered.
    matches = [named] if os.path.exists(named) else [Path(match) for match in glob.glob(str(named), recursive=True)]
    if not matches:
        raise CheckpointError(f"cp_path={cp_path}: no such file or folder; {ACCEPTED}")
    files = [file for match in matches if (file := _newest_in(match))]
    if not files:
        raise CheckpointError(f"cp_path={cp_path} holds neither a policy file nor a full checkpoint; {ACCEPTED}")
    return max(files, key=_written)


def newest(exp_dir: Path, method: str, env: str) -> Path:
    """The latest policy file of the run last written, of those of a method on an environment under `exp_dir`.

    Raises:
        CheckpointError: there is none.
    """
    for path in _runs(exp_dir, checkpoint.POLICY):
        if _made_by(path) == (method, env):
            return path
    raise CheckpointError(
        f"no run of agent={method} on env={env} under {exp_dir}/ has a policy file; "
        f"train one: python -m csf.train agent={method} env={env}, or name one with cp_path="
    )


def run_of(path: Path) -> Path:
    """The folder of the run that a checkpoint belongs to, or the checkpoint's own if it was put elsewhere."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def _newest_in(path: Path) -> Path | None:
    if path.is_file():
        return path
    for kind in (checkpoint.POLICY, checkpoint.FULL):
        if found := _runs(path, kind):
            return found[0]
    return None


def _runs(folder: Path, kind: str) -> list[Path]:
    """The file of the latest epoch in every folder below that has such files; the one last written comes first."""
    parents = {path.parent for path in folder.rglob(checkpoint.pattern(kind))}
    latest = [list(found.values())[-1] for parent in parents if (found := checkpoint.found(parent, kind))]
    return sorted(latest, key=_written, reverse=True)


def _written(path: Path) -> tuple[int, str]:
    return path.stat().st_mtime_ns, str(path)


def _made_by(path: Path) -> tuple[Any, Any] | None:
    """Method and environment; None of a file that is damaged or another program's, and so not the one sought."""
    try:
        config = policy.describe(path)["config"]
        return config["agent"]["name"], config["env"]["name"]
    except (CheckpointError, KeyError, TypeError):
        return None
