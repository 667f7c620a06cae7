"""Entry point: python -m csf.report RUN [RUN ...] creates an HTML page of a run, or a comparison of several runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csf.config import help as usage
from csf.errors import ConfigError, ReportError
from csf.io import files, packaged
from csf.io.load import find, run_of
from csf.report import page
from csf.report.load import read

HEAD = """\
Create an HTML page of one run, or a comparison of several runs.

usage: csf report RUN [RUN ...] [KEY=VALUE ...]   (or python -m csf.report)

The page is a single file that needs no network. For one run it shows settings, diagnostics, evaluations, skills and
curves; for several runs, scores over seeds at equal budgets, with confidence intervals, and curves.

A RUN is a folder such as exp/pretrain/ant/csf/sd000, one of its checkpoint files, a folder that csf export wrote, or
packaged:NAME; RUNs are the values of cp_path.
Runs whose configurations differ only in the seed are seeds of one method. Intervals need the package rliable:
pip install rliable 'pandas<3'

Keys, with their values:
"""
PLACES = ("cp_path",)


@dataclass(frozen=True)
class Settings:
    """Input and output of the report."""

    cp_path: tuple[str, ...]  # folders or checkpoint files of runs
    output: str | None  # output file; null: RUN/report.html, or ./report.html for several runs and packaged:NAME
    title: str | None  # title of the page; null: derived from the runs


def run(settings: Settings) -> None:
    """Create the page and print its path.

    Raises:
        CsfError: no run is given, or an error of `report`.
    """
    if not settings.cp_path:
        raise ConfigError("no run is given; accepted: RUN [RUN ...] [KEY=VALUE ...], --help")
    named = [find(word) if packaged.is_address(word) else Path(word).expanduser() for word in settings.cp_path]
    folders = [run_of(path) if path.is_file() else path for path in named]
    output = None if settings.output is None else Path(settings.output).expanduser()
    if output is None and any(map(packaged.is_address, settings.cp_path)):
        output = Path("report.html")
    path = report(folders, output, settings.title)
    sys.stderr.write(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)\n")


def report(folders: Sequence[Path], output: Path | None, title: str | None) -> Path:
    """Write the page and return its path.

    Raises:
        CsfError: a run cannot be read, a package is missing, or the page cannot be written.
    """
    folders = list(dict.fromkeys(files.check_name(folder).resolve() for folder in folders))
    runs = [read(folder) for folder in folders]
    if len(runs) == 1:
        output, text = output or folders[0] / "report.html", page.of_run(runs[0], title)
    else:
        output, text = output or Path("report.html"), page.of_runs(runs, title)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write {output}: {error.strerror or error}") from error
    return output


def main() -> None:
    """Run the command; user errors print one line."""
    usage.run_command(Settings, "report", PLACES, HEAD, run)


if __name__ == "__main__":
    main()
