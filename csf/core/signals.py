"""What asks a program to stop early: a signal, or the end of the sweep that started it."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

# Ctrl-C, `kill`, logout, and the two that schedulers send before they end a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SWEEP = "CSF_SWEEP_PID"  # environment variable of a job: the process of the sweep that started it
# Signals that come closer together than this many seconds are one request: timeout(1) signals the process and then its
# group, the kernel and the shell both tell of a logout.
ONE_REQUEST = 0.2

_sweep = 0  # the process of the sweep that this process is a job of; 0: none
_listening: Stop | None = None


@dataclass
class Stop:
    """Whether this process has been asked to stop, and by what."""

    signal: int | None = None
    reason: str = ""  # what to tell the user
    at_once: Callable[[], None] = field(default=lambda: None)  # called before a second signal ends this process
    _time: float = 0.0

    def asked(self) -> bool:
        """Whether to stop after the present epoch; a job also stops when the process of its sweep has ended."""
        if self.signal is None and _sweep and os.getppid() != _sweep:
            self.signal, self.reason = signal.SIGHUP, "the process of the sweep has ended"
        return self.signal is not None

    def note(self, number: int, _: FrameType | None) -> None:
        """Handle a signal: the first is noted, a second one acts at once."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.reason, self._time = number, signal.Signals(number).name, now
        # A job may be signalled by its sweep and by a scheduler; the sweep decides when to kill it.
        elif now - self._time > ONE_REQUEST and not (_sweep and os.getppid() == _sweep):
            self.at_once()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def guard() -> None:
    """Call first in a program: until `listening`, a signal ends it with one line and exit code 128 + signal.

    Losing the terminal or the reader of stderr no longer raises an error: training outlives both.
    """
    global _sweep
    _sweep = int(os.environ.pop(SWEEP, _sweep))
    for number in _heard():
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # `blocked` when it was started
    raw = io.BufferedWriter(_Lasting(sys.stderr.fileno(), "w", closefd=False))  # type: ignore[type-var]
    sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, "backslashreplace", line_buffering=True)


def is_job() -> bool:
    """Whether a sweep started this process."""
    return _sweep != 0


@contextmanager
def listening() -> Iterator[Stop]:
    """Note signals instead of ending; all callers inside one another share what was noted.

    A program that has called `guard` keeps noting them afterwards, when it has nothing left but to end.
    """
    global _listening
    if _listening is not None:
        yield _listening
        return
    before = {number: signal.getsignal(number) for number in _heard()}
    _listening = stop = Stop()
    for number in before:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        _listening = None
        for number, handler in before.items():
            signal.signal(number, stop.note if handler is _end else handler)


@contextmanager
def blocked() -> Iterator[None]:
    """Hold signals back, also from processes started inside, until they call `guard`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heard() -> list[signal.Signals]:
    """All but SIGHUP under nohup(1). SIGINT even if ignored: shells start background jobs that way."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (number == signal.SIGHUP and ignored)]


def _end(number: int, _: FrameType | None) -> None:
    # Raised from here, SystemExit could be swallowed by an import; there is nothing to clean up yet.
    with suppress(OSError):
        os.write(2, f"{signal.Signals(number).name}: ended before training began\n".encode())
    os._exit(128 + number)


class _Lasting(io.FileIO):
    """A stream that leads nowhere once it cannot be written, as after a logout or when `tee` has ended."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Write, or discard."""
        try:
            return super().write(data)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)
