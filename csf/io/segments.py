"""Files with the rows of a growing state, such as a replay buffer, each of which is written once.

A checkpoint lists the files that it consists of. A save writes the rows added since the previous one to new files, so
that it takes as long as there are new rows. Files are deleted when no checkpoint lists them any more.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from csf.errors import CheckpointError
from csf.io import files, untrusted
from csf.types import Growing

SUFFIX = ".segment"
LARGEST = 2**26  # bytes, about, above which small files are not merged
CHUNK = 2**22  # bytes that are read at once to compute a checksum


@dataclass(frozen=True)
class Segment:
    """A file with rows `begin` to before `end`, its size in bytes and its checksum."""

    begin: int
    end: int
    size: int
    crc32: int

    def __post_init__(self) -> None:
        """Check the types, since files of other programs may have anything here.

        Raises:
            TypeError: a value is not an integer.
        """
        if not all(isinstance(value, int) for value in (self.begin, self.end, self.size, self.crc32)):
            raise TypeError(f"a file with rows is described by {self}")

    @property
    def name(self) -> str:
        """Name of the file; it has the checksum, so that a file is never replaced by one with other rows."""
        return f"{self.begin:012d}_{self.end:012d}_{self.crc32:08x}{SUFFIX}"


@dataclass(frozen=True)
class Segments:
    """The files of a growing state, oldest first; iterating reads one after another. Equal if the contents are."""

    folder: Path = field(compare=False)
    listed: tuple[Segment, ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for each in self.listed:
            yield untrusted.load_tensors(self.folder / each.name, verify=False)  # `check` has

    def check(self) -> None:
        """Verify the sizes and checksums of all files.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        for each in self.listed:
            path = self.folder / each.name
            try:
                found = path.stat().st_size, _checksum(path)
            except OSError as error:
                raise CheckpointError(f"cannot read {path}: {files.reason_of(error)}") from error
            if found != (each.size, each.crc32):
                raise CheckpointError(f"{path} is damaged: its size or checksum is not that of its checkpoint")

    def plain(self) -> list[dict[str, int]]:
        """The list as plain data, for a checkpoint."""
        return [asdict(each) for each in self.listed]


def save(folder: Path, part: Growing, known: Sequence[Segment]) -> Segments:
    """Write the rows of `part` that are not in the files `known` of its previous save; returns all its files.

    Files that are not larger than the new one are merged with it, so that frequent saves do not make many files.

    Raises:
        CheckpointError: a file cannot be written; files of earlier checkpoints are unchanged.
    """
    start = part.start()
    kept = [each for each in known if each.end > start]
    begin = kept[-1].end if kept else start
    most = max(LARGEST * part.capacity // max(part.nbytes, 1), 1)  # rows of a file
    while kept and kept[-1].begin >= start and _merges(kept[-1], begin, part.total, most):
        begin = kept.pop().begin
    return Segments(folder, (*kept, *(_write(folder, part, *bounds) for bounds in _cut(part, begin, most))))


def _merges(last: Segment, begin: int, end: int, most: int) -> bool:
    """Whether rows `begin` to before `end` are written together with the rows of the file before them."""
    return begin < end and last.end - last.begin <= end - begin and end - last.begin <= most


def _cut(part: Growing, begin: int, most: int) -> Iterator[tuple[int, int]]:
    """Split the rows from `begin` on at ends of episodes, into as few files of at most `most` rows as that allows."""
    previous = begin
    for end in part.ends():
        if end > begin and end - begin > most and previous > begin:
            yield begin, previous
            begin = previous
        previous = max(end, begin)
    if previous > begin:
        yield begin, previous


def _write(folder: Path, part: Growing, begin: int, end: int) -> Segment:
    content = io.BytesIO()
    torch.save(part.take(begin, end), content)
    data = content.getbuffer()
    segment = Segment(begin, end, len(data), zlib.crc32(data))
    with suppress(OSError):  # writing reports it
        folder.mkdir(exist_ok=True)
    files.write(folder / segment.name, lambda file: file.write(data))
    return segment


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            found = zlib.crc32(data, found)
    return found


def prune(folder: Path, used: set[str]) -> None:
    """Delete the files whose names are not in `used`, and abandoned partial files."""
    old = [path for path in folder.glob(f"*{SUFFIX}") if path.name not in used]
    for path in [*old, *files.abandoned(folder)]:
        path.unlink(missing_ok=True)
