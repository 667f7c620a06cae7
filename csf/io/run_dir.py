"""The folder of a run, which is locked by one process at a time and belongs to one configuration."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

from csf.config.schema import completed, describe_added
from csf.errors import CheckpointError, CsfError, RunDirError
from csf.io import files, untrusted

log = logging.getLogger(__name__)

# Settings that may change when a run is resumed: budget, intervals, device, graphs, threads and logging.
MAY_CHANGE = {"task.epochs", "task.eval_every", "task.save_every", "device", "graphs", "threads"}
MAY_CHANGE |= {"env.threads", "wandb", "objective"}
MAY_CHANGE |= {"exp_dir", "run_name", "variant"}  # the folder may be moved
MAY_CHANGE |= {"task.keep_critics", "task.keep_full", "task.keep_policy_every"}  # affect saved files only
MAY_CHANGE |= {"task.steps", "task.expert", "task.video"}  # of csf adapt: budget, and what is made at the end
CONFIG = "config.yaml"
LOCK = ".lock"
FAILURE = "error.txt"  # why the run failed: one line, and the traceback of an unexpected error
ROOM = 1000  # bytes for it in the lock's file
PAUSE, PATIENCE = 0.02, 0.3  # seconds; csf status tries the lock for an instant, which must not turn a run away
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # errors of flock on Lustre and some NFS


class RunDir:
    """`exp/<run name>` with config.yaml, metrics.jsonl, TensorBoard events, plots/ and checkpoints/."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        """Create or open the folder of a run with this plain configuration.

        Raises:
            RunDirError: if the folder cannot be written, is in use, or holds a run with another configuration.
            ConfigError: if its path is not UTF-8.
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
                self._forget()
                undo.pop_all()
        except OSError as error:
            raise RunDirError(f"cannot use the run folder {path}: {error.strerror or error}") from error

    def _own(self) -> int:
        """Lock the folder until the process ends, in whatever way, and return the lock's descriptor."""
        lock = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            _flock(lock)
        except BlockingIOError as error:
            os.close(lock)
            message = f"{self.path} is in use by another process; wait for it or change run_name"
            raise RunDirError(message) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(lock)
                raise
            log.warning(
                "%s is on a file system without locks (%s): a second process can write to it at the same time",
                self.path,
                error.strerror,
            )
        return lock

    def _agree(self, config: Mapping[str, Any]) -> None:
        """Write the configuration, unless the folder holds a run with another one."""
        file = self.path / CONFIG
        kept, added = _read(self.path)
        if added:
            log.warning(describe_added(added, file))
        if kept is not None and (found := differences(kept, config)):
            raise RunDirError(
                f"{self.path} holds a run with another configuration: {found}; "
                "accepted: its values, or another run_name or exp_dir"
            )
        with files.replacing(file) as partial:
            partial.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    def _forget(self) -> None:
        """Forget an earlier failure, and make room in the lock's file for the reason of one that fills the disk."""
        (self.path / FAILURE).unlink(missing_ok=True)
        with suppress(OSError):
            os.pwrite(self._lock, b" " * ROOM, 0)

    def record(self, error: BaseException) -> None:
        """Write why the run failed to error.txt, or on a full disk into the lock's file; the next start forgets it."""
        reason = str(error) if isinstance(error, CsfError) else f"{type(error).__name__}: {error}"
        line = " ".join(reason.split())
        more = "" if isinstance(error, CsfError) else "\n" + "".join(traceback.format_exception(error))
        text = f"{line}\n{more}".encode(errors="replace")
        try:
            files.write(self.path / FAILURE, lambda file: file.write(text))
        except CheckpointError:
            with suppress(OSError):
                os.pwrite(self._lock, text[:ROOM], 0)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)


def _flock(lock: int) -> None:
    """Take an exclusive lock.

    Raises:
        BlockingIOError: another process holds it for longer than an instant.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)


def failure(folder: Path) -> str | None:
    """Return the line that says why the run in a folder failed; None if it did not."""
    for name in (FAILURE, LOCK):
        with suppress(OSError):
            if line := (folder / name).read_text(errors="replace").partition("\n")[0].strip():
                return line
    return None


def check_place(path: Path) -> None:
    """Check that a folder can be created and written, without creating it.

    Raises:
        RunDirError: if it cannot.
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
        TemporaryFile(dir=place).close()  # os.access is wrong for root, and on some network file systems
    except OSError as error:
        raise RunDirError(f"cannot use the run folder {path}: {error.strerror or error}") from error


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the configuration of the run in a folder, completed by settings added since; None if there is no run.

    Raises:
        RunDirError: if the file exists and cannot be read.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the configuration of the run in a folder, and the settings that were missing in its file."""
    file = folder / CONFIG
    try:
        config = untrusted.read_yaml(file)
    except FileNotFoundError:
        return None, {}
    except ValueError as error:
        raise RunDirError(f"{file} is not valid yaml; repair it, or set another run_name") from error
    except OSError as error:
        raise RunDirError(f"cannot use the run folder {folder}: {error.strerror or error}") from error
    if not isinstance(config, dict):
        raise RunDirError(f"{file} is not the configuration of a run; repair it, or set another run_name")
    return completed(config)


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by path: {"agent.lr": 1e-4}."""
    if not isinstance(tree, Mapping):
        return {path: tree}
    leaves = (flat(value, f"{path}.{key}" if path else str(key)) for key, value in tree.items())
    return {key: value for part in leaves for key, value in part.items()}


def differences(kept: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Describe the differences between two plain configurations that a run may not have; empty if there are none.

    Settings that are null and missing settings are equal.
    """
    old, new = flat(kept), flat(config)
    return "; ".join(
        f"{key} is {old.get(key, 'absent')} there, {new.get(key, 'absent')} here" for key in differing(kept, config)
    )


def differing(kept: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The settings that differ between two plain configurations and may not when a run is resumed."""
    old, new = flat(kept), flat(config)
    return [key for key in dict.fromkeys([*new, *old]) if old.get(key) != new.get(key) and key not in MAY_CHANGE]
