"""Entry point: python -m csf.status [EXP_DIR] shows the state of the runs in a folder."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.live import Live

from csf.config import help as usage
from csf.config.ranges import Range
from csf.errors import RunDirError
from csf.status import read, table

HEAD = """\
Show the state of the runs in a folder.

usage: csf status [EXP_DIR] [KEY=VALUE ...]   (or python -m csf.status)

Lists every run below EXP_DIR: whether it is running, failed, interrupted or finished, its progress, the time that is
left, its speed, its latest evaluation, and the metrics that are outside their expected bands. Above the table is why
runs failed. The same command that started an interrupted or a failed run resumes it.

On a terminal, the table is refreshed until Ctrl-C; elsewhere it is printed once. EXP_DIR is the value of exp_dir.

Keys, with their values:
"""
PLACES = ("exp_dir",)


@dataclass(frozen=True)
class Settings:
    """Settings of the table."""

    exp_dir: Path  # folder to search for runs
    every: Annotated[float, Range(0)]  # seconds between refreshes on a terminal; 0: print the table once
    json: bool  # whether to print a JSON list instead, once


def run(settings: Settings) -> None:
    """Print the state of the runs.

    Raises:
        RunDirError: there is no run.
    """
    folder = settings.exp_dir
    found = look(folder)
    if settings.json:
        json.dump([*table.plain(found)], sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    screen = table.console()
    if not screen.is_terminal or not settings.every:
        with screen.capture() as text:
            screen.print(table.table(found, folder, screen))
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.get().splitlines()))
        return
    shown = table.table(found, folder, screen)
    with suppress(KeyboardInterrupt), Live(shown, console=screen, auto_refresh=False) as live:
        while True:
            time.sleep(settings.every)
            live.update(table.table(look(folder), folder, screen), refresh=True)


def look(folder: Path) -> list[read.Status]:
    """Return the state of every run below a folder.

    Raises:
        RunDirError: there is none.
    """
    if not folder.is_dir():
        raise RunDirError(f"{folder} is not a folder; accepted: a folder of runs, such as exp")
    found = [read.read(path) for path in read.runs(folder)]
    if not found:
        raise RunDirError(f"{folder} has no runs; accepted: a folder of runs, such as exp")
    return found


def main() -> None:
    """Run the command; user errors print one line."""
    usage.run_command(Settings, "status", PLACES, HEAD, run)


if __name__ == "__main__":
    main()
