"""A run's folder: made once, owned by one process at a time, and never mixed with another configuration."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from csf.config.schema import completed, told
from csf.errors import RunDirError
from csf.io import files

log = logging.getLogger(__name__)

log = logging.getLogger(__name__)

# What may change when a run is resumed: how long and how often, where it computes, and how it is logged.
MAY_CHANGE = {"task.epochs", "task.eval_every", "task.save_every", "device", "threads", "env.threads", "wandb"}
MAY_CHANGE |= {"exp_dir", "run_name", "variant"}  # a folder may be moved
MAY_CHANGE |= {"task.keep_critics"}  # what is saved beside the policy
CONFIG = "config.yaml"
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # of flock on Lustre and some NFS


class RunDir:
    """`exp/<run name>` with config.yaml, metrics.jsonl, TensorBoard events, plots/ and checkpoints/."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        """Make or enter the folder of a run with this plain configuration.

        Raises:
            RunDirError: the folder cannot be written, is in use, or holds a run with another configuration.
            ConfigError: its path is not UTF-8.
        """
        self.path = files.check_name(path)
        self.plots, self.checkpoints = path / "plots", path / "checkpoints"
        try:
            for folder in (path, self.plots, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                self._lock = self._own()
                undo.callback(self.close)
                self._agree(config)
                undo.pop_all()
        except OSError as error:
            raise RunDirError(f"cannot use the run folder {path}: {error.strerror or error}") from error

    def _own(self) -> int:
        """Hold the folder until the process ends, however it ends."""
        lock = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            message = f"{self.path} is in use by another process; wait for it or change run_name"
            raise RunDirError(message) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(lock)
                raise
            log.warning(
                "%s is on a file system without locks (%s): nothing keeps a second process out of it",
                self.path,
                error.strerror,
            )
        return lock

    def _agree(self, config: Mapping[str, Any]) -> None:
        """Refuse another configuration; else write this one."""
        file = self.path / CONFIG
        kept, added = _read(self.path)
        if added:
            log.warning(told(added, file))
        if kept is not None and (found := differences(kept, config)):
            raise RunDirError(
                f"{self.path} holds a run with another configuration: {found}. "
                "Give its values, or another run_name or exp_dir"
            )
        with files.replacing(file) as partial:
            partial.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    def close(self) -> None:
        """Let another process in."""
        os.close(self._lock)


def check_place(path: Path) -> None:
    """Refuse a folder that could not be made or written, without making it.

    Raises:
        RunDirError: it could not.
    """
    place = path.absolute()
    try:
        while not place.exists():
            place = place.parent
        longest = os.pathconf(place, "PC_NAME_MAX")
        if any(len(os.fsencode(part)) > longest for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if not place.is_dir():
            code = errno.EEXIST if place == path.absolute() else errno.ENOTDIR
            raise OSError(code, os.strerror(code))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise RunDirError(f"cannot use the run folder {path}: {error.strerror or error}") from error


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of the run in a folder, with settings that were added since; None if there is no run.

    Raises:
        RunDirError: the file is there and cannot be read.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The configuration of the run in a folder, and what its file lacks of it."""
    file = folder / CONFIG
    try:
        config = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        return None, {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunDirError(f"{file} is not readable as yaml; mend it, or give another run_name") from error
    except OSError as error:
        raise RunDirError(f"cannot use the run folder {folder}: {error.strerror or error}") from error
    if not isinstance(config, dict):
        raise RunDirError(f"{file} is not the configuration of a run; mend it, or give another run_name")
    return completed(config)


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by their path: {"agent.lr": 1e-4}."""
    if not isinstance(tree, Mapping):
        return {path: tree}
    leaves = (flat(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items())
    return {key: value for part in leaves for key, value in part.items()}


def differences(kept: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What a run may not change between two plain configurations, as text; empty if nothing differs.

    A setting that is null may be absent.
    """
    old, new = flat(kept), flat(config)
    found = []
    for key in dict.fromkeys([*new, *old]):
        if old.get(key) != new.get(key) and key not in MAY_CHANGE:
            found.append(f"{key} is {old.get(key, 'absent')} there, {new.get(key, 'absent')} here")
    return "; ".join(found)
