"""Metrics over environment steps as lines that a picture can hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from csf.reporting.runs import Run
from csf.reporting.series import Series

BINS = 250  # points of a line; longer series are averaged in bins

SECTIONS = {  # what starts like this belongs there; the first that fits
    "eval/coverage": "State coverage",
    "eval/goal": "Goal reaching",
    "eval/": "Other evaluations",
    "loss/": "Losses",
    "time/": "Time per epoch",
    "": "Diagnostics",
}
ORDER = ["State coverage", "Goal reaching", "Other evaluations", "Diagnostics", "Losses", "Time per epoch"]
COUNTERS = {"env_steps", "gradient_steps"}


class Curve(NamedTuple):
    """A line with the band around it."""

    label: str
    x: np.ndarray  # [P] environment steps
    y: np.ndarray  # [P]
    low: np.ndarray | None  # [P]
    high: np.ndarray | None  # [P]


def of_run(label: str, series: Series) -> Curve:
    """One run's metric; bins show their mean, and the band their smallest and largest value."""
    starts = _bins(len(series.value))
    if len(starts) == len(series.value):
        return Curve(label, series.env_steps, series.value, None, None)
    x, y = _means(series.env_steps, starts), _means(series.value, starts)
    low, high = np.minimum.reduceat(series.value, starts), np.maximum.reduceat(series.value, starts)
    return Curve(label, x, y, low, high)


def of_seeds(label: str, name: str, runs: Sequence[Run]) -> Curve | None:
    """Mean of a metric over runs, at the epochs that all have, and the standard deviation around it.

    None where a run lacks the metric, or no epoch is common.
    """
    if any(name not in run.series for run in runs):
        return None
    all_series = [run.series[name] for run in runs]
    epochs = reduce(np.intersect1d, [series.epoch for series in all_series])
    if not len(epochs):
        return None
    rows = [np.searchsorted(series.epoch, epochs) for series in all_series]
    starts = _bins(len(epochs))
    pairs = list(zip(all_series, rows, strict=True))
    x = np.mean([_means(series.env_steps[row], starts) for series, row in pairs], 0)
    y = np.array([_means(series.value[row], starts) for series, row in pairs])
    mean = y.mean(0)
    if len(runs) < 2:
        return Curve(label, x, mean, None, None)
    deviation = y.std(0, ddof=1)
    return Curve(label, x, mean, mean - deviation, mean + deviation)


def _bins(count: int) -> np.ndarray:
    """Where each of at most `BINS` bins starts, [P]."""
    return np.unique(np.linspace(0, count, min(count, BINS), endpoint=False).astype(int))


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    sizes = np.diff([*starts, len(values)])
    return np.add.reduceat(values, starts) / sizes


def sections(names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Section -> panel -> metrics of the panel, in the order of the page."""
    found: dict[str, dict[str, list[str]]] = {section: {} for section in ORDER}
    for name in names:
        if name not in COUNTERS:
            section = next(section for start, section in SECTIONS.items() if name.startswith(start))
            found[section].setdefault(_panel(name), []).append(name)
    return {section: panels for section, panels in found.items() if panels}


def short(name: str) -> str:
    """What tells a metric from the others of its panel."""
    if name.startswith("time/"):
        return name.removeprefix("time/")
    return f"within {name.rpartition('_')[2]}" if _panel(name) != name else name


def _panel(name: str) -> str:
    """Success at several radii shares a panel, and so do the times of the phases."""
    if name.startswith("time/"):
        return "seconds"
    return name.rpartition("_")[0] if name.startswith("eval/goal") and name[-1].isdigit() else name
