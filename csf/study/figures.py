"""Figures of a study; each says what was spent on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from csf.report import figures
from csf.report.figures import COLORS, Curve
from csf.study.plan import Study
from csf.study.table import Line, Panel, budget, scores

CLOUDS = 12  # largest number of pictures of visited states


class Figure(NamedTuple):
    """A figure, with a title that is also the stem of its file."""

    title: str
    svg: str

    @property
    def file(self) -> str:
        """The name of its file."""
        kept = "".join(each if each.isalnum() or each in ".-" else "_" for each in self.title)
        return f"{kept}.svg"


def bars(study: Study, panels: Sequence[Panel], found: Sequence[Line]) -> Iterator[Figure]:
    """One figure for each metric, environment and task: interquartile means with intervals, and all seeds."""
    for panel in panels:
        here = [line for line in found if (line.row.env, line.row.task) == (panel.env, panel.task)]
        table = {cell.arm: cell.score for cell in panel.cells}
        title = " ".join(filter(None, (panel.metric, panel.env, panel.task)))
        yield Figure(title, figures.scores(table, colors(study), caption(study, here)))


def caption(study: Study, found: Sequence[Line]) -> str:
    """The budget of some rows, as it stands at every figure."""
    return f"profile {study.profile}: {budget(found)}"


def colors(study: Study) -> dict[str, str]:
    """The color of each arm, the same in all figures."""
    arms = dict.fromkeys(row.arm for row in study.rows)
    return {arm: COLORS[i % len(COLORS)] for i, arm in enumerate(arms)}


def curves(study: Study, found: Sequence[Line]) -> Iterator[Figure]:
    """One figure for each metric and environment: the metric over pretraining steps, for studies of checkpoints."""
    if not study.over_training:
        return
    for metric in study.metrics:
        for env in dict.fromkeys(line.row.env for line in found):
            here = [line for line in found if line.row.env == env and metric in line.values]
            by_arm = {arm: [line for line in here if line.row.arm == arm] for arm in colors(study)}
            drawn = [_curve(arm, metric, of) for arm, of in by_arm.items() if of]
            if drawn:
                hues = [colors(study)[line.label] for line in drawn]
                svg = figures.curves(drawn, colors=hues, caption=caption(study, here))
                yield Figure(f"{metric} {env} over pretraining", svg)


def _curve(arm: str, metric: str, found: Sequence[Line]) -> Curve:
    """The interquartile mean over seeds at every measured epoch, with its interval."""
    epochs = sorted({line.row.epoch for line in found})
    groups = [[line for line in found if line.row.epoch == epoch] for epoch in epochs]
    x = np.array([np.mean([line.values["env_steps"] for line in group]) for group in groups])
    found_scores = list(scores({i: [line.values[metric] for line in group] for i, group in enumerate(groups)}).values())
    if any(each.iqm is None for each in found_scores):  # one seed
        return Curve(arm, x, np.array([each.mean for each in found_scores]), None, None)
    estimates = np.array([each.iqm for each in found_scores])
    return Curve(arm, x, estimates[:, 0], estimates[:, 1], estimates[:, 2])


def clouds(study: Study, found: Sequence[Line]) -> Iterator[Figure]:
    """The visited states of each seed by itself, colored by skill, in environments with two entries per state."""
    for line in found[:CLOUDS]:
        for part in line.row.parts:
            file = part.file.with_suffix(".npz")
            if not file.is_file():
                continue
            with np.load(file, allow_pickle=False) as arrays:
                states, skill = arrays["states"], arrays["skill"]
            if states.shape[1] == 2:
                groups = {f"skill {k}": (*states[skill == k].T,) for k in np.unique(skill)}
                title = f"states {line.row.env} {line.row.arm} seed {line.row.seed}"
                yield Figure(title, figures.points(groups, ("first entry", "second entry"), caption(study, [line])))


def relation(study: Study, found: Sequence[Line], x: str, y: str) -> Iterator[Figure]:
    """One figure for each environment: one metric over another, for all rows that have both."""
    for env in dict.fromkeys(line.row.env for line in found):
        here = [line for line in found if line.row.env == env and x in line.values and y in line.values]
        groups = {
            arm: (
                np.array([line.values[x] for line in here if line.row.arm == arm]),
                np.array([line.values[y] for line in here if line.row.arm == arm]),
            )
            for arm in colors(study)
            if any(line.row.arm == arm for line in here)
        }
        if groups:
            yield Figure(f"{y} over {x} {env}", figures.points(groups, (x, y), caption(study, here)))
