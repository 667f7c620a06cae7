"""Compares the metrics of a run with their bands.

A value inside its band is reported at once, a value outside only after the budget of gradient steps in which a healthy
run reaches the band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from csf.evaluation.bands import DIAGNOSTICS, RATE, Band, Config, Diagnostic

START, END = 3, 10  # numbers of first and last values averaged; few at the start: skills may emerge in ten epochs
EVALUATED = ("eval/", "phi/rank", "phi/singular_ratio")  # starts of the names of metrics of an evaluation

Verdict = Literal["in", "out", "not yet"]


class Finding(NamedTuple):
    """The result of a diagnostic for a run."""

    diagnostic: Diagnostic
    value: float | None  # mean of the last values, or the least value; None if there are none
    band: Band
    after: int  # gradient steps after which it applies, at this run's learning rate
    verdict: Verdict

    @property
    def label(self) -> str:
        """The verdict as reports show it."""
        return self.diagnostic.label if self.verdict == "out" else self.verdict


def judge(config: Config, series: Mapping[str, np.ndarray], gradient_steps: int) -> list[Finding]:
    """Evaluate the diagnostics that apply to a run.

    Args:
        config: configuration of the run; "spec" is the description of its environment, if it is known.
        series: values [T] by metric, oldest first.
        gradient_steps: number of gradient steps taken.
    """
    found = []
    for each in DIAGNOSTICS:
        values = series.get(each.metric, np.empty(0))
        after = _budget(each, config)
        late = gradient_steps >= after
        concerns = not each.methods or config["agent"]["name"] in each.methods
        if not concerns or (late and not len(values)) or _is_absent(each, series):
            continue
        try:
            band = each.band(config, float(values[:START].mean()) if len(values) else math.nan)
        except KeyError:  # a configuration of another version may lack a setting
            continue
        if band is None:
            continue
        value = _value(each, values) if len(values) else None
        inside = value is not None and band.low <= value <= band.high
        verdict: Verdict = "in" if inside else "out" if late else "not yet"
        found.append(Finding(each, value, band, after, verdict if _is_given(each, series) else "not yet"))
    return found


def _is_absent(diagnostic: Diagnostic, series: Mapping[str, np.ndarray]) -> bool:
    """Return whether evaluations have run that do not measure what the diagnostic needs, such as directions."""
    needed = {diagnostic.metric, diagnostic.given or diagnostic.metric}
    return "eval/return" in series and any(name.startswith(EVALUATED) and name not in series for name in needed)


def _is_given(diagnostic: Diagnostic, series: Mapping[str, np.ndarray]) -> bool:
    """Return whether the metric that the diagnostic depends on was positive at the last evaluation."""
    return diagnostic.given is None or bool((series.get(diagnostic.given, np.zeros(1))[-1:] > 0).any())


def _value(diagnostic: Diagnostic, values: np.ndarray) -> float:
    """Return the least value of the run, the last of an evaluation, which is already a mean, or that of ten epochs."""
    if diagnostic.least:
        return float(values.min())
    return float(values[-1] if diagnostic.metric.startswith(EVALUATED) else values[-END:].mean())


def _budget(diagnostic: Diagnostic, config: Config) -> int:
    """Return the gradient steps after which the diagnostic applies, inversely proportional to the learning rate."""
    rate = config["agent"].get(diagnostic.rate) or RATE
    return round(diagnostic.after * RATE / rate)
