"""What methods reached after the same number of environment steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from csf.reporting.aggregate import Estimate, Score, improvement, summarize
from csf.reporting.groups import Arena, short
from csf.reporting.runs import Run

MAIN = ("eval/coverage", "eval/goal/staying", "eval/return")  # higher is better: methods are compared in pairs by these


@dataclass(frozen=True)
class Table:
    """Scores of the methods of an arena at one budget."""

    env_steps: int
    metrics: list[str]
    scores: dict[str, dict[str, Score]]  # method -> metric -> score
    improvements: list[tuple[str, str, str, Estimate]]  # metric, one method, another, P(one > other)
    notes: list[str]  # what is not there, and why


def tabulate(arena: Arena) -> Table | None:
    """Scores at the largest budget at which every run has been evaluated; None if there is no common evaluation."""
    names = [{name for name in run.series if name.startswith("eval/")} for run in arena.runs]
    metrics = sorted(set.intersection(*names), key=lambda name: (not name.startswith(MAIN), name))
    if not metrics:
        return None
    first = metrics[0]
    last = {short(run.path): run.series[first].env_steps[-1] for run in arena.runs}
    budget = min(last.values())
    values = {
        group.method: np.array([[_at(run, name, budget) for name in metrics] for run in group.runs])
        for group in arena.groups
    }
    scores = {method: dict(zip(metrics, summarize(matrix), strict=True)) for method, matrix in values.items()}
    pairs = [pair for pair in combinations(values, 2) if all(len(values[method]) > 1 for method in pair)]
    improvements = [
        (name, one, other, improvement(values[one][:, m], values[other][:, m]))
        for m, name in enumerate(metrics)
        if name.startswith(MAIN)
        for one, other in pairs
    ]
    return Table(int(budget), metrics, scores, improvements, _missing(arena, last, names, metrics))


def _at(run: Run, name: str, budget: float) -> float:
    """The newest value that took no more than the budget."""
    series = run.series[name]
    return float(series.value[series.env_steps <= budget][-1])


def _missing(arena: Arena, last: dict[str, float], names: list[set[str]], metrics: list[str]) -> list[str]:
    notes = []
    shortest = min(last, key=lambda path: last[path])
    if last[shortest] < max(last.values()):
        notes.append(
            f"{shortest} has been evaluated up to {last[shortest]:,.0f} steps only; the others are read there."
        )
    for group in arena.groups:
        if len(group.runs) < 2:
            notes.append(f"{group.method} has one seed: no deviation, no interval and no probability for it.")
        elif len(group.runs) < 4:
            notes.append(f"{group.method} has {len(group.runs)} seeds: below four the interquartile mean is the mean.")
    if partial := sorted(set.union(*names) - set(metrics)):
        notes.append(f"Not measured in every run, so not compared: {', '.join(partial)}.")
    return notes
