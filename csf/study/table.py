"""The table of a study: its rows as CSV, and interquartile means over seeds with intervals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from csf.adaptation.references import normalized
from csf.io import files
from csf.report.statistics import Estimate, Score, improvement, summarize
from csf.study.plan import Row, Study

K = TypeVar("K", bound=Hashable)
KEYS = ("study", "profile", "env", "arm", "task", "seed", "epoch", "env_steps", "gradient_steps")


class Line(NamedTuple):
    """A row of the study with its results."""

    row: Row
    values: dict[str, float]  # metrics, env_steps and gradient_steps


@dataclass(frozen=True)
class Cell:
    """The seeds of an arm with one metric, at one task and epoch."""

    arm: str
    score: Score
    difference: Score | None  # arm minus control for each seed that both have; None for the control
    chance: Estimate | None  # probability that a seed of the arm exceeds one of the control; None for one seed


@dataclass(frozen=True)
class Panel:
    """One metric on one environment and task, for all arms."""

    env: str
    task: str
    metric: str
    cells: tuple[Cell, ...]


def lines(study: Study) -> list[Line]:
    """The rows that have all results."""
    found = [each for row in study.rows if (each := _line(row)) is not None]
    experts = [each for row in study.experts if (each := _line(row)) is not None]
    return [_normalized(line, experts) for line in found]


def _line(row: Row) -> Line | None:
    values: dict[str, float] = {}
    for part in row.parts:
        if not part.file.is_file():
            return None
        content = json.loads(part.file.read_text())
        counts = {key: content[key] for key in ("env_steps", "gradient_steps") if content.get(key) is not None}
        values |= {**counts, **content["results"]}
    return Line(row, values)


def _normalized(line: Line, experts: Sequence[Line]) -> Line:
    """Add (return - random) / (expert - random), if the return is one after adaptation and there is an expert."""
    known = [expert.values["return_after"] for expert in experts if expert.row.env == line.row.env]
    if not known or "return_after" not in line.values:
        return line
    scaled = {
        name: normalized(line.values[key], line.values["random"], float(np.mean(known)))
        for name, key in (("normalized", "return_after"), ("normalized_before", "return_before"))
    }
    return Line(line.row, line.values | {name: value for name, value in scaled.items() if value is not None})


def write(study: Study, found: Sequence[Line]) -> None:
    """Write the rows to results.csv in the study's folder; metrics that a row lacks are empty."""
    names = list(dict.fromkeys(name for line in found for name in line.values if name not in KEYS))
    text = io.StringIO(newline="")
    out = csv.DictWriter(text, [*KEYS, *names], lineterminator="\n")
    out.writeheader()
    out.writerows(_record(study, line) for line in found)
    study.folder.mkdir(parents=True, exist_ok=True)
    files.write(study.folder / "results.csv", lambda file: file.write(text.getvalue().encode()))


def _record(study: Study, line: Line) -> dict[str, Any]:
    row = line.row
    about = {"study": study.name, "profile": study.profile, "env": row.env, "arm": row.arm, "task": row.task}
    return {**about, "seed": row.seed, "epoch": row.epoch, **line.values}


def panels(study: Study, found: Iterable[Line]) -> list[Panel]:
    """Statistics of every metric of the study's figures, of the last policies of the runs."""
    last = [line for line in found if line.row.epoch == line.row.run.epochs]
    places: dict[tuple[str, str], list[Line]] = {}
    for line in last:
        places.setdefault((line.row.env, line.row.task), []).append(line)
    samples: dict[tuple[str, str, str], dict[str, dict[int, float]]] = {}
    for metric in study.metrics:
        for (env, task), here in places.items():
            if by_arm := _by_arm(metric, here):
                samples[env, task, metric] = by_arm
    rows = {(*place, arm): list(seeds.values()) for place, arms in samples.items() for arm, seeds in arms.items()}
    differing = {
        (*place, arm): both
        for place, arms in samples.items()
        for arm, seeds in arms.items()
        if arm != study.control and (both := _differences(seeds, arms.get(study.control, {})))
    }
    found_scores, differences = scores(rows), scores(differing)
    return [
        Panel(
            *place,
            tuple(
                Cell(arm, found_scores[*place, arm], differences.get((*place, arm)), _chance(arms, arm, study.control))
                for arm in arms
            ),
        )
        for place, arms in samples.items()
    ]


def _by_arm(metric: str, found: Iterable[Line]) -> dict[str, dict[int, float]]:
    """The values of a metric by arm and seed, for arms that have it."""
    by_arm: dict[str, dict[int, float]] = {}
    for line in found:
        if metric in line.values:
            by_arm.setdefault(line.row.arm, {})[line.row.seed] = line.values[metric]
    return by_arm


def _differences(arm: dict[int, float], control: dict[int, float]) -> list[float]:
    """Arm minus control for each seed that both have."""
    return [value - control[seed] for seed, value in arm.items() if seed in control]


def _chance(arms: dict[str, dict[int, float]], arm: str, control: str) -> Estimate | None:
    """Probability that a seed of an arm exceeds one of the control; None for the control or a single seed."""
    ours, theirs = (list(arms.get(name, {}).values()) for name in (arm, control))
    if arm == control or min(len(ours), len(theirs)) < 2:
        return None
    return improvement(np.array(ours), np.array(theirs))


def scores(samples: Mapping[K, Sequence[float]]) -> dict[K, Score]:
    """Interquartile means over seeds with stratified bootstrap intervals, for many samples of seeds at once."""
    found: dict[K, Score] = {}
    for count in {len(values) for values in samples.values()}:
        keys = [key for key, values in samples.items() if len(values) == count]
        columns = np.array([samples[key] for key in keys], dtype=float).T
        found |= dict(zip(keys, summarize(columns), strict=True))
    return found


def budget(found: Sequence[Line]) -> str:
    """The environment steps, gradient steps and seeds of some rows in one line, for figures."""
    steps, updates, adapting = (
        max((line.values.get(key, 0.0) for line in found), default=0.0)
        for key in ("env_steps", "gradient_steps", "adaptation_steps")
    )
    spent = [f"{steps:,.0f} environment steps and {updates:,.0f} updates per run"] if steps else []
    spent += [f"{adapting:,.0f} environment steps of adaptation"] if adapting else []
    seeds = {line.row.seed for line in found}
    return f"at most {', '.join(spent)}; seeds: {', '.join(map(str, sorted(seeds)))}"
