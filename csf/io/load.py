"""Finds and loads policy files and full checkpoints."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

import torch

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.io import checkpoint, files, hub, packaged, policy

FULL = Path(checkpoint.FULL).suffix
EXPORTED = "policy.safetensors"  # in a folder that csf export wrote
TRIES = 5


def load(cp_path: str | Path, device: torch.device | str = "cpu") -> Agent:
    """Load a trained agent without executing code from the file. Neither Hydra nor the environment is needed.

    The agent has `act(obs, skill)`, `sample_skills(n)`, `goal_skill(obs, goal)` and `spec`, the description of its
    environment. Observations are as returned by this package's environments: vectors [N, O] float32, normalized by
    `spec.obs_mean` and `spec.obs_std` if these are set, images [N, H, W, C] uint8, or a dict {"image", "vector"}.

    Args:
        cp_path: a run's folder, a policy file, a full checkpoint, a pattern, packaged:NAME, or hf://USER/NAME; see
            `csf.io.load.find`.
        device: device of the agent.

    Raises:
        CheckpointError: if there is no such file, it is damaged or of another program, or has another format.
    """
    return open_newest(cp_path, device)[2]


def open_newest(cp_path: str | Path, device: torch.device | str = "cpu") -> tuple[Path, dict[str, Any], Agent]:
    """Return the file that a path or a pattern names, its metadata, and its agent.

    A run that is training deletes old policies: if the file is deleted before it is opened, the search is repeated.

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
    """Read the metadata and the agent of a policy file or a full checkpoint, in one pass over the file.

    Raises:
        CheckpointError: as `load`.
    """
    if path.suffix != FULL:
        about, agent = policy.load(path)
    else:
        state = checkpoint.load(path)
        about = {key: value for key, value in state.items() if key not in ("parts", "rng")}
        policy.check_origin(path, about)
        try:
            modules = state["parts"]["agent"]["modules"]
            agent = policy.rebuild(path, state, sum(each.nbytes for each in modules.values()))
            agent.load_state_dict(modules)
        except policy.MISFITS as error:
            raise CheckpointError(f"{path} does not fit this version: {str(error).splitlines()[0]}") from error
    return about, agent.eval().to(device)


def accepted() -> str:
    """Return the accepted values of cp_path as text for messages."""
    kinds = "a run's folder, a policy file, a full checkpoint, a pattern of them"
    return ", ".join(filter(None, (f"accepted: {kinds}", packaged.addresses(), "hf://USER/NAME")))


def find(cp_path: str | Path) -> Path:
    """Return the policy file or full checkpoint that a path or a pattern names.

    Args:
        cp_path: one of:
            a policy file or a full checkpoint;
            a folder with one or more runs: the latest epoch of the most recently written run, preferably a policy;
            a folder that `csf export` wrote;
            packaged:NAME: such a folder that is installed with the package;
            hf://USER/NAME: such a folder on the Hugging Face hub, which is downloaded;
            a pattern with *, ? or [] that matches any of these: the most recently written match.

    Raises:
        CheckpointError: if there is no such file.
        MissingDependency: if huggingface_hub is needed and not installed.
    """
    if str(cp_path).startswith(hub.PREFIX):
        return hub.download(str(cp_path), EXPORTED)
    if packaged.is_address(cp_path):
        return packaged.find(str(cp_path), EXPORTED)
    named = files.check_name(Path(cp_path).expanduser())
    # Path.exists raises if a name is too long or a folder is not accessible; os.path.exists does not.
    matches = [named] if os.path.exists(named) else [Path(match) for match in glob.glob(str(named), recursive=True)]
    if not matches:
        raise CheckpointError(f"cp_path={cp_path}: no such file or folder; {accepted()}")
    held = [file for match in matches if (file := _newest_in(match))]
    if not held:
        raise CheckpointError(f"cp_path={cp_path} holds neither a policy file nor a full checkpoint; {accepted()}")
    return max(held, key=_written)


def choose(exp_dir: Path, method: str, env: str, seed: int | None = None) -> tuple[Path, list[Path]]:
    """Choose a run of a method on an environment; return its latest policy file, and those of the other such runs.

    Args:
        exp_dir: folder to search.
        method: name of the agent.
        env: name of the environment.
        seed: prefer runs without changed settings, then runs with this seed, then the most recently written one;
            None: the most recently written run.

    Raises:
        CheckpointError: if there is no such run.
    """
    made = [(path, config) for path in _runs(exp_dir, checkpoint.POLICY) if (config := _config_of(path, method, env))]
    if not made:
        raise CheckpointError(
            f"no run of agent={method} on env={env} under {exp_dir}/ has a policy file; "
            f"train one: csf train agent={method} env={env}, or select one with cp_path={_hint(method, env)}"
        )
    if seed is not None:
        made.sort(key=lambda each: (bool(each[1].get("variant")), each[1].get("seed") != seed))  # stable
    first, *others = (path for path, _ in made)
    return first, others


def _hint(method: str, env: str) -> str:
    """Return ", such as cp_path=packaged:NAME" for a packaged policy of the method and environment; empty if none."""
    found = (f"{packaged.PREFIX}:{name}" for name in packaged.names())
    return next((f", such as cp_path={each}" for each in found if _config_of(find(each), method, env)), "")


def run_of(path: Path) -> Path:
    """Return the run's folder of a checkpoint, or the checkpoint's folder if it was moved elsewhere."""
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
    """Return the file of the latest epoch of every folder below that has files of this kind, last written first."""
    parents = {path.parent for path in files.walk(folder, checkpoint.pattern(kind))}
    latest = [list(found.values())[-1] for parent in parents if (found := checkpoint.found(parent, kind))]
    return sorted(latest, key=_written, reverse=True)


def _written(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, str(path)
    except OSError:  # deleted in the meantime
        return 0, str(path)


def _config_of(path: Path, method: str, env: str) -> dict[str, Any] | None:
    """Return the configuration in a policy file; None if its method or environment differs, or it cannot be read."""
    try:
        config: dict[str, Any] = policy.describe(path)["config"]
        return config if (config["agent"]["name"], config["env"]["name"]) == (method, env) else None
    except (CheckpointError, KeyError, TypeError):
        return None
