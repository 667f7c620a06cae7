"""The page of one run."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from csf.evaluation.diagnostics import Band, Finding
from csf.reporting import curves, figures, media
from csf.reporting.groups import short
from csf.reporting.page import Panel, facts, findings, render
from csf.reporting.runs import Run


def of_run(run: Run, title: str | None) -> str:
    """The page of one run."""
    notes = list(run.notes)
    found = findings(run)
    return render(
        "run.html",
        title=title or f"{run.learned} on {run.config['env']['name']}, seed {run.seed}",
        facts=facts(run),
        folder=short(run.path),
        versions=run.policy.get("versions", {}),
        findings=found,
        newest=media.newest(run),
        earlier=media.earlier(run),
        videos=media.videos(run.videos, run.path, notes),
        sections=_sections(run, found),
        results=_results(run),
        evaluations=run.evaluations,
        evaluation_pictures=media.of_files(run.evaluation_pictures, run.path),
        config=yaml.safe_dump(run.config, sort_keys=False),
        notes=notes,
    )


def _sections(run: Run, findings: Sequence[Finding]) -> dict[str, list[Panel]]:
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
