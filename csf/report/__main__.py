"""Entry point: python -m csf.report RUN [RUN ...] makes one HTML page of a run, or of a comparison of several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csf.config import compose
from csf.config import help as usage
from csf.errors import ConfigError, CsfError, ReportError
from csf.io import files
from csf.io.load import run_of
from csf.report import page
from csf.report.load import read

HEAD = """\
Write an HTML page about one run, or comparing several.

usage: csf report RUN [RUN ...] [KEY=VALUE ...]   (or python -m csf.report)

The page needs no other file and no network. Of one run: what it is, how healthy it is, what it reached, its skills
and its curves; of several: their scores over seeds at equal budgets, with intervals, and their curves.

A RUN is a folder such as exp/pretrain/ant/csf/sd000, or a file of its checkpoints; it is a value of cp_path. Runs are
seeds of one method where their configurations agree in all but the seed. Intervals need the package rliable:
pip install rliable 'pandas<3'

Keys, with their values:
"""
PLACES = ("cp_path",)


@dataclass(frozen=True)
class Settings:
    """What to show, and where."""

    cp_path: tuple[str, ...]  # runs' folders, or files of them
    output: str | None  # file; null: RUN/report.html, or ./report.html for several runs
    title: str | None  # null: says what is on the page


def run(settings: Settings) -> None:
    """Make the page and say where it is.

    Raises:
        CsfError: as `report`, or no run is named.
    """
    if not settings.cp_path:
        raise ConfigError("which run? accepted: RUN [RUN ...] [KEY=VALUE ...], --help")
    named = [Path(word).expanduser() for word in settings.cp_path]
    folders = [run_of(path) if path.is_file() else path for path in named]
    output = None if settings.output is None else Path(settings.output).expanduser()
    path = report(folders, output, settings.title)
    sys.stderr.write(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)\n")


def report(folders: Sequence[Path], output: Path | None, title: str | None) -> Path:
    """Write the page and return where it is.

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
    """Read the arguments; a mistake is told in one line."""
    words = sys.argv[1:]
    try:
        if {"-h", "--help"} & set(words):
            defaults = compose.settings(Settings, "report", [], PLACES)
            sys.stdout.write(HEAD + "\n".join(usage.lines(defaults)) + "\n")
        else:
            run(compose.settings(Settings, "report", words, PLACES))
    except CsfError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
