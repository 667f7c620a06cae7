"""Creates SVG figures that use the text color of the page, so that they fit light and dark themes."""

from __future__ import annotations

import io
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csf.evaluation.bands import Band
from csf.report.load import Run, Series
from csf.report.statistics import Estimate, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter


INK = "#010203"  # placeholder for the text color of the page
# Legible on white and on black.
COLORS = ["#4e79a7", "#e8833a", "#59a14f", "#d1555b", "#9c74b5", "#9c755f", "#4aa3a2", "#c3a02b", "#e07ba0", "#8a8f94"]
LOG = 100.0  # ratio of largest to smallest value above which positive values use a logarithmic axis
SIZE = (4.2, 2.6)  # width and height in inches, at 72 units each
LETTERS = 18  # of a caption per inch

_numbers = itertools.count()  # numbers of figures, which make the ids of their elements unique


def curves(lines: Sequence[Curve], band: Band | None = None, colors: Sequence[str] = COLORS, caption: str = "") -> str:
    """Plot lines over environment steps, and the band in which they are expected."""
    figure, axes = _canvas(*SIZE, caption)
    for i, line in enumerate(lines):
        color = colors[i % len(colors)]
        axes.plot(line.x, line.y, color=color, linewidth=1.4, label=_plain(line.label), **_dots(len(line.x)))
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.22, linewidth=0)
    if _spans_decades(lines):
        axes.set_yscale("log")
    if band is not None:
        _shade(axes, band)
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_formatter(_engineering())
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return _svg(figure)


def scores(table: Mapping[str, Score], colors: Mapping[str, str], caption: str = "") -> str:
    """Plot the interquartile mean with its interval and the values of all seeds, for each method in its color."""
    figure, axes = _canvas(6.4, 0.7 + 0.42 * len(table), caption)
    for i, (method, score) in enumerate(table.items()):
        rows = np.full(len(score.values), float(i))
        axes.plot(score.values, rows, "o", color=colors[method], markersize=4, alpha=0.55)
        if score.iqm is not None:
            _interval(axes, i, score.iqm, colors[method])
    _rows(axes, list(table))
    return _svg(figure)


def improvements(pairs: Mapping[str, Estimate]) -> str:
    """Plot the probability of improvement with its interval for each pair of methods."""
    figure, axes = _canvas(6.4, 0.7 + 0.42 * len(pairs))
    for i, found in enumerate(pairs.values()):
        _interval(axes, i, found, COLORS[0])
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    _rows(axes, list(pairs))
    axes.set_xlim(-0.03, 1.03)
    return _svg(figure)


def points(groups: Mapping[str, tuple[np.ndarray, np.ndarray]], axis: tuple[str, str], caption: str = "") -> str:
    """Plot points [P] over [P] of groups, each in a color; `axis` names both axes."""
    figure, axes = _canvas(*SIZE, caption)
    size = 12 if sum(len(x) for x, _ in groups.values()) < 200 else 2
    for i, (label, (x, y)) in enumerate(groups.items()):
        axes.scatter(x, y, size, COLORS[i % len(COLORS)], linewidths=0, alpha=0.7, label=_plain(label))
    axes.set_xlabel(_plain(axis[0]))
    axes.set_ylabel(_plain(axis[1]), color=INK, fontsize=8)
    if 1 < len(groups) <= len(COLORS):
        axes.legend(frameon=False, fontsize=7, labelcolor=INK, markerscale=2)
    return _svg(figure)


def standalone(svg: str) -> str:
    """Return the content of a file with a figure: dark ink on white."""
    start = svg.index(">") + 1
    whole = f'{svg[:start]}<rect width="100%" height="100%" fill="#fff"/>{svg[start:]}'
    return whole.replace("currentColor", "#222")


