"""What methods reached after the same number of environment steps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from csf.reporting.aggregate import Estimate, Score, improvement, summarize
from csf.reporting.groups import Arena, Group, short
from csf.reporting.runs import Run

MAIN = re.compile("eval/(coverage|goal/staying_.*|return)")  # higher is better: methods are compared in pairs by these

EVALUATION = "checkpoints/eval.json"

Row = dict[str, float]  # metric -> value, of one run
Scores = dict[str, dict[str, Score]]  # metric -> method -> score


CONDITIONS = ("env_steps", "skills", "goals")  # of csf.evaluate, which must agree


@dataclass(frozen=True)
class Table:
    """Scores of the methods of an arena at one budget."""

    about: str  # what they are
    scores: Scores
    improvements: list[tuple[str, str, str, Estimate]]  # metric, one method, another, P(one > other)
    notes: list[str]  # what is not there, and why


def during_training(arena: Arena) -> Table | None:
    """Scores at the largest budget at which every run has been evaluated; None if one never was."""
    last = {short(run.path): _last(run) for run in arena.runs}
    budget = min(last.values())
    if budget < 0:
        return None
    scores = _scores(arena, {run.path: _reached(run, budget) for run in arena.runs})
    about = f"Newest evaluation at or before {budget:,.0f} environment steps, to which every run has come."
    notes = [*_shortest(last), *_few(arena.groups), *_lacking(arena, scores)]
    return Table(about, scores, list(_improvements(scores)), notes)


def afterwards(arena: Arena) -> Table | None:
    """Scores by eval.json, as csf.evaluate leaves it beside a checkpoint; None if no run has it."""
    found = {run.path: run.evaluations[EVALUATION] for run in arena.runs if EVALUATION in run.evaluations}
    if not found:
        return None
    conditions = {tuple(leaves.get(key) for key in CONDITIONS) for leaves in found.values()}
    if len(conditions) > 1:
        return Table("", {}, [], [f"The runs' eval.json differ in {', '.join(CONDITIONS)}: they are not compared."])
    words = ", ".join(f"{key} {value}" for key, value in zip(CONDITIONS, *conditions, strict=True))
    scores = _scores(arena, {path: _results(leaves) for path, leaves in found.items()})
    lacking = [short(run.path) for run in arena.runs if run.path not in found]
    notes = [f"Without eval.json, so not counted here: {', '.join(lacking)}."] if lacking else []
    return Table(f"From eval.json beside the checkpoints: {words}.", scores, list(_improvements(scores)), notes)


def _importance(name: str) -> tuple[bool, str]:
    return not MAIN.fullmatch(name), name


def _last(run: Run) -> float:
    """Environment steps of the newest evaluation; -1 before the first."""
    return max((series.env_steps[-1] for name, series in run.series.items() if name.startswith("eval/")), default=-1.0)


def _reached(run: Run, budget: float) -> Row:
    """The newest value of every evaluation that took no more than the budget."""
    found = {name: series.value[series.env_steps <= budget] for name, series in run.series.items()}
    return {name: float(values[-1]) for name, values in found.items() if name.startswith("eval/") and len(values)}


def _results(leaves: Mapping[str, Any]) -> Row:
    """The numbers of eval.json that are results."""
    found = {key.removeprefix("results."): value for key, value in leaves.items() if key.startswith("results.eval/")}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _scores(arena: Arena, rows: Mapping[Path, Row]) -> Scores:
    """By what all seeds of a method have measured, the main metrics first."""
    by_method = {group.method: [rows[run.path] for run in group.runs if run.path in rows] for group in arena.groups}
    found = {method: _of_method(seeds) for method, seeds in by_method.items() if seeds}
    names = sorted({name for scores in found.values() for name in scores}, key=_importance)
    return {name: {method: scores[name] for method, scores in found.items() if name in scores} for name in names}


def _of_method(rows: Sequence[Row]) -> dict[str, Score]:
    names = sorted(set.intersection(*(set(row) for row in rows)))
    values = np.array([[row[name] for name in names] for row in rows])
    return dict(zip(names, summarize(values), strict=True))


def _improvements(scores: Scores) -> Iterable[tuple[str, str, str, Estimate]]:
    for name, by_method in scores.items():
        if MAIN.fullmatch(name):
            yield from _pairs(name, by_method)


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
            few = "below four the interquartile mean is the mean, and an interval hardly more than the range"
            yield f"{group.method} has {len(group.runs)} seeds: {few}."


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
