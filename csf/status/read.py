"""Reads the state of a run from its folder: the ends of its metrics, its checkpoints, its lock and its failure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from csf.errors import CheckpointError, RunDirError
from csf.evaluation.diagnostics import EVALUATED, Finding, judge
from csf.io import checkpoint, files, lock, policy, untrusted
from csf.io.logger import ROWS
from csf.io.run_dir import CONFIG, LOCK, failure, read_config

State = Literal["running", "failed", "interrupted", "finished", "unreadable"]
STATES: tuple[State, ...] = ("failed", "unreadable", "running", "interrupted", "finished")  # the most urgent first
CHUNK = 2**16  # bytes at both ends of metrics.jsonl that are read; a file of up to four is read as a whole
FARTHEST = 2**24  # bytes from its end within which the latest evaluation is searched
EVALUATION = b'"eval/return"'  # in the row of every evaluation
RECENT = 40  # last rows that are read of a large file
LAST = 10  # epochs whose median time is the speed; one of them may hold a pause of the machine
SILENT = 300.0  # seconds without a row, at least, after which a running run is said to be silent
SLOW = 10  # epochs and evaluations that a row may take before it is
RESULT = "adaptation.json"  # which csf adapt writes last
NUMBERS = checkpoint.FULL, checkpoint.POLICY
MISFITS = (*policy.MISFITS, ArithmeticError)  # errors when files are of another version, or made to harm

Row = Mapping[str, float]


@dataclass(frozen=True)
class Status:
    """The state of a run."""

    path: Path
    state: State
    line: str = ""  # why it failed or cannot be read, or what is unusual
    unit: str = "epochs"  # what is counted: epochs, or environment steps
    done: int = 0
    length: int = 0
    saved: int | None = None  # epoch of the newest full checkpoint
    seconds_per_epoch: float | None = None
    seconds_left: float | None = None
    speeds: dict[str, float] = field(default_factory=dict)  # environment and gradient steps per second
    metrics: dict[str, float] = field(default_factory=dict)  # the latest value of each
    health: list[Finding] | None = None  # None: unknown


class Metrics(NamedTuple):
    """What is read of metrics.jsonl."""

    series: dict[str, np.ndarray]  # values by metric, oldest first
    recent: list[Row]  # the last rows
    whole: bool  # whether all rows were read


def runs(folder: Path) -> list[Path]:
    """Return the folders of runs below a folder, also those inside of others, as of csf study."""
    return [path.parent for path in files.walk(folder, CONFIG) if (path.parent / "checkpoints").is_dir()]


def read(path: Path) -> Status:
    """Return the state of a run; what cannot be read is told in its line."""
    try:
        config = _config(path / CONFIG, _version(path / CONFIG))
        return _status(path, config, _metrics(path / ROWS, _version(path / ROWS)))
    except (RunDirError, CheckpointError) as error:
        return Status(path, "unreadable", str(error))
    except OSError as error:
        return Status(path, "unreadable", f"cannot read {path}: {error.strerror or error}")
    except MISFITS as error:
        return Status(path, "unreadable", f"{path} is not a run of this version: {error!r}")


def _status(path: Path, config: Mapping[str, Any], found: Metrics) -> Status:
    task = config["task"]
    length, counted, unit = task.get("epochs"), "epoch", "epochs"
    if length is None:
        length, counted, unit = task["steps"], "env_steps", "steps"
    last = found.recent[-1] if found.recent else {"epoch": 0, "env_steps": 0}
    done = int(last[counted])
    full, policies = (checkpoint.found(path / "checkpoints", kind) for kind in NUMBERS)
    seconds, per_epoch, speeds = _speed(found, task, counted)
    age = time.time() - (path / (ROWS if found.recent else CONFIG)).stat().st_mtime
    alive, line = lock.is_held(path / LOCK), failure(path)
    if alive is None:  # a file system without locks
        alive = age < max(SLOW * (seconds or 0), SILENT)
    over = done >= length and int(last["epoch"]) in (full or policies)
    if over and unit == "steps":  # of csf adapt
        over = (path / RESULT).is_file()
    state: State = "running" if alive else "failed" if line is not None else "finished" if over else "interrupted"
    left = None if seconds is None or per_epoch is None else max(length - done, 0) / per_epoch * seconds
    metrics = {name: float(values[-1]) for name, values in found.series.items()}
    saved = max(full, default=None)
    if line is None or alive:
        line = _silence(age, seconds, metrics) if state == "running" else ""
        if state == "interrupted" and saved != last["epoch"]:
            line = "no checkpoint was saved" if saved is None else f"resumes after epoch {saved}"
    return Status(
        path,
        state,
        line,
        unit,
        done,
        length,
        saved,
        seconds,
        left if state == "running" else None,
        speeds,
        metrics,
        _health(config, found, list(policies.values())),
    )


def _silence(age: float, seconds: float | None, metrics: Row) -> str:
    """Say that a running run has written no row for long; otherwise, nothing."""
    usual = SLOW * ((seconds or 0.0) + metrics.get("time/eval", 0.0))
    return f"no row for {age / 60:.0f} minutes" if age > max(usual, SILENT) else ""


def _speed(
    found: Metrics, task: Mapping[str, Any], counted: str
) -> tuple[float | None, float | None, dict[str, float]]:
    """Return seconds of an epoch, with its share of an evaluation, how much it counts, and steps per second."""
    recent = [row for row in found.recent if "time/learn" in row]
    if len(recent) < 2:
        return None, None, {}
    first, *timed = recent
    both = max if task.get("overlap") else sum
    each = [float(both((row["time/collect"], row["time/learn"]))) for row in timed]
    evaluation = float(found.series.get("time/eval", np.zeros(1))[-1])
    per_epoch = (timed[-1][counted] - first[counted]) / (timed[-1]["epoch"] - first["epoch"])
    seconds = float(np.median(each)) + evaluation * per_epoch / task["eval_every"]
    speeds = {}
    for name in ("env_steps", "gradient_steps"):
        rate = (timed[-1].get(name, 0) - first.get(name, 0)) / (timed[-1]["epoch"] - first["epoch"])
        speeds[f"{name}_per_second"] = rate / seconds if seconds else 0.0
    return seconds, per_epoch, speeds


def _health(config: Mapping[str, Any], found: Metrics, policies: list[Path]) -> list[Finding] | None:
    """Judge a run by its bands; those of the least value of a run need all of its rows."""
    if not found.recent:
        return None
    spec: Any = _spec(policies[-1]) if policies else {}
    try:
        judged = judge({**config, "spec": spec}, found.series, int(found.recent[-1].get("gradient_steps", 0)))
    except MISFITS:
        return None
    return [each for each in judged if found.whole or not each.diagnostic.least]


def evaluated(metrics: Row) -> dict[str, float]:
    """Return the metrics of evaluations among those of a run."""
    return {name: value for name, value in metrics.items() if name.startswith(EVALUATED)}


def _version(path: Path) -> tuple[int, int]:
    """Return what changes when a file does; (0, 0) without one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(4096)
