"""What the parts of the check of a GPU share: the table that they write, and how they measure."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch

import csf
from csf.io import checkpoint


class Check:
    """One call: where it writes, on which device, and until when."""

    def __init__(self, out: Path, device: str, seconds: float, words: tuple[str, ...], least: float) -> None:
        self.out, self.device, self.words, self.least = out, torch.device(device), words, least
        self.end = time.monotonic() + seconds
        file = out / "table.json"
        self.table: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        self.table["machine"] = machine(self.device)
        self.failed = False

    def left(self) -> float:
        return self.end - time.monotonic()

    def note(self, part: str, rows: dict[str, Any]) -> None:
        """Keep a part's rows, and write both tables."""
        self.table[part] = rows
        (self.out / "table.json").write_text(json.dumps(self.table, indent=1) + "\n")
        (self.out / "table.md").write_text(markdown(self.table))

    def settle(self) -> None:
        """Wait until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def machine(device: torch.device) -> dict[str, str]:
    """What the figures were measured on."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    return {
        "date": str(date.today()),
        "csf": f"{csf.__version__} {checkpoint.provenance().get('commit', '')}".strip(),
        "device": device.type,
        "card": card,
        "cuda": str(torch.version.cuda),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "cores": str(len(os.sched_getaffinity(0))),
    }


def markdown(table: dict[str, Any]) -> str:
    """The same as a page: facts of the machine, then a table of each part."""
    facts = ", ".join(f"{name} {value}" for name, value in table["machine"].items())
    lines = ["# GPU check", "", facts]
    for part, rows in table.items():
        if part == "machine":
            continue
        lines += ["", f"## {part}", "", "| what | found |", "|---|---|"]
        lines += [f"| {name} | {shown(value)} |" for name, value in rows.items()]
    return "\n".join(lines) + "\n"


def shown(value: Any) -> str:
    """Numbers with four digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def failure(error: Exception) -> str:
    """What a table says of an error, in one line; compilers give the reason in a later line of theirs."""
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def per_second(job: Check, work: Callable[[], object], amount: int) -> float:
    """How much of `amount` per call is done in a second, over at least `job.least` seconds after one call."""
    work()
    job.settle()
    start, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() - start < job.least:
        work()
        job.settle()
        calls += 1
    return amount * calls / (time.perf_counter() - start)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside when so many seconds have passed: a compiler may take any time."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