def _interval(axes: Axes, row: int, found: Estimate, color: str) -> None:
    axes.barh(row, found.high - found.low, 0.62, found.low, color=color, alpha=0.3)
    axes.plot([found.value] * 2, [row - 0.31, row + 0.31], color=color, linewidth=2)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label the rows, from top to bottom."""
    axes.use_sticky_edges = False  # keeps a margin next to bars at the edge
    axes.autoscale_view()
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _dots(points: int) -> dict[str, Any]:
    """Return marker options for lines with few points, which show where values were measured."""
    return {"marker": "o", "markersize": 3} if points <= 30 else {}


def _spans_decades(lines: Sequence[Curve]) -> bool:
    values = np.concatenate([line.y for line in lines])
    lows = np.concatenate([line.y if line.low is None else line.low for line in lines])
    return bool(lows.min() > 0 and values.max() / values.min() > LOG)


def _shade(axes: Axes, band: Band) -> None:
    """Shade the part of the band within the current limits of the y axis."""
    low, high = axes.get_ylim()
    axes.axhspan(max(band.low, low) if band.low < high else high, min(band.high, high), color=COLORS[2], alpha=0.14)
    for end in band:
        if low < end < high:
            axes.axhline(end, color=COLORS[2], linewidth=0.8, linestyle="--")
    axes.set_ylim(low, high)


def _canvas(width: float, height: float, caption: str = "") -> tuple[Figure, Axes]:
    """Create a figure without a background and without pyplot's global state; a caption makes it higher."""
    from matplotlib.figure import Figure

    lines = textwrap.wrap(_plain(caption), round(LETTERS * width))
    figure = Figure(figsize=(width, height + 0.15 * len(lines)), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    if lines:
        figure.suptitle("\n".join(lines), color=INK, fontsize=7)
    axes.patch.set_alpha(0)
    axes.grid(color=INK, alpha=0.13, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set(color=INK, fontsize=8)
    return figure, axes


def _engineering() -> Formatter:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _plain(label: str) -> str:
    """Escape math mode, and remove a leading underscore, which would hide the label from the legend."""
    return label.replace("$", r"\$").removeprefix("_")


def _svg(figure: Figure) -> str:
    """Return the figure's markup for use inside a page, with element ids that are unique among figures."""
    import matplotlib

    file = io.StringIO()
    salt = str(next(_numbers))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text)
    kept = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))
    return re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in kept else "", text)


BINS = 250  # largest number of points of a line; longer series are averaged in bins

SECTIONS = {  # prefix of metrics -> section; the first match is used
    "eval/coverage": "State coverage",
    "eval/state_entropy": "State coverage",
    "eval/goal": "Goal reaching",
    "eval/": "Other evaluations",
    "loss/": "Losses",
    "time/": "Time per epoch",
    "": "Diagnostics",
}
ORDER = ["State coverage", "Goal reaching", "Other evaluations", "Diagnostics", "Losses", "Time per epoch"]
COUNTERS = {"env_steps", "gradient_steps"}


class Curve(NamedTuple):
    """A line with the range around it."""

    label: str
    x: np.ndarray  # [P] environment steps
    y: np.ndarray  # [P]
    low: np.ndarray | None  # [P]
    high: np.ndarray | None  # [P]


def of_run(label: str, series: Series) -> Curve:
    """Create the curve of one run's metric: the mean of each bin, and the range of its values."""
    starts = _bins(len(series.value))
    if len(starts) == len(series.value):
        return Curve(label, series.env_steps, series.value, None, None)
    x, y = _means(series.env_steps, starts), _means(series.value, starts)
    low, high = np.minimum.reduceat(series.value, starts), np.maximum.reduceat(series.value, starts)
    return Curve(label, x, y, low, high)


def of_seeds(label: str, name: str, runs: Sequence[Run]) -> Curve | None:
    """Create the curve of a metric's mean and standard deviation over runs, at the epochs that all runs have.

    Returns None if a run lacks the metric or there is no common epoch.
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
    """Return the start indices [P] of at most `BINS` bins."""
    return np.unique(np.linspace(0, count, min(count, BINS), endpoint=False).astype(int))


def _means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    sizes = np.diff([*starts, len(values)])
    return np.add.reduceat(values, starts) / sizes


def sections(names: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Group metrics as section -> panel -> metrics, in the order of the page."""
    found: dict[str, dict[str, list[str]]] = {section: {} for section in ORDER}
    for name in names:
        if name not in COUNTERS:
            section = next(section for start, section in SECTIONS.items() if name.startswith(start))
            found[section].setdefault(_panel(name), []).append(name)
    return {section: panels for section, panels in found.items() if panels}


def member(name: str) -> str:
    """Return the label of a metric within its panel."""
    if name.startswith("time/"):
        return name.removeprefix("time/")
    return f"within {name.rpartition('_')[2]}" if _panel(name) != name else name


def _panel(name: str) -> str:
    """Return the panel of a metric; success at several radii shares a panel, and so do times of phases."""
    if name.startswith("time/"):
        return "seconds"
    return name.rpartition("_")[0] if name.startswith("eval/goal") and name[-1].isdigit() else name
