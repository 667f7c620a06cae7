"""Video files that every browser plays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from csf.errors import ConfigError, MissingDependency, RunDirError


def write(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Write frames [H, W, 3] uint8, all of one size, as a VP9 video in a WebM file, whole or not at all.

    A row or column is repeated where a side is odd, which the codec does not know.

    Raises:
        ConfigError: the file's name does not end in .webm.
        RunDirError: the file cannot be written; what was there before is untouched.
        MissingDependency: OpenCV is not installed.
    """
    if path.suffix != ".webm":
        raise ConfigError(f"a video is asked for as {path}; accepted: a name that ends in .webm")
    partial = path.with_name(f"{path.stem}.partial.webm")  # the ending tells OpenCV the format
    try:
        partial.open("wb").close()  # says why it cannot be written, which OpenCV does not
        _encode(partial, frames, fps)
        os.replace(partial, path)
    except OSError as error:
        raise RunDirError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _encode(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    cv2 = opencv()
    height, width, _ = frames[0].shape
    rim = ((0, height % 2), (0, width % 2), (0, 0))
    with _quiet():
        codec, size = cv2.VideoWriter_fourcc(*"VP90"), (width + width % 2, height + height % 2)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, size)
        if not writer.isOpened():
            raise OSError("this OpenCV has no VP9 encoder")
        for frame in frames:
            writer.write(np.pad(frame[..., ::-1], rim, mode="edge"))
        writer.release()
        if (kept := _count(path)) != len(frames):  # the writer does not tell
            raise OSError(f"{kept} of {len(frames)} frames fit; is the disk full?")


def _count(path: Path) -> int:
    """Frames that can be read back."""
    reader = opencv().VideoCapture(str(path))
    count = 0
    while reader.grab():
        count += 1
    reader.release()
    return count


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, nothing that libraries print to stderr is seen: OpenCV warns of a tag that WebM files do not have."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def opencv() -> Any:
    """OpenCV, which nothing but videos needs.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency("a video needs OpenCV: pip install opencv-python-headless") from error
    return cv2
