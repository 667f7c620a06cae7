"""The page of a study and the files of its figures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from csf.io import files
from csf.io.checkpoint import provenance
from csf.report.figures import standalone
from csf.report.page import render
from csf.study import figures, table
from csf.study.plan import EXPERTS, Row, Study
from csf.study.table import Line

INTRINSIC, ADAPTED = "reward", "return_after"


def write(study: Study, found: Sequence[Line], missing: Sequence[Row]) -> Path:
    """Write results.csv, the figures and the page; returns the page's path.

    Raises:
        CheckpointError: a file cannot be written.
        MissingDependency: a package of the report is not installed.
    """
    table.write(study, found)
    panels = table.panels(study, found)
    sections = {
        "Comparison": list(figures.bars(study, panels, found)),
        "Over pretraining": list(figures.curves(study, found)),
        "Return after adaptation and intrinsic reward": list(figures.relation(study, found, INTRINSIC, ADAPTED)),
        "Visited states": list(figures.clouds(study, found)),
    }
    for figure in (each for part in sections.values() for each in part):
        _put(study.folder / figure.file, standalone(figure.svg))
    notes = [f"No result: {row.label}." for row in missing]
    if study.experts and not any("normalized" in line.values for line in found):
        notes.append(f"Returns are not normalized, because there is no expert: csf study {EXPERTS} trains it.")
    text = render(
        "study.html",
        title=f"{study.title}, profile {study.profile}",
        about=study.about.replace("`", ""),
        facts=_facts(study, found),
        notes=notes,
        sections=sections,
        control=study.control,
        panels=panels,
        runs={row.label: shlex.join(row.run.words) for row in study.rows},
    )
    return _put(study.folder / "report.html", text)


def _facts(study: Study, found: Sequence[Line]) -> dict[str, str]:
    return {
        "profile": study.profile,
        "control": study.control,
        "rows": f"{len(found)} of {len(study.rows)}",
        "budget of a run": table.budget(found) if found else "none",
        "commit": provenance().get("commit", "unknown"),
    }


def _put(path: Path, text: str) -> Path:
    files.write(path, lambda file: file.write(text.encode()))
    return path
