"""Reads the folder of a run without executing anything in it; errors name the invalid file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from csf.errors import CheckpointError, RunDirError
from csf.io import checkpoint, files, policy, untrusted
from csf.io.load import EXPORTED
from csf.io.run_dir import flat

LAYOUT = "a run is a folder such as exp/<task>/<env>/<method>/sd<seed>, with config.yaml and metrics.jsonl"
NAMED = ("agent.name", "agent.backbone.name", "env.name", "seed")  # keys that a configuration must contain


@dataclass(frozen=True)
class Run:
    """The data of a run that a page shows."""

    path: Path
    config: dict[str, Any]
    series: dict[str, Series]
    policy: dict[str, Any]  # header of the newest policy file; empty before the first save
    pictures: dict[str, dict[int, Path]]  # name -> epoch -> file, oldest first
    videos: list[Path]
    replays: list[Path]  # skills*.html, pages that csf play has saved
    evaluations: dict[str, dict[str, Any]]  # name of eval*.json -> its values by dotted key
    evaluation_pictures: list[Path]  # eval_*.png
    started: datetime | None
    written: datetime  # time of the newest row
    notes: list[str] = field(default_factory=list)  # what is missing or omitted, and why

    @property
    def learned(self) -> str:
        """The method; for a run on a task's reward, the method of the skills that it uses, or "scratch"."""
        name, skills = str(self.config["agent"]["name"]), self.config.get("skills")
        if skills is not None:
            return f"skills of {skills}"
        if (method := self.config.get("method")) is not None:  # of csf adapt
            return str(method) if method in ("scratch", "expert") else f"adapted skill of {method}"
        return "scratch" if name == "task" else name

    @property
    def method(self) -> str:
        """The method and its backbone."""
        return f"{self.learned} on {self.config['agent']['backbone']['name']}"

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.config["seed"])

    @property
    def epoch(self) -> int:
        """The newest epoch."""
        return int(self.series["env_steps"].epoch[-1])

    def newest(self, name: str) -> float:
        """The last value of a metric."""
        return float(self.series[name].value[-1])


def read(path: Path) -> Run:
    """Read a run from its folder.

    Raises:
        RunDirError: the folder does not exist or is not that of a run, or a file in it is invalid.
    """
    if not path.is_dir():
        raise RunDirError(f"{path} is not a folder; {LAYOUT}")
    for name in ("config.yaml", "metrics.jsonl"):
        if not (path / name).is_file():
            raise RunDirError(f"{path} is not a run: it has no {name}; {LAYOUT}")
    notes: list[str] = []
    try:
        return Run(
            path,
            _config(path / "config.yaml"),
            read_series(path / "metrics.jsonl", notes),
            _header(path, notes),
            _pictures(path / "plots"),
            [file for file in files.walk(path, "*.webm") if files.PARTIAL not in file.suffixes],
            files.walk(path, "skills*.html"),
            {file.relative_to(path).as_posix(): _evaluation(file) for file in files.walk(path, "eval*.json")},
            files.walk(path, "eval_*.png"),
            _started(path),
            datetime.fromtimestamp((path / "metrics.jsonl").stat().st_mtime, UTC),
            notes,
        )
    except OSError as error:
        raise RunDirError(f"cannot read the run {path}: {error.strerror or error}") from error


def _config(file: Path) -> dict[str, Any]:
    try:
        config = untrusted.read_yaml(file)
    except ValueError as error:
        raise RunDirError(f"{file} is not valid yaml") from error
    leaves = flat(config)
    if lacking := [key for key in NAMED if key not in leaves]:
        raise RunDirError(f"{file} is not the configuration of a run: missing keys: {', '.join(lacking)}")
    if not isinstance(leaves["seed"], int):
        raise RunDirError(f"{file}: seed is {leaves['seed']!r}; accepted: an integer")
    assert isinstance(config, dict)  # it contains the keys
    return config


def _header(path: Path, notes: list[str]) -> dict[str, Any]:
    saved = checkpoint.found(path / "checkpoints", checkpoint.POLICY)
    if (path / EXPORTED).is_file():
        saved = {0: path / EXPORTED}
    if not saved:
        notes.append("No policy has been saved yet, so versions and commit are unknown.")
        return {}
    try:
        return policy.describe(list(saved.values())[-1])
    except CheckpointError as error:
        notes.append(f"Versions and commit are unknown: {error}.")
        return {}


def _pictures(folder: Path) -> dict[str, dict[int, Path]]:
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.glob("*_*.png")):
        name, _, epoch = file.stem.rpartition("_")
        if epoch.isdecimal():
            found.setdefault(name, {})[int(epoch)] = file
    return {name: dict(sorted(by_epoch.items())) for name, by_epoch in sorted(found.items(), reverse=True)}


def _evaluation(file: Path) -> dict[str, Any]:
    try:
        found = untrusted.parse_json(file.read_text())
        untrusted.check_plain(found, untrusted.SETTINGS)
        return flat(found)
    except ValueError as error:
        raise RunDirError(f"{file} is not valid JSON: {error}") from error


def _started(path: Path) -> datetime | None:
    """Return the start time, from the name of the oldest TensorBoard file."""
    times = [re.match(r"events\.out\.tfevents\.(\d{1,11})\.", file.name) for file in path.glob("events.out.tfevents.*")]
    return min((datetime.fromtimestamp(int(found[1]), UTC) for found in times if found), default=None)


class Series(NamedTuple):
    """The values of a metric, one for each row that contains it."""

    epoch: np.ndarray  # [T] int64
    env_steps: np.ndarray  # [T] float64
    value: np.ndarray  # [T] float64


def read_series(file: Path, notes: list[str]) -> dict[str, Series]:
    """Read the columns of metrics.jsonl by name; omissions are added to `notes`.

    Raises:
        RunDirError: there are no rows, or a row is invalid.
    """
    columns: dict[str, list[tuple[int, float, float]]] = {}
    before = -1
    for number, row in _rows(file, notes):
        if row["epoch"] <= before:
            raise RunDirError(f"{file}, line {number}: epoch {row['epoch']:g} follows epoch {before}")
        before = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                columns.setdefault(name, []).append((before, row["env_steps"], value))
    if not columns:
        raise RunDirError(f"{file} has no rows; the first row is written by the evaluation before the first epoch")
    arrays = {name: np.array(column, dtype=float).T for name, column in columns.items()}
    return {name: Series(array[0].astype(np.int64), array[1], array[2]) for name, array in arrays.items()}


def _rows(file: Path, notes: list[str]) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yield line numbers and rows; an incomplete last line is skipped."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = untrusted.parse_json(line, parse_constant=_not_finite)
                wrong = _invalid(row)
            except ValueError as error:  # also raised for invalid UTF-8
                wrong = str(error)
            if wrong and not line.endswith(b"\n"):
                notes.append(f"The last line of {file.name} is incomplete and is omitted.")
                return
            if wrong:
                raise RunDirError(f"{file}, line {number} is not a row of metrics: {wrong}")
            yield number, row


def _invalid(row: Any) -> str:
    """Return why `row` is not a row of metrics; empty if it is one."""
    if not isinstance(row, dict):
        return "it is not a JSON object"
    if lacking := [key for key in ("epoch", "env_steps") if key not in row]:
        return f"it has no {lacking[0]}"
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} is {value!r}, not a number"
    return ""


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a finite number")
