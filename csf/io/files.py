"""Files on disk: atomic writes, search through symbolic links, and valid names."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from csf.errors import CheckpointError, ConfigError

PARTIAL = ".partial"  # suffix of files being written, after the machine's name and the process id
QUIET = 3600.0  # seconds without a write until a partial file of another machine counts as abandoned


def write(path: Path, dump: Callable[[IO[bytes]], object]) -> None:
    """Write a file atomically with `dump`.

    Raises:
        CheckpointError: if the file cannot be written; an earlier file is unchanged.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            dump(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path}: {reason_of(error)}; earlier checkpoints are untouched") from error


def write_json(path: Path, content: object) -> None:
    """Write plain data as indented JSON, as `write` does."""
    write(path, lambda file: file.write(json.dumps(content, indent=2).encode() + b"\n"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, next to `path`; the file replaces `path` at the end, and is deleted on an error."""
    partial = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)  # atomic: a killed process leaves the previous file
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def abandoned(folder: Path) -> list[Path]:
    """Return the partial files in a folder that no process writes any more.

    The process ran on this machine and has ended, or is the current one. Processes on other machines or in other
    containers cannot be checked: their files count as abandoned if they were not written to for an hour.
    """
    found = []
    for path in [*folder.glob(f"*{PARTIAL}"), *folder.glob(f"*{PARTIAL}.webm")]:
        with suppress(FileNotFoundError):
            if not _is_written(path):
                found.append(path)
    return found


def _is_written(partial: Path) -> bool:
    """Whether the process in a partial file's name is another one that may still be running."""
    named = re.search(rf"\.{re.escape(platform.node())}\.(\d+){re.escape(PARTIAL)}", partial.name)
    if named is None:
        return time.time() - partial.stat().st_mtime < QUIET
    if int(named[1]) == os.getpid():
        return False
    try:
        os.kill(int(named[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True


def walk(folder: Path, pattern: str) -> list[Path]:
    """Return the sorted files below a folder whose name matches; follows links, and visits each folder once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        try:
            place = os.stat(here)
        except OSError:  # deleted in the meantime
            folders.clear()
            continue
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        found += [Path(here, name) for name in names if fnmatchcase(name, pattern)]
    return sorted(found)


def check_name(path: Path) -> Path:
    """Return the path if it is valid UTF-8. Libraries cannot open other paths, and OpenCV aborts the process.

    Raises:
        ConfigError: if it is not valid UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"the path {str(path.absolute())!r} is not UTF-8 under this locale; "
            "accepted: a name in UTF-8, under a locale of UTF-8 or with PYTHONUTF8=1"
        ) from error
    return path


def reason_of(error: BaseException) -> str:
    """Return one line: the operating system's reason, which PyTorch's writer hides in the error's context, if any."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__context__
    return next(iter(str(error).splitlines()), type(error).__name__)
