"""Locks between processes: a file that one of them holds while the others wait."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from csf.errors import RunDirError
from csf.io.run_dir import NO_LOCKS

log = logging.getLogger(__name__)

PAUSE = 0.5  # seconds between attempts; a blocking call would not notice that the process was asked to stop


@contextmanager
def waiting(path: Path, tell: Callable[[], None], stopped: Callable[[], bool]) -> Iterator[bool]:
    """Hold the lock `path`, which is created; the system releases it when the process ends, in whatever way.

    Yields:
        Whether the lock is held: False if `stopped` became true while another process held it.

    Args:
        path: the lock's file; its folder is created. It is not deleted, since a waiting process has it open.
        tell: called once if another process holds the lock.
        stopped: whether to stop waiting.

    Raises:
        RunDirError: the file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RunDirError(f"cannot create {path}: {error.strerror or error}") from error
    try:
        told = False
        while not (held := _take(file, path)) and not stopped():
            if not told:
                tell()
                told = True
            time.sleep(PAUSE)
        yield held
    finally:
        os.close(file)


def is_held(path: Path) -> bool | None:
    """Whether a process holds the lock `path`; None if this cannot be known. Tries the lock for an instant."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False


def _take(file: int, path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise RunDirError(f"cannot lock {path}: {error.strerror or error}") from error
        log.warning("%s is on a file system without locks (%s): a second process can run at the same time", path, error)
    return True
