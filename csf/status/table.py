"""The states of runs as a table for people and as plain data for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from csf.evaluation.diagnostics import Finding
from csf.status.read import STATES, Status, evaluated

SHOWN = {  # metrics in the table, if a run has them
    "eval/coverage": "coverage",
    "eval/state_entropy": "entropy",
    "eval/directions": "directions",
    "eval/return": "return",
}
NUMBERS = ("progress", "left", "speed")
OPTIONAL = ("latest evaluation", "speed", "left")  # columns, the least important first
FOLDED = {"run": 20, "health": 12}  # columns of several lines on a narrow screen, and the characters they need there
GAP = 2  # characters between columns
COLORS = {"running": "green", "failed": "red", "unreadable": "red", "interrupted": "yellow", "finished": "default"}


def console(**options: Any) -> Console:
    """Return a console that prints text as it is; elsewhere than on a terminal, lines are as long as needed."""
    made = Console(markup=False, highlight=False, emoji=False, **options)
    return made if made.is_terminal else Console(markup=False, highlight=False, emoji=False, width=10_000, **options)


def table(found: Sequence[Status], folder: Path, screen: Console) -> Group:
    """Return the table, the most urgent runs first, with a line for every run that has something to tell.

    Why runs failed comes first, since the end of a long table is cut off while it is refreshed. Columns that a narrow
    screen has no room for are left out, the least important first.
    """
    ordered = sorted(found, key=lambda each: (STATES.index(each.state), each.path))
    columns: dict[str, list[str]] = {
        "run": [named(each.path, folder) for each in ordered],
        "state": [each.state for each in ordered],
        "progress": [progress(each) for each in ordered],
        "left": [duration(each.seconds_left) for each in ordered],
        "speed": [speed(each) for each in ordered],
        "latest evaluation": [latest(each) for each in ordered],
        "health": [health(each.health) for each in ordered],
    }
    columns = {name: texts for name, texts in columns.items() if any(texts)}
    widths = {
        name: min(max(map(len, [name, *texts])), FOLDED.get(name, screen.width)) + GAP
        for name, texts in columns.items()
    }
    left_out = []
    for name in OPTIONAL:
        if name in columns and sum(widths[each] for each in columns) > screen.width:
            del columns[name]
            left_out.append(name)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:
        number = name in NUMBERS
        grid.add_column(name, no_wrap=name not in FOLDED, overflow="fold", justify="right" if number else "left")
    for each, texts in zip(ordered, zip(*columns.values(), strict=True), strict=True):
        grid.add_row(*(Text(text, COLORS[text]) if text == each.state else text for text in texts))
    urgent: list[Text] = []
    others: list[Text] = []
    for each in ordered:
        if each.line:
            line = Text(f"{named(each.path, folder)}: {each.line}", COLORS[each.state])
            (others if each.state == "interrupted" else urgent).append(line)
    if left_out:
        others.append(Text(f"a wider terminal also shows: {', '.join(left_out)}"))
    return Group(Text(summary(found)), *urgent, Text(), grid, *([Text(), *others] if others else []))


def summary(found: Sequence[Status]) -> str:
    """Return how many runs are in which state, and when the last one that runs will end."""
    counts = Counter(each.state for each in found)
    words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    left = [each.seconds_left for each in found if each.seconds_left is not None]
    ends = f"; the last of those running ends in {duration(max(left))}" if left else ""
    runs = "1 run" if len(found) == 1 else f"{len(found)} runs"
    return f"{runs}: {', '.join(words)}{ends}"


def named(path: Path, folder: Path) -> str:
    """Return the name of a run below the folder that was searched."""
    return "." if path == folder else str(path.relative_to(folder))


def progress(each: Status) -> str:
    """Return how much of a run is done."""
    return f"{each.done:,} of {each.length:,} {each.unit}" if each.length else ""


def speed(each: Status) -> str:
    """Return the seconds that an epoch takes."""
    seconds = each.seconds_per_epoch
    return "" if seconds is None else f"{seconds:.3g} s/epoch" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms/epoch"


def duration(seconds: float | None) -> str:
    """Return a time as text: "3 d 4 h", "2 h 10 min", "40 s"."""
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min"


def latest(each: Status) -> str:
    """Return the latest values of the metrics that are shown."""
    return ", ".join(f"{label} {each.metrics[name]:.4g}" for name, label in SHOWN.items() if name in each.metrics)


def health(found: Sequence[Finding] | None) -> str:
    """Return the metrics outside their bands, or that there are none."""
    if not found:
        return ""
    outside = [f"{each.label}: {each.diagnostic.metric}" for each in found if each.verdict == "out"]
    return ", ".join(dict.fromkeys(outside)) or ("ok" if any(each.verdict == "in" for each in found) else "not yet")


def plain(found: Sequence[Status]) -> Iterator[dict[str, Any]]:
    """Yield the state of every run as plain data."""
    for each in found:
        yield {
            "run": str(each.path),
            "state": each.state,
            "line": each.line,
            "unit": each.unit,
            "done": each.done,
            "length": each.length,
            "saved_epoch": each.saved,
            "seconds_per_epoch": each.seconds_per_epoch,
            "seconds_left": each.seconds_left,
            **each.speeds,
            "evaluation": evaluated(each.metrics),
            "metrics": {name: value for name, value in each.metrics.items() if name not in evaluated(each.metrics)},
            "health": [
                {"metric": one.diagnostic.metric, "verdict": one.label, "value": one.value} for one in each.health or []
            ],
        }
