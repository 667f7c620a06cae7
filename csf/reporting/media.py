"""Pictures and videos of a run as parts of a page that needs no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from csf.errors import RunDirError
from csf.reporting.runs import Run

LARGE, SMALL = 640, 220  # sides of pictures, pixels
STRIP = 8  # earlier pictures of a kind
PORTRAITS = 10  # runs of a method
VIDEOS = 8_000_000  # bytes of videos on a page


class Medium(NamedTuple):
    """A picture or video."""

    name: str
    uri: str  # data:...


def newest(run: Run) -> list[Medium]:
    """The last picture of every kind."""
    last = [(name, *list(files.items())[-1]) for name, files in run.pictures.items()]
    return [_picture(f"{name}, epoch {epoch}", file, LARGE) for name, epoch, file in last]


def earlier(run: Run) -> dict[str, list[Medium]]:
    """Small pictures of what came before, evenly chosen, the first among them."""
    found = {}
    for name, files in run.pictures.items():
        before = list(files.items())[:-1]
        if before:
            found[name] = [_picture(f"epoch {before[i][0]}", before[i][1], SMALL) for i in _even(len(before), STRIP)]
    return found


def of_files(files: Sequence[Path], root: Path) -> list[Medium]:
    """Pictures by their names below `root`."""
    return [_picture(file.relative_to(root).as_posix(), file, LARGE) for file in files]


def _even(count: int, most: int) -> list[int]:
    """At most so many indices of a sequence, both ends among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _picture(name: str, file: Path, side: int) -> Medium:
    """A picture within a square, in 256 colors where that is smaller."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RunDirError(f"{file} is not a readable picture") from error
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.quantize(256).save(encoded, "png", optimize=True)
    return Medium(name, uri("image/png", encoded.getvalue()))


def videos(files: Sequence[Path], root: Path, notes: list[str]) -> list[Medium]:
    """The newest videos, as many as a page can hold; the others are named in `notes`."""
    found: list[Medium] = []
    left, out = VIDEOS, []
    for file in sorted(files, key=lambda file: (-file.stat().st_mtime, file.name)):
        name, size = file.relative_to(root).as_posix(), file.stat().st_size
        if size <= left:
            left -= size
            found.append(Medium(name, uri("video/webm", file.read_bytes())))
        else:
            out.append(name)
    if out:
        notes.append(f"Videos left out, to keep the page below {VIDEOS // 10**6} MB of them: {', '.join(out)}.")
    return found


def uri(kind: str, content: bytes) -> str:
    """A file's content as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def portraits(runs: Sequence[Run]) -> list[Medium]:
    """The newest trajectories of each run, small."""
    last = [
        (run.seed, *list(run.pictures["trajectories"].items())[-1]) for run in runs if "trajectories" in run.pictures
    ]
    return [_picture(f"seed {seed}, epoch {epoch}", file, SMALL) for seed, epoch, file in last[:PORTRAITS]]
