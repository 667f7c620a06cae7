"""Groups runs by environment and method, and computes scores over seeds at equal budgets.

Means and deviations are as in the CSF paper, interquartile means and intervals as in `rliable` (Agarwal et al. 2021,
"Deep reinforcement learning at the edge of the statistical precipice", arXiv 2108.13264).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from csf.errors import MissingDependency
from csf.io.run_dir import MAY_CHANGE, flat
from csf.report.load import Run

SEEDED = {"seed", "env.goal_seed"}  # keys that may differ between seeds of one method
CONTROLLED = ("skills", "hold")  # keys of controllers, whose skills may come from different seeds
DRAWN = {"env.plot_range"}  # keys that only affect plots


@dataclass(frozen=True)
class Group:
    """Seeds of one method in one environment."""

    method: str  # name, with the settings that differ from other methods
    runs: tuple[Run, ...]  # ordered by seed; seeds are distinct


@dataclass(frozen=True)
class Arena:
    """The methods that were run on one environment."""

    environment: str
    groups: tuple[Group, ...]
    notes: tuple[str, ...]  # what is omitted or may not be comparable, and why

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order of the groups."""
        return [run for group in self.groups for run in group.runs]


def arrange(runs: Sequence[Run]) -> list[Arena]:
    """Group runs by environment, method and seed; of runs with equal seeds, one is kept."""
    worlds = _named(runs, lambda run: str(run.config["env"]["name"]), _world)
    arenas = []
    for environment, here in worlds.items():
        notes = _versions(here)
        methods = _named(here, lambda run: run.method, _method)
        groups = tuple(Group(name, _distinct(members, notes)) for name, members in methods.items())
        arenas.append(Arena(environment, groups, tuple(notes)))
    return arenas


def _method(run: Run) -> dict[str, Any]:
    """Return the settings, by dotted key, that are equal for all seeds of one method."""
    keys = {key: value for key, value in flat(run.config).items() if key.startswith(("agent.", "task."))}
    kept = {key: value for key, value in keys.items() if key not in MAY_CHANGE}
    return kept | {key: run.config.get(key) for key in CONTROLLED}


def _world(run: Run) -> dict[str, Any]:
    """Return the settings, by dotted key, that identify an environment."""
    keys = {key: value for key, value in flat(run.config).items() if key.startswith("env.")}
    return {key: value for key, value in keys.items() if key not in MAY_CHANGE | SEEDED | DRAWN}


def _named(runs: Sequence[Run], name: Any, identity: Any) -> dict[str, list[Run]]:
    """Group runs of equal identity by their name and the settings that differ within the name; order is kept."""
    by_name: dict[str, list[tuple[dict[str, Any], Run]]] = {}
    for run in runs:
        by_name.setdefault(name(run), []).append((identity(run), run))
    found: dict[str, list[Run]] = {}
    for word, members in by_name.items():
        differing = _differing([leaves for leaves, _ in members])
        for leaves, run in members:
            words = [f"{key.partition('.')[2] or key}={leaves.get(key, 'absent')}" for key in differing]
            found.setdefault(", ".join([word, *words]), []).append(run)
    return found


def _differing(leaves: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for each in leaves for key in each)
    return [key for key in keys if len({repr(each.get(key, "absent")) for each in leaves}) > 1]


def _distinct(runs: Sequence[Run], notes: list[str]) -> tuple[Run, ...]:
    """Keep the longest run of each seed, because runs with equal seeds are not independent."""
    kept: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: -run.epoch):
        if run.seed in kept:
            notes.append(f"{short(run.path)} is omitted: same method and seed as {short(kept[run.seed].path)}.")
        kept.setdefault(run.seed, run)
    return tuple(kept[seed] for seed in sorted(kept))


def _versions(runs: Sequence[Run]) -> list[str]:
    versions = sorted({str(run.policy["spec"]["version"]) for run in runs if run.policy})
    if len(versions) < 2:
        return []
    return [f"The runs used different versions of this environment ({'; '.join(versions)}) and may not be comparable."]


def short(path: Path) -> str:
    """Return the last four parts of a path: task, environment, method and seed."""
    return "/".join(path.resolve().parts[1:][-4:])


REPETITIONS = 2000  # bootstrap repetitions
SIZE = 0.95  # confidence level of the intervals


class Estimate(NamedTuple):
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


class Score(NamedTuple):
    """A metric over the seeds of a method."""

    values: np.ndarray  # [S]
    mean: float
    deviation: float | None  # standard deviation with S - 1 in the denominator; None for one seed
    iqm: Estimate | None  # interquartile mean; None for one seed


def summarize(values: np.ndarray) -> list[Score]:
    """Return the scores of M metrics from their values [S, M] over S seeds."""
    if not values.size:
        return []
    means = values.mean(0)
    if len(values) < 2:
        return [Score(values[:, m], float(mean), None, None) for m, mean in enumerate(means)]
    estimates = _estimates(values, interquartile_means)
    deviations = values.std(0, ddof=1)
    return [Score(values[:, m], float(means[m]), float(deviations[m]), estimates[m]) for m in range(len(means))]


