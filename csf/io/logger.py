"""Logs the metrics and pictures of a run to metrics.jsonl, plots/, TensorBoard and, optionally, Weights & Biases."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import platform
import re
import struct
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from csf.errors import ConfigError, MissingDependency
from csf.io import files

WandbMode = Literal["disabled", "offline", "online"]
FILM = 100  # maximum number of frames of a GIF
ROWS = "metrics.jsonl"

log = logging.getLogger(__name__)


class Sink(Protocol):
    """A destination of rows and pictures."""

    def write(self, row: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write the row of an epoch, with the key "epoch", and pictures [H, W, 3] uint8, without buffering."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class JsonLines:
    """One JSON object per epoch in metrics.jsonl, pictures in plots/<name>_<epoch>.png; rows may differ in keys."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / ROWS).open("a", buffering=1)
        self._plots = folder / "plots"

    def write(self, row: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Append the row and save the pictures."""
        self._file.write(json.dumps(row) + "\n")
        for name, image in images.items():
            (self._plots / f"{name}_{row['epoch']:06d}.png").write_bytes(png(image))

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class TensorBoard:
    """An event file in the run's folder, written in the caller's thread.

    PyTorch's `SummaryWriter` writes in a separate thread, whose errors, such as a full disk, cannot be caught here.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        # TensorBoard reads the files of a folder in alphabetical order, also if the clock was set back in between.
        earlier = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
        begun = max([time.time(), *(int(stamp) + 1 for stamp in earlier if stamp.isdecimal())])
        self._file = (folder / f"events.out.tfevents.{begun:010.0f}.{platform.node()}.{os.getpid()}").open("ab")
        self._records, self._event, self._summary = RecordWriter(self._file), Event, Summary
        self._add(file_version="brain.Event:2")

    def write(self, row: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write scalars, and pictures [H, W, 3] or films [T, H, W, 3], at the step of the row's epoch."""
        value = self._summary.Value
        values = [value(tag=name, simple_value=number) for name, number in row.items() if name != "epoch"]
        for name, image in images.items():
            height, width, _ = image.shape[-3:]
            content = png(image) if image.ndim == 3 else gif(image)
            picture = self._summary.Image(height=height, width=width, encoded_image_string=content)
            values.append(value(tag=name, image=picture))
        self._add(step=int(row["epoch"]), summary=self._summary(value=values))

    def _add(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


class Wandb:
    """Weights & Biases; a resumed run keeps its id."""

    def __init__(self, folder: Path, mode: WandbMode, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingDependency(f"wandb={mode} needs the package wandb: pip install wandb") from error
        except Exception as error:
            raise _cannot_start(mode, error) from error
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project="csf",
                name=name,
                id=_identity(folder),
                dir=str(folder),
                mode=mode,
                resume="allow",
                config=dict(config),
            )
        except Exception as error:
            raise _cannot_start(mode, error) from error

    def write(self, row: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Log the row and pictures at the step of the row's epoch."""
        pictures = {name: self._wandb.Image(image) for name, image in images.items()}
        self._run.log({**row, **pictures}, step=int(row["epoch"]))

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _cannot_start(mode: WandbMode, error: Exception) -> ConfigError:
    """Convert an error of wandb, which raises those of many libraries: no key, no network, no home folder."""
    reason = files.reason_of(error).rstrip(".")
    return ConfigError(f"wandb={mode} cannot start: {reason}; accepted: disabled, offline, online")


def _identity(folder: Path) -> str:
    """Return the run's id on Weights & Biases from .wandb_id; a missing or invalid file is replaced, with a warning."""
    file = folder / ".wandb_id"
    name = file.read_text(errors="replace").strip() if file.exists() else None
    if name is None or not re.fullmatch(r"[\w-]{1,128}", name):
        if name is not None:
            log.warning("%s has no valid run id; a new one is used", file)
        name = uuid.uuid4().hex[:8]
        files.write(file, lambda target, name=name: target.write(name.encode()))  # type: ignore[misc]
    return name


class Logger:
    """Writes rows to all sinks; its state holds the lengths of the files, to which a resumed run truncates them."""

    def __init__(self, folder: Path) -> None:
        """Set the run's folder; files are opened by `open`, after the run was restored."""
        self.folder = folder
        self.sinks: list[Sink] = []

    def open(self, mode: WandbMode, name: str, config: Mapping[str, Any]) -> None:
        """Open the sinks for appending."""
        self.sinks = [JsonLines(self.folder), TensorBoard(self.folder)]
        if mode != "disabled":
            self.sinks.append(Wandb(self.folder, mode, name, config))

    def write(self, row: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """Write the row of an epoch, with the key "epoch", and its pictures [H, W, 3] uint8."""
        for sink in self.sinks:
            sink.write(row, images)

    def full_state(self) -> dict[str, Any]:
        """Return the length in bytes of metrics.jsonl and every event file."""
        return {"lengths": {path.name: path.stat().st_size for path in self._files()}}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Truncate the files to their lengths at the checkpoint and to whole records.

        After a crash of the machine, a file may be shorter than at the checkpoint, or end in zeros.
        """
        lengths = state["lengths"]
        for path in self._files():
            if path.name not in lengths:
                path.unlink()
                continue
            size, expected = path.stat().st_size, lengths[path.name]
            whole = (_whole_rows if path.name == ROWS else _whole_events)(path, min(size, expected))
            os.truncate(path, whole)
            if whole < expected:
                log.warning("%s is incomplete: truncated to whole records, %d of %d bytes", path, whole, expected)
            elif whole < size:
                log.warning("%s: %d bytes written after the checkpoint are removed", path, size - whole)

    def start_over(self) -> Path | None:
        """Move the logs of a run without a checkpoint to a new folder earlier_<n> and return it.

        If no row was written, delete the logs and return None.
        """
        rows, plots = self.folder / ROWS, self.folder / "plots"
        if not rows.is_file() or not _whole_rows(rows, rows.stat().st_size):
            for path in self._files():
                path.unlink()
            return None
        numbers = (n for n in itertools.count(1) if not (self.folder / f"earlier_{n}").exists())
        aside = self.folder / f"earlier_{next(numbers)}"
        aside.mkdir()
        # metrics.jsonl last: if the process is killed in between, the next one moves the rest.
        for path in reversed([*self._files(), *self.folder.glob(".wandb_id"), plots]):
            path.rename(aside / path.name)
        plots.mkdir()
        return aside

    def close(self) -> None:
        """Close every sink; errors are ignored here, since `write` has raised them."""
        for sink in self.sinks:
            with suppress(OSError):
                sink.close()
        self.sinks = []

    def _files(self) -> list[Path]:
        return [*self.folder.glob(ROWS), *self.folder.glob("events.out.tfevents.*")]


def newest(folder: Path, name: str) -> float:
    """Return the last value of a metric of a run.

    Raises:
        ConfigError: the run has no such metric.
    """
    rows = [json.loads(line) for line in (folder / ROWS).read_text().splitlines()]
    values = [row[name] for row in rows if name in row]
    if not values:
        known = ", ".join(sorted({key for row in rows for key in row}))
        raise ConfigError(f"{folder} has no metric {name!r}; accepted: {known}")
    return float(values[-1])


def _whole_rows(path: Path, size: int) -> int:
    """Return the length of the complete rows in the first `size` bytes of metrics.jsonl; only the last is parsed."""
    with path.open("rb") as file:
        content = file.read(size)
    while content:
        content = content[: content.rfind(b"\n") + 1]
        last = content[content[:-1].rfind(b"\n") + 1 :]
        try:
            if isinstance(json.loads(last), dict):
                break
        except ValueError:  # includes bytes that are not UTF-8
            pass
        content = content[: len(content) - len(last)]
    return len(content)


def _whole_events(path: Path, size: int) -> int:
    """Return the length of the complete records in the first `size` bytes of an event file.

    A record is its length (8 bytes), the checksum of the length (4), the content, and its checksum (4). Only the last
    content is verified: earlier ones are followed by a record, and verifying all would be slow.
    """
    from tensorboard.summary.writer.record_writer import masked_crc32c

    starts, end = [0], 0
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12 and struct.pack("<I", masked_crc32c(head[:8])) == head[8:]:
            end += 16 + struct.unpack("<Q", head[:8])[0]
            if end > size:
                break
            starts.append(end)
            file.seek(end)
        while len(starts) > 1:
            file.seek(starts[-2] + 12)
            content = file.read(starts[-1] - starts[-2] - 12)
            if struct.pack("<I", masked_crc32c(content[:-4])) == content[-4:]:
                break
            starts.pop()
    return starts[-1]


def png(image: np.ndarray) -> bytes:
    """Encode a picture [H, W, 3] uint8 as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def gif(frames: np.ndarray, seconds: float = 10.0) -> bytes:
    """Encode a film [T, H, W, 3] uint8 as GIF, which TensorBoard can play.

    To limit its size, it has half the width and height and at most `FILM` frames; it plays for `seconds`.
    """
    from PIL import Image

    shown = frames[:: -(-len(frames) // FILM)]
    pictures = [Image.fromarray(frame).reduce(2) for frame in shown]
    file, pause = io.BytesIO(), round(1000 * seconds / len(pictures))
    pictures[0].save(file, "gif", save_all=True, append_images=pictures[1:], duration=pause, loop=0)
    return file.getvalue()
