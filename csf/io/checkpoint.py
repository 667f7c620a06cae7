"""Full checkpoints: one file with everything that a run needs to resume, which loads without executing code."""

from __future__ import annotations

import logging
import platform
import subprocess
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from csf import __version__
from csf.errors import CheckpointError
from csf.io import files
from csf.types import Stateful

log = logging.getLogger(__name__)

FORMAT = 1
FULL, POLICY = "epoch_{:06d}.pt", "policy_{:06d}.safetensors"
KEEP = 2  # full checkpoints; the older one is used if the newer is damaged
KEEP_POLICY_EVERY = 1000  # epochs; other policies are kept if `milestones` has their epoch, or with a full checkpoint
# Epochs, each about 1.4 times the previous: 1, 2, 3, 4, 6, 8, 11, 16, ... Their policies show how skills emerged.
MARKS = sorted({round(2 ** (k / 2)) for k in range(64)})


def provenance() -> dict[str, str]:
    """Return the versions of Python and the main packages, and the commit of the code if it is in a git repository."""
    versions = {"csf": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "gymnasium", "mujoco"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    folder = Path(__file__).parents[2]
    if (folder / ".git").exists():
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        with suppress(OSError, subprocess.CalledProcessError):  # git is not installed, or refuses the folder
            versions["commit"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return versions


def save(path: Path, parts: Mapping[str, Stateful], facts: Mapping[str, Any], device: torch.device) -> None:
    """Write the full state of all parts, the random states and plain `facts` atomically.

    The random states are those of the CPU and of the run's `device`.

    Raises:
        CheckpointError: if the file cannot be written; an earlier file is unchanged.
    """
    rng: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(device)
    state = {"format": FORMAT, "parts": {name: part.full_state() for name, part in parts.items()}, "rng": rng}
    files.write(path, lambda file: torch.save({**state, **facts}, file))


def load(path: Path) -> dict[str, Any]:
    """Read a full checkpoint without executing code from it.

    Raises:
        CheckpointError: if there is no such file, it is damaged or of another program, or has another format.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pt"))) or "none"
        raise CheckpointError(f"no checkpoint {path}; in that folder: {there}")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # PyTorch does not verify checksums
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # arbitrary bytes can raise any error
        foreign = isinstance(error, UnpicklingError)
        reason = "it holds more than tensors and plain data" if foreign else files.reason_of(error)[:120]
        raise CheckpointError(f"{path} is not a whole checkpoint of this program ({reason})") from error
    kept = state.get("format") if isinstance(state, dict) else None
    if kept != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {kept}; this version reads {FORMAT}")
    return state


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest full checkpoint in a folder that can be read; None if there are no checkpoints.

    Raises:
        CheckpointError: if there are checkpoints, but none can be read.
    """
    errors = []
    for path in reversed(found(folder, FULL).values()):
        try:
            return path, load(path)
        except CheckpointError as error:
            log.warning("%s; trying the previous checkpoint", error)
            errors.append(str(error))
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} can be read: {errors[0]}")
    return None


def restore(state: Mapping[str, Any], parts: Mapping[str, Stateful], device: torch.device) -> None:
    """Restore the parts and the random states of the CPU and of `device` from a loaded state."""
    for name, part in parts.items():
        part.load_full_state(state["parts"][name])
    rng = state["rng"]
    torch.set_rng_state(rng["torch"])
    if device.type == "cuda" and "cuda" in rng:
        saved = rng["cuda"]
        # Older checkpoints have a list with the states of all visible devices; runs have always used the first.
        torch.cuda.set_rng_state(saved[0] if isinstance(saved, list) else saved, device)


def prune(folder: Path) -> None:
    """Delete old full checkpoints, old policies except milestones, and abandoned partial files."""
    full, policies = found(folder, FULL), found(folder, POLICY)
    kept = set(list(full)[-KEEP:])
    old = [path for epoch, path in full.items() if epoch not in kept]
    kept |= milestones(policies)
    old += [path for epoch, path in policies.items() if epoch not in kept]
    for path in [*old, *files.abandoned(folder)]:
        path.unlink(missing_ok=True)


def milestones(epochs: Iterable[int]) -> set[int]:
    """Return the saved epochs whose policies are never deleted.

    These are every thousandth epoch and the first saved epoch at or after each of `MARKS`. Saving later epochs does
    not change the earlier choices.
    """
    saved = sorted(epochs)
    after = (bisect_left(saved, mark) for mark in MARKS)
    return {epoch for epoch in saved if epoch % KEEP_POLICY_EVERY == 0} | {saved[i] for i in after if i < len(saved)}


def found(folder: Path, kind: str) -> dict[int, Path]:
    """Return the files of a kind (`FULL`, `POLICY`) by epoch, oldest first; other names are ignored."""
    before, after = kind.split("{:06d}")
    names = {path.name.removeprefix(before).removesuffix(after): path for path in folder.glob(pattern(kind))}
    return dict(sorted((int(name), path) for name, path in names.items() if name.isdecimal()))


def evaluation(epoch: int | None) -> str:
    """Return the stem of the names of an epoch's evaluation files."""
    return "eval" if epoch is None else f"eval_{epoch:06d}"


def pattern(kind: str) -> str:
    """Return the glob pattern of a kind of file (`FULL`, `POLICY`)."""
    return kind.replace("{:06d}", "*")
