"""What methods reached after the same number of environment steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from csf.reporting.aggregate import Estimate, Score, improvement, summarize
from csf.reporting.groups import Arena, Group, short
from csf.reporting.runs import Run

MAIN = ("eval/coverage", "eval/goal/staying", "eval/return")  # higher is better: methods are compared in pairs by these

Scores = dict[str, dict[str, Score]]  # metric -> method -> score


@dataclass(frozen=True)
class Table:
    """Scores of the methods of an arena at one budget."""

    env_steps: int
    scores: Scores
    improvements: list[tuple[str, str, str, Estimate]]  # metric, one method, another, P(one > other)
    notes: list[str]  # what is not there, and why


def tabulate(arena: Arena) -> Table | None:
    """Scores at the largest budget at which every run has been evaluated; None if one never was."""
    last = {short(run.path): _last(run) for run in arena.runs}
    if min(last.values()) < 0:
        return None
    budget = min(last.values())
    by_method = {group.method: _of_group(group, budget) for group in arena.groups}
    names = sorted({name for found in by_method.values() for name in found}, key=_importance)
    scores = {name: {method: found[name] for method, found in by_method.items() if name in found} for name in names}
    improvements = [each for name in names if name.startswith(MAIN) for each in _pairs(name, scores[name])]
    return Table(int(budget), scores, improvements, [*_shortest(last), *_few(arena.groups), *_lacking(arena, scores)])


def _importance(name: str) -> tuple[bool, str]:
    return not name.startswith(MAIN), name


def _last(run: Run) -> float:
    """Environment steps of the newest evaluation; -1 before the first."""
    return max((series.env_steps[-1] for name, series in run.series.items() if name.startswith("eval/")), default=-1.0)


def _of_group(group: Group, budget: float) -> dict[str, Score]:
    """Scores by what all seeds have measured by then."""
    rows = [_reached(run, budget) for run in group.runs]
    names = sorted(set.intersection(*(set(row) for row in rows)))
    values = np.array([[row[name] for name in names] for row in rows])
    return dict(zip(names, summarize(values), strict=True))


def _reached(run: Run, budget: float) -> dict[str, float]:
    """The newest value of every evaluation that took no more than the budget."""
    found = {name: series.value[series.env_steps <= budget] for name, series in run.series.items()}
    return {name: float(values[-1]) for name, values in found.items() if name.startswith("eval/") and len(values)}


def _pairs(name: str, scores: Mapping[str, Score]) -> Iterable[tuple[str, str, str, Estimate]]:
    for one, other in combinations([method for method, score in scores.items() if len(score.values) > 1], 2):
        yield name, one, other, improvement(scores[one].values, scores[other].values)


def _shortest(last: Mapping[str, float]) -> Iterable[str]:
    path = min(last, key=lambda path: last[path])
    if last[path] < max(last.values()):
        yield f"{path} has been evaluated up to {last[path]:,.0f} steps only; the others are read there."


def _few(groups: Iterable[Group]) -> Iterable[str]:
    for group in groups:
        if len(group.runs) < 2:
            yield f"{group.method} has one seed: no deviation, no interval and no probability for it."
        elif len(group.runs) < 4:
            yield f"{group.method} has {len(group.runs)} seeds: below four the interquartile mean is the mean."


def _lacking(arena: Arena, scores: Scores) -> Iterable[str]:
    """Methods without a metric that others have, such as those that have no rule to reach a goal."""
    folders: dict[str, set[str]] = {}
    for name in scores:
        folders.setdefault(name.rpartition("/")[0], set()).add(name)
    methods: dict[str, list[str]] = {}
    for group in arena.groups:
        lacking = {name for name, found in scores.items() if group.method not in found}
        whole = {folder for folder, names in folders.items() if names <= lacking}
        rest = {name for name in lacking if name.rpartition("/")[0] not in whole}
        if lacking:
            methods.setdefault(", ".join(sorted({f"{folder}/*" for folder in whole} | rest)), []).append(group.method)
    for names, found in methods.items():
        yield f"Not measured in every seed of {' and '.join(found)}: {names}."
