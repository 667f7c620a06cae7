"""The page that compares runs: scores over seeds and curves of methods, one environment after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csf.evaluation.diagnostics import Finding
from csf.reporting import curves, figures, media
from csf.reporting.groups import Arena, arrange, short
from csf.reporting.page import Panel, facts, findings, render
from csf.reporting.runs import Run
from csf.reporting.scores import MAIN, Table, afterwards, during_training


def of_runs(runs: Sequence[Run], title: str | None) -> str:
    """The page that compares several runs."""
    arenas = arrange(runs)
    notes = [f"{short(run.path)}: {note}" for run in runs for note in run.notes]
    if len(arenas) > 1:
        notes.insert(0, "Scores of different environments have different units: each environment stands by itself.")
    return render(
        "comparison.html",
        title=title or "Comparison of " + ", ".join(_names(arenas)),
        arenas=[_arena(arena) for arena in arenas],
        notes=notes,
    )


def _names(arenas: Sequence[Arena]) -> list[str]:
    return list(dict.fromkeys(group.method.partition(",")[0] for arena in arenas for group in arena.groups))


def _arena(arena: Arena) -> dict[str, Any]:
    """What the page shows of one environment."""
    verdicts: dict[tuple[str, str], dict[str, Finding]] = {}
    runs = {f"{group.method}, seed {run.seed}": run for group in arena.groups for run in group.runs}
    for label, run in runs.items():
        for finding in findings(run):
            key = (finding.diagnostic.metric, finding.diagnostic.meaning)
            verdicts.setdefault(key, {})[label] = finding
    return {
        "arena": arena,
        "facts": {label: {**facts(run), "folder": short(run.path)} for label, run in runs.items()},
        "tables": [_table(arena, table) for table in (during_training(arena), afterwards(arena)) if table],
        "sections": _sections(arena),
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
        "main": [panel for panel in bars if MAIN.fullmatch(panel.title)],
        "other": [panel for panel in bars if not MAIN.fullmatch(panel.title)],
        "chances": _chances(table),
    }


def _chances(table: Table) -> list[Panel]:
    found: dict[str, dict[str, Any]] = {}
    for name, one, other, estimate in table.improvements:
        found.setdefault(name, {})[f"{one} > {other}"] = estimate
    return [Panel(name, figures.improvements(pairs)) for name, pairs in found.items()]


def _sections(arena: Arena) -> dict[str, list[Panel]]:
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
