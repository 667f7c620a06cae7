"""Files on disk: written whole or not at all, found through links, with names that every library can open."""

from __future__ import annotations

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

PARTIAL = ".partial"  # in the name of a file that is not whole yet, behind the machine and the process that write it
QUIET = 3600.0  # seconds without a write, after which a partial file of another machine counts as abandoned


def write(path: Path, dump: Callable[[IO[bytes]], object]) -> None:
    """Have `dump` write a file, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            dump(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path}: {reason_of(error)}; earlier checkpoints are untouched") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to, beside `path`; at the end the file takes the place of `path`, on an error it is deleted."""
    partial = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)  # a killed process leaves the previous file whole
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def abandoned(folder: Path) -> list[Path]:
    """Partial files in a folder that nobody is writing any more.

    Their process was on this machine and has ended, or it is this one. A process on another machine, or in another
    container, cannot be seen from here: its files count once they have not been written to for an hour.
    """
    found = []
    for path in [*folder.glob(f"*{PARTIAL}"), *folder.glob(f"*{PARTIAL}.webm")]:
        with suppress(FileNotFoundError):
            if not _is_written(path):
                found.append(path)
    return found


def _is_written(partial: Path) -> bool:
    """Whether the process that a partial file's name tells of is another one that may still run."""
    named = re.search(rf"\.{re.escape(platform.node())}\.(\d+){re.escape(PARTIAL)}", partial.name)
    if named is None:
        return time.time() - partial.stat().st_mtime < QUIET
    if int(named[1]) == os.getpid():
        return False
    try:
        os.kill(int(named[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def walk(folder: Path, pattern: str) -> list[Path]:
    """Files below a folder whose name matches, in order; links to folders are followed, each folder once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        try:
            place = os.stat(here)
        except OSError:  # deleted meanwhile
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
    """Refuse a path that is not UTF-8, which libraries cannot open: OpenCV ends the whole process. Returns the path.

    Raises:
        ConfigError: it is not.
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
    """One line: what the system said, which PyTorch's writer hides behind an error of its own."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__context__
    return next(iter(str(error).splitlines()), type(error).__name__)
