"""A progress line with epoch, speed and metrics of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

from csf.io.busy import Busy

LOG_EVERY = 30.0  # seconds between lines if the output is not a terminal
SHOWN = {  # metrics in the line, each from the latest row that has it
    "eval/coverage": "coverage",
    "eval/state_entropy": "entropy",
    "loss/representation": "phi",
    "loss/critic": "critic",
    "loss/actor": "actor",
}


class Progress:
    """A tqdm line on a terminal; a plain line every half minute elsewhere."""

    def __init__(
        self,
        total: int,
        first: int,
        known: Mapping[str, float],
        file: TextIO | None = None,
        busy: Busy | None = None,
        unit: str = "epoch",
    ) -> None:
        """Start at `first` of `total` epochs or environment steps, with the metrics `known` from earlier epochs."""
        self.busy, self.total = busy, total
        self.counted = "epoch" if unit == "epoch" else "env_steps"  # key of what is counted
        self.file = file or sys.stderr
        self.live = self.file.isatty()
        self.bar = _Steady(
            total=total,
            initial=first,
            file=self.file if self.live else _Lines(self.file),
            bar_format=unit + " {n_fmt}/{total_fmt} [{elapsed}, {remaining} left]{postfix}",
            mininterval=0.2 if self.live else LOG_EVERY,
            delay=1e-3,  # print the first line with the first row
            smoothing=0.1,
            dynamic_ncols=self.live,
        )
        self.known = dict(known)

    def update(self, row: Mapping[str, float]) -> None:
        """Show the row of the epoch that has just ended."""
        text = self._text(row)
        if notice := self._notice(row):
            self.bar.write(notice, file=self.file)
        self.known.update(row)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(min(int(row[self.counted]), self.total) - self.bar.n)

    def _notice(self, row: Mapping[str, float]) -> str | None:
        """What is to be said of the machine, above the line."""
        if self.busy is None or "time/learn" not in row:
            return None
        steps = row["gradient_steps"] - self.known.get("gradient_steps", row["gradient_steps"])
        return self.busy.note(row["time/learn"], row["time/learn_cpu"], steps)

    def _text(self, row: Mapping[str, float]) -> str:
        known = {**self.known, **row}
        parts = [f"{int(row['env_steps']):,} env steps"]
        for count, phase in (("env_steps", "collect"), ("gradient_steps", "learn")):
            done = row[count] - self.known.get(count, row[count])
            if done:
                parts.append(f"{_digits(done / row[f'time/{phase}'])} {count.replace('_', ' ')}/s")
        parts += [f"{label} {known[key]:.4g}" for key, label in SHOWN.items() if key in known]
        return " | ".join(parts)

    def close(self) -> None:
        """Print the last line and close."""
        self.bar.refresh()
        self.bar.leave = self.live  # in a file, it has been written already
        self.bar.close()


def _digits(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


class _Steady(tqdm):  # type: ignore[type-arg]
    """A bar whose times do not jump with the machine's clock, which would silence it for hours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._time = time.monotonic
        self.start_t = self.last_print_t = self._time()


class _Lines:
    """Converts tqdm's carriage returns to lines."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            self.file.write(text + "\n")

    def flush(self) -> None:
        self.file.flush()
