"""Entry point: python -m csf.report RUN [RUN ...] makes one HTML page of a run, or of a comparison of several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from csf.errors import CsfError, ReportError
from csf.report import page
from csf.report.load import read

ABOUT = """\
One HTML page that needs no other file and no network: of one run, what it is, how healthy it is, what it reached, its
skills and its curves; of several, their scores over seeds at equal budgets, with intervals, and their curves.

A RUN is a folder such as exp/pretrain/ant/csf/sd000. Runs are seeds of one method where their configurations agree in
all but the seed. Intervals need the package rliable: pip install rliable 'pandas<3'"""


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m csf.report", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: RUN/report.html, or ./report.html for several runs"
    )
    parser.add_argument("--title", help="default: says what is on the page")
    return parser.parse_args(words)


def report(folders: Sequence[Path], output: Path | None, title: str | None) -> Path:
    """Write the page and return where it is.

    Raises:
        CsfError: a run cannot be read, a package is missing, or the page cannot be written.
    """
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
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
    """Make the page and say where it is, or say in one line why not."""
    arguments = parse()
    try:
        path = report(arguments.runs, arguments.output, arguments.title)
    except CsfError as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)\n")


if __name__ == "__main__":
    main()
