"""Reads metrics.jsonl, a row per epoch, into columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from csf.errors import RunDirError


class Series(NamedTuple):
    """A metric of a run: one entry for each row that has it."""

    epoch: np.ndarray  # [T] int64
    env_steps: np.ndarray  # [T] float64
    value: np.ndarray  # [T] float64


def read_series(file: Path, notes: list[str]) -> dict[str, Series]:
    """Columns of metrics.jsonl by their names; what is left out is told in `notes`.

    Raises:
        RunDirError: no rows, or a broken one.
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
        raise RunDirError(f"{file} has no rows; a row comes with the first evaluation, before the first epoch")
    arrays = {name: np.array(column, dtype=float).T for name, column in columns.items()}
    return {name: Series(array[0].astype(np.int64), array[1], array[2]) for name, array in arrays.items()}


def _rows(file: Path, notes: list[str]) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Line numbers and rows; a last line that is only half written is passed over."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line, parse_constant=_not_finite)
                wrong = _wrong(row)
            except ValueError as error:  # also of bytes that are not text
                wrong = str(error)
            if wrong and not line.endswith(b"\n"):
                notes.append(f"The last line of {file.name} is half written and is left out.")
                return
            if wrong:
                raise RunDirError(f"{file}, line {number} is not a row of metrics: {wrong}")
            yield number, row


def _wrong(row: Any) -> str:
    """Why this is not a row; empty if it is one."""
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
