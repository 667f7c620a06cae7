"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from csf.errors import CheckpointError

PARTIAL = ".partial"  # follows the name of a file that is not whole yet


def write(path: Path, dump: Callable[[IO[bytes]], object]) -> None:
    """Have `dump` write a file, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written; what was there before is untouched.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            dump(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # a killed run leaves the previous file whole
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {reason_of(error)}; earlier checkpoints are untouched") from error


def reason_of(error: BaseException) -> str:
    """One line: what the system said, which PyTorch's writer hides behind an error of its own."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__context__
    return next(iter(str(error).splitlines()), type(error).__name__)
