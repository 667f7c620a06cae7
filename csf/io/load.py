"""Finds and loads what training leaves: an agent, or what a file says of itself."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import torch

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, files, hub, policy

FULL = Path(checkpoint.FULL).suffix
EXPORTED = "policy.safetensors"  # in a folder that csf.export made
TRIES = 5


def load(cp_path: str | Path, device: torch.device | str = "cpu") -> Agent:
    """A trained agent, ready to act; no code in the file can run, and neither Hydra nor the environment is needed.

    The agent has `act(obs, skill)`, `sample_skills(n)`, `goal_skill(obs, goal)` and `spec`, what it knows of its
    environment. Observations are as the environment of this package gives them: vectors [N, O] float32, normalized
    where `spec.obs_mean` and `spec.obs_std` say so, images [N, H, W, C] uint8, or both in a dict {"image", "vector"}.

    Args:
        cp_path: a run's folder, a policy file, a full checkpoint, a pattern, or hf://USER/NAME: see
            `csf.io.load.find`.
        device: where the agent computes.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another format.
    """
    return open_newest(cp_path, device)[2]


def open_newest(cp_path: str | Path, device: torch.device | str = "cpu") -> tuple[Path, dict[str, Any], Agent]:
    """The file that a path or a pattern names, what it says of itself, and its agent.

    A run that is training deletes old policies: if the file is gone before it is opened, the newest is found again.

    Raises:
        CheckpointError: as `load`.
    """
    for _ in range(TRIES - 1):
        path = find(cp_path)
        try:
            return path, *read(path, device)
        except CheckpointError:
            if path.exists():
                raise
    path = find(cp_path)
    return path, *read(path, device)


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
            agent = policy.rebuild(path, state)
            agent.load_state_dict(state["parts"]["agent"]["modules"])
        except policy.MISFITS as error:
            raise CheckpointError(f"{path} does not fit this version: {str(error).splitlines()[0]}") from error
    return told, agent.eval().to(device)


ACCEPTED = "accepted: a run's folder, a policy file, a full checkpoint, a pattern of them, or hf://USER/NAME"


def find(cp_path: str | Path) -> Path:
    """The policy file or full checkpoint that a path or a pattern names.

    Args:
        cp_path: such a file; a folder, of which the run last written is taken, and of it the latest epoch, as a policy
            file if there is one; a folder that `csf.export` made; hf://USER/NAME, such a folder on the Hugging Face
            hub, which is downloaded; or a pattern with *, ? or [] for files and folders, of which the last written
            counts.

    Raises:
        CheckpointError: there is no such file.
        MissingDependency: the hub is named, and its package is not installed.
    """
    if str(cp_path).startswith(hub.PREFIX):
        return hub.download(str(cp_path), EXPORTED)
    named = files.check_name(Path(cp_path).expanduser())
    # Not Path.exists, which raises where a name is too long or a folder may not be entered.
    matches = [named] if os.path.exists(named) else [Path(match) for match in glob.glob(str(named), recursive=True)]
    if not matches:
        raise CheckpointError(f"cp_path={cp_path}: no such file or folder; {ACCEPTED}")
    held = [file for match in matches if (file := _newest_in(match))]
    if not held:
        raise CheckpointError(f"cp_path={cp_path} holds neither a policy file nor a full checkpoint; {ACCEPTED}")
    return max(held, key=_written)


def choose(exp_dir: Path, method: str, env: str, seed: int | None = None) -> tuple[Path, list[Path]]:
    """The latest policy file of a run of a method on an environment under `exp_dir`, and those of the other such runs.

    Args:
        exp_dir: where to look.
        method: name of the agent.
        env: name of the environment.
        seed: a run with the method's plain settings is preferred, among them one with this seed, then the one last
            written; None: only the time counts.

    Raises:
        CheckpointError: there is none.
    """
    made = [(path, config) for path in _runs(exp_dir, checkpoint.POLICY) if (config := _config_of(path, method, env))]
    if not made:
        raise CheckpointError(
            f"no run of agent={method} on env={env} under {exp_dir}/ has a policy file; "
            f"train one: python -m csf.train agent={method} env={env}, or name one with cp_path="
        )
    if seed is not None:
        made.sort(key=lambda each: (bool(each[1].get("variant")), each[1].get("seed") != seed))  # stable
    first, *others = (path for path, _ in made)
    return first, others


def run_of(path: Path) -> Path:
    """The folder of the run that a checkpoint belongs to, or the checkpoint's own if it was put elsewhere."""
    return path.parent.parent if path.parent.name == "checkpoints" else path.parent


def _newest_in(path: Path) -> Path | None:
    if path.is_file():
        return path
    if (exported := path / EXPORTED).is_file():
        return exported
    for kind in (checkpoint.POLICY, checkpoint.FULL):
        if found := _runs(path, kind):
            return found[0]
    return None


def _runs(folder: Path, kind: str) -> list[Path]:
    """The file of the latest epoch in every folder below that has such files; the one last written comes first."""
    parents = {path.parent for path in files.walk(folder, checkpoint.pattern(kind))}
    latest = [list(found.values())[-1] for parent in parents if (found := checkpoint.found(parent, kind))]
    return sorted(latest, key=_written, reverse=True)


def _written(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, str(path)
    except OSError:  # deleted meanwhile
        return 0, str(path)


def _config_of(path: Path, method: str, env: str) -> dict[str, Any] | None:
    """The configuration in a policy file; None if it is of another method or environment, damaged or foreign."""
    try:
        config: dict[str, Any] = policy.describe(path)["config"]
        return config if (config["agent"]["name"], config["env"]["name"]) == (method, env) else None
    except (CheckpointError, KeyError, TypeError):
        return None
