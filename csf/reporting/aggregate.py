"""Numbers over seeds: mean and deviation as in the CSF paper, interquartile mean and intervals as in `rliable`.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from csf.errors import MissingDependency

REPETITIONS = 2000  # of the bootstrap
SIZE = 0.95  # of the intervals


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


class Score(NamedTuple):
    """A metric over the seeds of a method."""

    values: np.ndarray  # [S]
    mean: float
    deviation: float | None  # with S - 1 below; None for one seed
    iqm: Estimate | None  # interquartile mean; None for one seed


def summarize(values: np.ndarray) -> list[Score]:
    """Scores of M metrics from their values [S, M] over S seeds."""
    if not values.size:
        return []
    means = values.mean(0)
    if len(values) < 2:
        return [Score(values[:, m], float(mean), None, None) for m, mean in enumerate(means)]
    metrics = _rliable()[1]
    estimates = _estimates(values, lambda x: np.array([metrics.aggregate_iqm(x[:, [m]]) for m in range(x.shape[1])]))
    deviations = values.std(0, ddof=1)
    return [Score(values[:, m], float(means[m]), float(deviations[m]), estimates[m]) for m in range(len(means))]


def improvement(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """The probability that a seed of ours [S] scores higher than one of theirs [S'], ties counting half."""
    metrics = _rliable()[1]
    pair = [ours[:, None], theirs[:, None]]
    return _estimates(pair, lambda x, y: np.array([metrics.probability_of_improvement(x, y)]))[0]


def _estimates(scores: Any, statistic: Callable[..., np.ndarray]) -> list[Estimate]:
    """Stratified bootstrap, with the same draws at every call."""
    library = _rliable()[0]
    with _seeded():
        points, intervals = library.get_interval_estimates(
            {"": scores}, statistic, reps=REPETITIONS, confidence_interval_size=SIZE
        )
    low, high = intervals[""]
    triples: Sequence[Any] = list(zip(points[""], low, high, strict=True))
    return [Estimate(*map(float, triple)) for triple in triples]


@contextmanager
def _seeded() -> Iterator[None]:
    """Its draws come from NumPy's global generator, whatever `random_state` rliable is given."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)


def _rliable() -> tuple[Any, Any]:
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as error:  # its dependency arch cannot be imported beside pandas 3
        message = f"intervals over seeds need the package rliable ({error}): pip install rliable 'pandas<3'"
        raise MissingDependency(message) from error
    return library, metrics