def improvement(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """Return the probability that a value of `ours` [S] exceeds one of `theirs` [S'], with ties counting half."""
    return _estimates([ours[:, None], theirs[:, None]], _chance)[0]


def interquartile_means(values: np.ndarray) -> np.ndarray:
    """Means [M] of the middle half of S values [S, M], as `aggregate_iqm` of rliable for every column, but at once."""
    cut = int(0.25 * len(values))
    return np.sort(values, 0)[cut : len(values) - cut].mean(0)


def _chance(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Probability [1] that a value [S, 1] exceeds one of [S', 1], as `probability_of_improvement` of rliable."""
    return np.array([((ours > theirs.T) + 0.5 * (ours == theirs.T)).mean()])


def _estimates(scores: Any, statistic: Callable[..., np.ndarray]) -> list[Estimate]:
    """Compute stratified bootstrap intervals with a fixed seed."""
    library = _rliable()
    with _seeded():
        points, intervals = library.get_interval_estimates(
            {"": scores}, statistic, reps=REPETITIONS, confidence_interval_size=SIZE
        )
    low, high = intervals[""]
    triples: Sequence[Any] = list(zip(points[""], low, high, strict=True))
    return [Estimate(*map(float, triple)) for triple in triples]


@contextmanager
def _seeded() -> Iterator[None]:
    """Seed NumPy's global generator, from which rliable draws regardless of `random_state`; restore it on exit."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)


def _rliable() -> Any:
    try:
        from rliable import library
    except (ImportError, TypeError) as error:  # rliable's dependency arch cannot be imported with pandas 3
        message = f"intervals over seeds need the package rliable ({error}): pip install rliable 'pandas<3'"
        raise MissingDependency(message) from error
    return library


MAIN = re.compile(
    "eval/(coverage|state_entropy|goal/staying_.*|return)"
)  # higher is better; used for pairwise comparisons

EVALUATION = re.compile(r"checkpoints/eval(_\d+)?\.json")  # file names of csf.evaluate

Row = dict[str, float]  # metric -> value of one run
Scores = dict[str, dict[str, Score]]  # metric -> method -> score


CONDITIONS = ("env_steps", "skills", "goals")  # settings of csf.evaluate that must be equal


@dataclass(frozen=True)
class Table:
    """Scores of the methods of one environment at one budget."""

    about: str  # description of the budget
    scores: Scores
    improvements: list[tuple[str, str, str, Estimate]]  # metric, one method, another, P(one > other)
    notes: list[str]  # what is missing, and why


def during_training(arena: Arena) -> Table | None:
    """Return scores at the largest budget at which every run was evaluated; None if a run has no evaluation."""
    last = {short(run.path): _last(run) for run in arena.runs}
    budget = min(last.values())
    if budget < 0:
        return None
    scores = _scores(arena, {run.path: _reached(run, budget) for run in arena.runs})
    about = f"Last evaluation at or before {budget:,.0f} environment steps, which every run has reached."
    notes = [*_shortest(last), *_few(arena.groups), *_lacking(arena, scores)]
    return Table(about, scores, list(_improvements(scores)), notes)


def afterwards(arena: Arena) -> Table | None:
    """Return scores of csf.evaluate at the latest conditions common to all evaluated runs; None if there are none."""
    found = {run.path: by_conditions for run in arena.runs if (by_conditions := _evaluations(run))}
    if not found:
        return None
    common = set.intersection(*(set(by_conditions) for by_conditions in found.values()))
    if not common:
        return Table(
            "", {}, [], [f"The evaluations of the runs differ in {', '.join(CONDITIONS)} and are not compared."]
        )
    latest = max(common, key=lambda conditions: [value or 0 for value in conditions])
    words = ", ".join(f"{key} {value}" for key, value in zip(CONDITIONS, latest, strict=True))
    scores = _scores(arena, {path: _results(by_conditions[latest]) for path, by_conditions in found.items()})
    lacking = [short(run.path) for run in arena.runs if run.path not in found]
    notes = [f"Runs without an evaluation by csf.evaluate, which are omitted: {', '.join(lacking)}."] if lacking else []
    return Table(f"From csf.evaluate, of checkpoints: {words}.", scores, list(_improvements(scores)), notes)


def _evaluations(run: Run) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the evaluations of csf.evaluate in the checkpoint folder, by their conditions."""
    left = [leaves for name, leaves in run.evaluations.items() if EVALUATION.fullmatch(name)]
    return {tuple(leaves.get(key) for key in CONDITIONS): leaves for leaves in left}


def _importance(name: str) -> tuple[bool, str]:
    return not MAIN.fullmatch(name), name


def _last(run: Run) -> float:
    """Return the environment steps of the last evaluation; -1 if there is none."""
    return max((series.env_steps[-1] for name, series in run.series.items() if name.startswith("eval/")), default=-1.0)


def _reached(run: Run, budget: float) -> Row:
    """Return the last value of every evaluation metric within the budget."""
    found = {name: series.value[series.env_steps <= budget] for name, series in run.series.items()}
    return {name: float(values[-1]) for name, values in found.items() if name.startswith("eval/") and len(values)}


def _results(leaves: Mapping[str, Any]) -> Row:
    """Return the numeric results of an evaluation."""
    found = {key.removeprefix("results."): value for key, value in leaves.items() if key.startswith("results.eval/")}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def _scores(arena: Arena, rows: Mapping[Path, Row]) -> Scores:
    """Return the scores of metrics that all seeds of a method have, with the main metrics first."""
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
        yield f"{path} was evaluated up to {last[path]:,.0f} steps only, which limits the budget of all runs."


def _few(groups: Iterable[Group]) -> Iterable[str]:
    for group in groups:
        if len(group.runs) < 2:
            yield f"{group.method} has one seed: no standard deviation, interval or probability of improvement."
        elif len(group.runs) < 4:
            few = "with fewer than four the interquartile mean equals the mean, and the interval is close to the range"
            yield f"{group.method} has {len(group.runs)} seeds: {few}."


def _lacking(arena: Arena, scores: Scores) -> Iterable[str]:
    """Yield notes on metrics that some methods lack, such as goal reaching if a method infers no skills for goals."""
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
