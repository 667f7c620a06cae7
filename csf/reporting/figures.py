"""Figures as SVG that takes its ink from the page, so that it is at home in light and in dark."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from csf.evaluation.diagnostics import Band
from csf.reporting.aggregate import Estimate, Score
from csf.reporting.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

INK = "#010203"  # stands for the color of the page's text
# Readable on white and on black.
COLORS = ["#4e79a7", "#e8833a", "#59a14f", "#d1555b", "#9c74b5", "#9c755f", "#4aa3a2", "#c3a02b", "#e07ba0", "#8a8f94"]
LOG = 100.0  # positive values whose largest is so many times the smallest are drawn on a logarithmic axis
SIZE = (4.2, 2.6)  # inches, at 72 units each

_numbers = itertools.count()  # of figures, for the names of their parts


def curves(lines: Sequence[Curve], band: Band | None = None, colors: Sequence[str] = COLORS) -> str:
    """Lines over environment steps, and the band in which they are expected."""
    figure, axes = _canvas(*SIZE)
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


def scores(table: Mapping[str, Score], colors: Mapping[str, str]) -> str:
    """Interquartile mean with its interval, and every seed, for each method in its color."""
    figure, axes = _canvas(6.4, 0.7 + 0.42 * len(table))
    for i, (method, score) in enumerate(table.items()):
        rows = np.full(len(score.values), float(i))
        axes.plot(score.values, rows, "o", color=colors[method], markersize=4, alpha=0.55)
        if score.iqm is not None:
            _interval(axes, i, score.iqm, colors[method])
    _rows(axes, list(table))
    return _svg(figure)


def improvements(pairs: Mapping[str, Estimate]) -> str:
    """Probability of improvement with its interval for each pair of methods."""
    figure, axes = _canvas(6.4, 0.7 + 0.42 * len(pairs))
    for i, found in enumerate(pairs.values()):
        _interval(axes, i, found, COLORS[0])
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    _rows(axes, list(pairs))
    axes.set_xlim(-0.03, 1.03)
    return _svg(figure)


def _interval(axes: Axes, row: int, found: Estimate, color: str) -> None:
    axes.barh(row, found.high - found.low, 0.62, found.low, color=color, alpha=0.3)
    axes.plot([found.value] * 2, [row - 0.31, row + 0.31], color=color, linewidth=2)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """A row for each label, from the top."""
    axes.use_sticky_edges = False  # a bar at the edge of the view would look cut off
    axes.autoscale_view()
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _dots(points: int) -> dict[str, Any]:
    """Few points are shown as points: what lies between was not measured."""
    return {"marker": "o", "markersize": 3} if points <= 30 else {}


def _spans_decades(lines: Sequence[Curve]) -> bool:
    values = np.concatenate([line.y for line in lines])
    lows = np.concatenate([line.y if line.low is None else line.low for line in lines])
    return bool(lows.min() > 0 and values.max() / values.min() > LOG)


def _shade(axes: Axes, band: Band) -> None:
    """Shade the band, as far as it is seen with the lines in view, and a little beyond."""
    low, high = axes.get_ylim()
    axes.axhspan(max(band.low, low) if band.low < high else high, min(band.high, high), color=COLORS[2], alpha=0.14)
    for end in band:
        if low < end < high:
            axes.axhline(end, color=COLORS[2], linewidth=0.8, linestyle="--")
    axes.set_ylim(low, high)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a background, that belongs to no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
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
    """No mathematics, and no leading underscore, by which a legend would leave it out."""
    return label.replace("$", r"\$").removeprefix("_")


def _svg(figure: Figure) -> str:
    """The figure's markup for use inside a page, where names of parts must not meet those of other figures."""
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
