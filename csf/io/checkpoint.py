"""Full checkpoints: a file with everything that a run needs to resume, which loads without executing code.

The rows of a replay buffer are in files beside it, which the checkpoints of a run share (`csf.io.segments`).
"""

from __future__ import annotations

import logging
import platform
import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from csf import __version__
from csf.errors import CheckpointError
from csf.io import files, segments, untrusted
from csf.io.segments import Segment, Segments
from csf.types import Growing, Stateful

log = logging.getLogger(__name__)

FORMAT = 2
READABLE = (1, FORMAT)  # in format 1, the file has the replay buffer as well
FULL, POLICY = "epoch_{:06d}.pt", "policy_{:06d}.safetensors"
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


Saved = MutableMapping[str, tuple[Segment, ...]]  # files with the rows of each growing part, by its name


def save(
    path: Path,
    parts: Mapping[str, Stateful],
    facts: Mapping[str, Any],
    device: torch.device,
    saved: Saved | None = None,
) -> None:
    """Write the full state of all parts, the random states and plain `facts`.

    The random states are those of the CPU and of the run's `device`. A killed process leaves earlier checkpoints.

    Args:
        path: path of the file; rows of growing parts are in folders beside it, each with the name of its part.
        parts: parts by name.
        facts: more plain data.
        device: device of the run.
        saved: files of the run's previous checkpoint in the same folder, replaced by those of the new one; None: all
            rows are written.

    Raises:
        CheckpointError: if a file cannot be written; earlier checkpoints are unchanged.
    """
    rng: dict[str, Any] = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state(device)
    written: dict[str, Segments] = {}
    states: dict[str, Any] = {}
    for name, part in parts.items():
        if isinstance(part, Growing):
            written[name] = segments.save(path.parent / name, part, (saved or {}).get(name, ()))
            states[name] = {**part.head_state(), "segments": written[name].plain()}
        else:
            states[name] = part.full_state()
    state = {"format": FORMAT, "parts": states, "rng": rng}
    files.write(path, lambda file: torch.save({**state, **facts}, file))
    if saved is not None:
        saved.update({name: each.listed for name, each in written.items()})


def load(path: Path) -> dict[str, Any]:
    """Read a full checkpoint without executing code from it; the rows of its growing parts are read when iterated.

    Raises:
        CheckpointError: if there is no such file, it is damaged or of another program, or has another format.
    """
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.pt"))) or "none"
        raise CheckpointError(f"no checkpoint {path}; in that folder: {there}")
    try:
        state = untrusted.load_tensors(path)
    except Exception as error:  # arbitrary bytes can raise any error
        foreign = isinstance(error, UnpicklingError)
        reason = "it holds more than tensors and plain data" if foreign else files.reason_of(error)[:120]
        raise CheckpointError(f"{path} is not a whole checkpoint of this program ({reason})") from error
    kept = state.get("format") if isinstance(state, dict) else None
    if kept not in READABLE:
        accepted = " and ".join(map(str, READABLE))
        raise CheckpointError(f"{path} has checkpoint format {kept}; this version reads {accepted}")
    try:
        for name, part in _growing(state).items():
            if not name.isidentifier():
                raise ValueError(f"{name!r} is no name of a folder beside it")
            part["segments"] = Segments(path.parent / name, tuple(Segment(**each) for each in part["segments"]))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint of this program ({error})") from error
    return state


def _growing(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the states of growing parts by name."""
    return {name: part for name, part in state["parts"].items() if "segments" in part}


def saved_in(state: Mapping[str, Any]) -> Saved:
    """Return the files of a loaded checkpoint, which the next one in the same folder can use."""
    return {name: part["segments"].listed for name, part in _growing(state).items()}


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest full checkpoint in a folder that is undamaged; None if there are no checkpoints.

    Raises:
        CheckpointError: if there are checkpoints, but none can be read.
    """
    errors = []
    for path in reversed(found(folder, FULL).values()):
        try:
            state = load(path)
            for part in _growing(state).values():
                part["segments"].check()
            return path, state
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


def describe_size(folder: Path, parts: Mapping[str, Stateful]) -> str | None:
    """Describe the memory and disk that growing parts will take, in one line; None if there are none."""
    full = sum(part.nbytes for part in parts.values() if isinstance(part, Growing))
    if not full:
        return None
    free = shutil.disk_usage(folder).free
    return f"a full replay buffer takes {_size(full)} of memory, and checkpoints as much of disk ({_size(free)} free)"


def _size(count: float) -> str:
    """Return a number of bytes as text: "3.7 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def prune(folder: Path, newest: int, keep: int, every: int) -> None:
    """Delete old checkpoints, abandoned partial files, and files without use.

    Args:
        folder: with the checkpoints of a run.
        newest: the epoch that was saved last. Full checkpoints of later epochs are damaged: the run has resumed from an
            earlier one.
        keep: number of full checkpoints to keep; an older one is used if the newest is damaged.
        every: keeps policies as `milestones` does; those with a full checkpoint are kept as well.
    """
    full, policies = found(folder, FULL), found(folder, POLICY)
    kept = set([epoch for epoch in full if epoch <= newest][-keep:])
    old = [path for epoch, path in full.items() if epoch not in kept]
    kept |= milestones(policies, every)
    old += [path for epoch, path in policies.items() if epoch not in kept]
    for path in [*old, *files.abandoned(folder)]:
        path.unlink(missing_ok=True)
    # Checkpoints first: a process that is killed in between leaves files without a checkpoint, not the reverse.
    used = _used(path for path in full.values() if path not in old)
    if used is None:
        return
    for name in {path.parent.name for path in folder.glob(f"*/*{segments.SUFFIX}*")}:
        segments.prune(folder / name, used.get(name, set()))


def _used(paths: Iterable[Path]) -> dict[str, set[str]] | None:
    """Return the names of the files with rows that full checkpoints list, by part; None if one cannot be read.

    It may be damaged, or readable again when there is more memory: then nothing that it may list can be deleted.
    """
    used: dict[str, set[str]] = {}
    for path in paths:
        try:
            state: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # does not read tensors
            listed = {name: part["segments"] for name, part in _growing(state).items()}
        except Exception as error:  # arbitrary bytes can raise any error
            log.debug("%s lists no files: %s", path, error)
            return None
        for name, rows in listed.items():
            used.setdefault(name, set()).update(Segment(**each).name for each in rows)
    return used


def saved_epochs(last: int, every: int) -> set[int]:
    """Return the epochs at which a run of `last` epochs saves: the multiples of `every`, and the last."""
    return {*range(every, last, every), last}


def milestones(epochs: Iterable[int], every: int) -> set[int]:
    """Return the saved epochs whose policies are never deleted.

    These are the multiples of `every` and the first saved epoch at or after each of `MARKS`. Saving later epochs does
    not change the earlier choices.
    """
    saved = sorted(epochs)
    after = (bisect_left(saved, mark) for mark in MARKS)
    return {epoch for epoch in saved if epoch % every == 0} | {saved[i] for i in after if i < len(saved)}


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
