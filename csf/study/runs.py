"""Pretrains and measures what a study needs and does not have yet, each as one job of a launcher.

A job holds a lock. Another study that needs the same run waits for it and then uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from csf import sweep
from csf.config import compose
from csf.core import signals
from csf.errors import CsfError
from csf.io import lock
from csf.run import run as train
from csf.run import say
from csf.study import measures
from csf.study.plan import Part, Row, Run, Study


def complete(study: Study, launcher: Sequence[str]) -> list[Row]:
    """Pretrain and measure what is missing; returns the rows that still lack a result, because a job failed.

    Args:
        study: the study.
        launcher: settings of Hydra's launcher.

    Raises:
        SystemExit: the program was asked to stop; jobs have saved what they had.
    """
    runs = [run for run in study.runs if not run.finished()]
    say(f"{study.name}: {len(study.runs)} runs, {len(runs)} of them to train; {len(study.parts)} measurements")
    sweep.each(partial(pretrain, labels(study.rows, runs)), len(runs), study.folder, launcher)
    parts = [part for part in study.parts if part.run.finished() and not part.file.is_file()]
    sweep.each(partial(measure, parts), len(parts), study.folder, launcher)
    return [row for row in study.rows if not row.complete()]


def labels(rows: Iterable[Row], runs: Sequence[Run]) -> list[tuple[str, Run]]:
    """The runs with the rows' names for them."""
    named = {row.run.folder: row.label for row in reversed(list(rows))}
    return [(named[run.folder], run) for run in runs]


def pretrain(runs: Sequence[tuple[str, Run]], number: int) -> int:
    """Train one run of a list unless it is finished; returns the exit code."""
    label, run = runs[number]
    with _locked(run.lock, f"{label}: waiting for another process, which trains {run.folder}") as held:
        if not held or run.finished():
            return 0
        say(f"run {number + 1} of {len(runs)}: {label}")
        return _reported(label, lambda: train(compose.check(run.words)))


def measure(parts: Sequence[Part], number: int) -> int:
    """Take one measurement of a list unless its result exists; returns the exit code."""
    part = parts[number]
    label = f"{part.kind} of {part.run.folder}, epoch {part.epoch}"
    with _locked(part.lock, f"{label}: waiting for another process, which measures it") as held:
        if not held or part.file.is_file():
            return 0
        say(f"measurement {number + 1} of {len(parts)}: {label}")
        return _reported(label, lambda: measures.take(part))


@contextmanager
def _locked(path: Path, message: str) -> Iterator[bool]:
    with signals.listening() as stop, lock.waiting(path, lambda: say(message), stop.asked) as held:
        yield held


def _reported(label: str, work: Callable[[], int]) -> int:
    """Do the work of a job; a user error is printed in one line, so that the other jobs go on."""
    try:
        return work()
    except CsfError as error:
        say(f"error: {label}: {error}")
        return 1