def _config(path: Path, version: tuple[int, int]) -> dict[str, Any]:
    config = read_config(path.parent)
    if config is None:
        raise RunDirError(f"no file {path}")
    return config


@lru_cache(4096)
def _spec(path: Path) -> dict[str, Any]:
    try:
        return dict(policy.describe(path)["spec"])
    except (CheckpointError, LookupError, TypeError):  # deleted meanwhile, or damaged
        return {}


@lru_cache(4096)
def _metrics(path: Path, version: tuple[int, int]) -> Metrics:
    """Read the first and the last rows of metrics.jsonl and that of the latest evaluation; all of a small file."""
    rows, whole = _rows(path, version[1])
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return Metrics({name: np.array(values, dtype=float) for name, values in columns.items()}, rows[-LAST - 1 :], whole)


def _rows(path: Path, size: int) -> tuple[list[Row], bool]:
    if not size:
        return [], True
    with path.open("rb") as file:
        if size <= 4 * CHUNK:
            return _parsed(file.read(), path), True
        head = file.read(CHUNK).rpartition(b"\n")[0]
        tail, start = b"", size
        while start > CHUNK and size - start < FARTHEST and EVALUATION not in tail:
            end, start = start, max(start - CHUNK, CHUNK)
            file.seek(start)
            tail = file.read(end - start) + tail
    lines = tail.split(b"\n")[1:]  # the first is incomplete
    earlier, recent = lines[:-RECENT], lines[-RECENT:]
    latest = [line for line in earlier if EVALUATION in line][-1:]
    return _parsed(b"\n".join([head, *latest, *recent]), path), False


def _parsed(content: bytes, path: Path) -> list[Row]:
    """Parse rows; a last line that is being written is left out.

    Raises:
        RunDirError: another line is not a row.
    """
    found: list[Row] = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = untrusted.parse_json(line)
            row["epoch"], row["env_steps"]
            found.append(row)
        except (ValueError, LookupError, TypeError) as error:
            if number < len(lines):
                raise RunDirError(f"{path} has a line that is not a row of metrics: {line[:40]!r}") from error
    return found
