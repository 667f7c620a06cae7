"""Puts what was read and computed onto a page; how it looks is in templates/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml

from csf.errors import MissingDependency
from csf.evaluation.diagnostics import Band, Finding, judge
from csf.reporting import curves, figures, media
from csf.reporting.groups import Arena, arrange, short
from csf.reporting.runs import Run
from csf.reporting.scores import MAIN, Table, afterwards, during_training


class Panel(NamedTuple):
    """A figure with its title."""

    title: str
    svg: str


def of_run(run: Run, title: str | None) -> str:
    """The page of one run."""
    notes = list(run.notes)
    findings = _judge(run)
    return _render(
        "run.html",
        title=title or f"{run.config['agent']['name']} on {run.config['env']['name']}, seed {run.seed}",
        facts=_facts(run),
        folder=short(run.path),
        versions=run.policy.get("versions", {}),
        findings=findings,
        newest=media.newest(run),
        earlier=media.earlier(run),
        videos=media.videos(run.videos, run.path, notes),
        sections=_run_sections(run, findings),
        results=_results(run),
        evaluations=run.evaluations,
        evaluation_pictures=media.of_files(run.evaluation_pictures, run.path),
        config=yaml.safe_dump(run.config, sort_keys=False),
        notes=notes,
    )


def of_runs(runs: Sequence[Run], title: str | None) -> str:
    """The page that compares several runs."""
    arenas = arrange(runs)
    notes = [f"{short(run.path)}: {note}" for run in runs for note in run.notes]
    if len(arenas) > 1:
        notes.insert(0, "Scores of different environments have different units: each environment stands by itself.")
    return _render(
        "comparison.html",
        title=title or "Comparison of " + ", ".join(_names(arenas)),
        arenas=[_arena(arena) for arena in arenas],
        notes=notes,
    )


def _names(arenas: Sequence[Arena]) -> list[str]:
    return list(dict.fromkeys(group.method.partition(",")[0] for arena in arenas for group in arena.groups))


def _facts(run: Run) -> dict[str, Any]:
    """What the run is."""
    spec = run.policy.get("spec", {})
    about = run.config
    env = f"{about['env']['name']} {spec['version']}" if spec else about["env"]["name"]
    planned = about.get("task", {}).get("epochs")
    times = [series.value.sum() for name, series in run.series.items() if name.startswith("time/")]
    return {
        "method": f"{about['agent']['name']} on {about['agent']['backbone']['name']}",
        "environment": env,
        "seed": run.seed,
        "epochs": f"{run.epoch:,} of {planned:,}" if planned else f"{run.epoch:,}",
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


def _judge(run: Run) -> list[Finding]:
    steps = run.newest("gradient_steps") if "gradient_steps" in run.series else 0
    return judge(run.config, {name: series.value for name, series in run.series.items()}, int(steps))


def _run_sections(run: Run, findings: Sequence[Finding]) -> dict[str, list[Panel]]:
    """Curves of a run; a metric's last band is where it is expected in the end."""
    bands: dict[str, Band] = {finding.diagnostic.metric: finding.band for finding in findings}
    found: dict[str, list[Panel]] = {}
    for section, panels in curves.sections(run.series).items():
        for title, names in panels.items():
            lines = [curves.of_run(curves.short(name), run.series[name]) for name in names]
            found.setdefault(section, []).append(Panel(title, figures.curves(lines, bands.get(names[0]))))
    return found


def _results(run: Run) -> list[tuple[str, int, float, float]]:
    """Evaluation metrics: name, epoch of the newest, its value, the value at the start."""
    found = [(name, series) for name, series in run.series.items() if name.startswith("eval/")]
    return [(name, int(series.epoch[-1]), series.value[-1], series.value[0]) for name, series in found]


def _arena(arena: Arena) -> dict[str, Any]:
    """What the page shows of one environment."""
    verdicts: dict[tuple[str, str], dict[str, Finding]] = {}
    runs = {f"{group.method}, seed {run.seed}": run for group in arena.groups for run in group.runs}
    for label, run in runs.items():
        for finding in _judge(run):
            key = (finding.diagnostic.metric, finding.diagnostic.meaning)
            verdicts.setdefault(key, {})[label] = finding
    return {
        "arena": arena,
        "facts": {label: {**_facts(run), "folder": short(run.path)} for label, run in runs.items()},
        "tables": [_table(arena, table) for table in (during_training(arena), afterwards(arena)) if table],
        "sections": _arena_sections(arena),
        "verdicts": verdicts,
        "portraits": {group.method: media.portraits(group.runs) for group in arena.groups},
    }


def _colors(arena: Arena) -> dict[str, str]:
    """A method's color, the same in every figure."""
    return {group.method: figures.COLORS[i % len(figures.COLORS)] for i, group in enumerate(arena.groups)}


def _table(arena: Arena, table: Table) -> dict[str, Any]:
    """Scores with their figures."""
    colors = _colors(arena)
    bars = [Panel(name, figures.scores(by_method, colors)) for name, by_method in table.scores.items()]
    return {
        "table": table,
        "main": [panel for panel in bars if panel.title.startswith(MAIN)],
        "other": [panel for panel in bars if not panel.title.startswith(MAIN)],
        "chances": _chances(table),
    }


def _chances(table: Table) -> list[Panel]:
    found: dict[str, dict[str, Any]] = {}
    for name, one, other, estimate in table.improvements:
        found.setdefault(name, {})[f"{one} > {other}"] = estimate
    return [Panel(name, figures.improvements(pairs)) for name, pairs in found.items()]


def _arena_sections(arena: Arena) -> dict[str, list[Panel]]:
    """Curves of the methods, one metric a panel."""
    colors = _colors(arena)
    names = dict.fromkeys(name for run in arena.runs for name in run.series)
    found: dict[str, list[Panel]] = {}
    for section, panels in curves.sections(names).items():
        for name in [name for members in panels.values() for name in members]:
            lines = [curves.of_seeds(group.method, name, group.runs) for group in arena.groups]
            shown = [line for line in lines if line is not None]
            if shown:
                svg = figures.curves(shown, colors=[colors[line.label] for line in shown])
                found.setdefault(section, []).append(Panel(name, svg))
    return found


def _render(template: str, **content: Any) -> str:
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
