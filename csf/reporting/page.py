"""What both pages share: a run's facts, figures with titles, numbers as text, and templates/, where the looks are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from csf.errors import MissingDependency
from csf.evaluation.diagnostics import Band, Finding, judge
from csf.reporting.runs import Run


class Panel(NamedTuple):
    """A figure with its title."""

    title: str
    svg: str


def facts(run: Run) -> dict[str, Any]:
    """What a run is, by the names that the page gives."""
    spec = run.policy.get("spec", {})
    about = run.config
    env = f"{about['env']['name']} {spec['version']}" if spec else about["env"]["name"]
    planned = about.get("task", {}).get("epochs")
    times = [series.value.sum() for name, series in run.series.items() if name.startswith("time/")]
    return {
        "method": run.method,
        "environment": env,
        "seed": run.seed,
        "epochs": f"{run.epoch:,} of {number(planned)}" if planned else f"{run.epoch:,}",
        "environment steps": f"{run.newest('env_steps'):,.0f}",
        "gradient steps": f"{run.newest('gradient_steps'):,.0f}" if "gradient_steps" in run.series else "unknown",
        "time in epochs": _duration(float(sum(times))),
        "commit": run.policy.get("versions", {}).get("commit", "unknown"),
        "started": f"{run.started:%Y-%m-%d %H:%M} UTC" if run.started else "unknown",
        "last row": f"{run.written:%Y-%m-%d %H:%M} UTC",
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def findings(run: Run) -> list[Finding]:
    """The diagnostics of a run, judged."""
    steps = run.newest("gradient_steps") if "gradient_steps" in run.series else 0
    return judge(run.config, {name: series.value for name, series in run.series.items()}, int(steps))


def render(template: str, **content: Any) -> str:
    """The page that a template makes of its content, which is escaped.

    Raises:
        MissingDependency: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependency("the report needs the package jinja2: pip install jinja2") from error
    loader = PackageLoader("csf.reporting")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": number, "precise": precise, "band": _band}
    return environment.get_template(template).render(**content)


def number(value: object) -> str:
    """Four digits that count; what is no number as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def precise(value: float) -> str:
    """Four decimals from 1 on, to tell values near the edge of a band from it."""
    return number(value) if abs(value) < 1 or math.isinf(value) else f"{round(value, 4):,}".removesuffix(".0")


def _band(band: Band) -> str:
    low, high = (precise(end) for end in band)
    if math.isinf(band.low):
        return f"\u2264 {high}"
    return f"\u2265 {low}" if math.isinf(band.high) else f"{low} \u2026 {high}"
