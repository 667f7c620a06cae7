"""Everything that a run needs to go on, in one file that loads without running code; and the policy alone beside it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch

from csf.agents import Agent
from csf.errors import CheckpointError
from csf.types import Stateful

log = logging.getLogger(__name__)

FORMAT = 1
FULL, POLICY = "epoch_{:06d}.pt", "policy_{:06d}.safetensors"
KEEP = 2  # full states; the older one stands in if the newer is damaged
KEEP_POLICY_EVERY = 1000  # epochs; policies between these are kept only as long as their full state


def provenance() -> dict[str, str]:
    """Versions of what computes, and the commit of the code where it can be known."""
    found = {"python": platform.python_version()}
    for package in ("csf", "torch", "numpy", "gymnasium", "mujoco"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    folder = Path(__file__).parents[2]
    if (folder / ".git").exists():
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found["commit"] = done.stdout.strip()
    return found


def save(path: Path, parts: Mapping[str, Stateful], facts: Mapping[str, Any]) -> None:
    """Write the full state of all parts, the random states and plain `facts`, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    rng: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state_all()
    state = {"format": FORMAT, "parts": {name: part.full_state() for name, part in parts.items()}, "rng": rng}
    _write(path, lambda partial: torch.save({**state, **facts}, partial))


def save_policy(path: Path, agent: Agent, facts: Mapping[str, Any]) -> None:
    """Write actor and representation, without critics and optimizers, with `facts` as JSON in the file's header.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {name: value.contiguous().cpu() for name, value in agent.policy_state().items()}
    objective = agent.objective
    about = {"format": FORMAT, "spec": dataclasses.asdict(objective.spec), "prior": objective.prior, **facts}
    header = {"csf": json.dumps(about)}
    _write(path, lambda partial: partial.write_bytes(safetensors.torch.save(tensors, metadata=header)))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)  # a killed run leaves the previous file whole
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        partial.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"cannot write {path}: {reason}; earlier checkpoints are untouched") from error


def load(path: Path) -> dict[str, Any]:
    """Read a full state; no code in it can run.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another format.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pt"))) or "none"
        raise CheckpointError(f"no checkpoint {path}; in that folder: {there}")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise CheckpointError(f"{path} is not a whole checkpoint of this program ({reason})") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found}; this version reads {FORMAT}")
    return state


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest full state in a run's folder that can be read, if there is any.

    Raises:
        CheckpointError: there are checkpoints, and none can be read.
    """
    errors = []
    for path in sorted(folder.glob("epoch_*.pt"), reverse=True):
        try:
            return path, load(path)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
            errors.append(str(error))
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} can be read: {errors[0]}")
    return None


def restore(state: Mapping[str, Any], parts: Mapping[str, Stateful]) -> None:
    """Put loaded state into the parts, and the random states into the program."""
    for name, part in parts.items():
        part.load_full_state(state["parts"][name])
    torch.set_rng_state(state["rng"]["torch"])
    if torch.cuda.is_available() and "cuda" in state["rng"]:
        torch.cuda.set_rng_state_all(state["rng"]["cuda"])


def prune(folder: Path) -> None:
    """Delete all but the newest full states, and policies that are neither beside one nor milestones."""
    full = sorted(folder.glob("epoch_*.pt"))
    kept = {_epoch(path) for path in full[-KEEP:]}
    for path in [*full, *folder.glob("policy_*.safetensors")]:
        milestone = path.suffix == ".safetensors" and _epoch(path) % KEEP_POLICY_EVERY == 0
        if _epoch(path) not in kept and not milestone:
            path.unlink(missing_ok=True)


def _epoch(path: Path) -> int:
    return int(path.stem.split("_")[1])
