"""What asks a program to stop early: a signal, or the end of the sweep that started it."""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

# Ctrl-C, `kill`, logout, and the two that schedulers send before they end a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
JOB_STOPPED = signal.SIGURG  # from a worker to its sweep; ignored by a process that does not handle it
SWEEP = "CSF_SWEEP_PID"  # environment variable that tells workers which process runs the sweep
# Signals that come closer together than this many seconds are one request: timeout(1) signals the process and then its
# group, the kernel and the shell both tell of a logout.
ONE_REQUEST = 0.2
PAUSE = 0.05  # seconds between looks for workers that do not know of a signal
LIFE = 1.0  # seconds between an idle worker's looks whether its sweep is alive

_working = False  # whether a job is running in this process
_sweep = 0  # the process of the sweep that this process is a worker of; 0: none
_listening: Stop | None = None


@dataclass
class Stop:
    """Whether this process has been asked to stop, and by what."""

    signal: int | None = None
    reason: str = ""  # what to tell the user
    at_once: Callable[[], None] = field(default=lambda: None)  # called before a second signal ends this process
    _time: float = -math.inf

    def asked(self) -> bool:
        """Whether to stop after the present epoch; a worker also stops when the process of its sweep has ended."""
        if self.signal is None and _sweep and os.getppid() != _sweep:
            self.signal, self.reason = signal.SIGHUP, "the process of the sweep has ended"
        return self.signal is not None

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal: the first is noted, a second one acts at once."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self.reason, self._time = number, signal.Signals(number).name, now
        # A worker may be signalled by its sweep and by a scheduler; the sweep decides when to kill it.
        elif now - self._time > ONE_REQUEST and not (_sweep and os.getppid() == _sweep):
            self.at_once()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def note_job(self, *_: object) -> None:
        """Handle JOB_STOPPED: a signal that reached only a worker stops the whole sweep."""
        if self.signal is None:
            self.note(signal.SIGTERM)


def guard() -> None:
    """Call first in a program: until `listening`, a signal ends it with one line and exit code 128 + signal.

    Losing the terminal or the reader of stderr no longer raises an error: training outlives both.
    """
    for number in _heard():
        signal.signal(number, _end)
    _outlive_readers()


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
def relaying() -> Iterator[Stop]:
    """Note signals and pass each on to the worker processes started inside, at whatever time they start.

    Workers start with signals blocked and receive them once they call `join_sweep`, so that none is lost or kills a
    worker that is still importing. Therefore signals are blocked in this thread; another one receives them.
    """
    with listening() as stop:
        stop.at_once = lambda: _send(signal.SIGKILL, set())
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        of_jobs = signal.signal(JOB_STOPPED, stop.note_job)
        os.environ[SWEEP] = str(os.getpid())
        ended = threading.Event()
        threading.Thread(target=_relay, args=(stop, ended), daemon=True).start()
        try:
            yield stop
        finally:
            ended.set()
            os.environ.pop(SWEEP, None)
            signal.signal(JOB_STOPPED, of_jobs)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join_sweep() -> None:
    """Call first in a job. A worker process notes signals from its first job on, also between jobs."""
    global _sweep, _listening, _working
    _working = True
    if not _sweep and os.environ.get(SWEEP) == str(os.getppid()):
        _sweep = int(os.environ.pop(SWEEP))  # popped: programs that this one starts are not workers
        _listening = stop = Stop()
        for number in _heard():
            signal.signal(number, stop.note)
        _outlive_readers()
        threading.Thread(target=_end_with_sweep, args=(stop,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def in_worker() -> bool:
    """Whether this is a worker process of a sweep."""
    return _sweep != 0


def leave_sweep() -> None:
    """Call last in a job: a worker that was signalled tells the sweep; one whose sweep has ended ends soon."""
    global _working
    _working = False
    if _sweep and _listening is not None and _listening.asked() and os.getppid() == _sweep:
        os.kill(_sweep, JOB_STOPPED)


def _end_with_sweep(stop: Stop) -> None:
    """End this worker when its sweep has ended and its job, if it has one, has saved; joblib's wait for minutes."""
    while _working or os.getppid() == _sweep:
        time.sleep(LIFE)
    os._exit(128 + (stop.signal or signal.SIGHUP))


def _relay(stop: Stop, ended: threading.Event) -> None:
    """Receive signals, which Python handles in the main thread, and send each worker the one that was noted."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    told: set[int] = set()
    while not ended.wait(PAUSE):
        if stop.signal is not None:
            _send(stop.signal, told)


def _send(number: int, told: set[int]) -> None:
    """Signal the worker processes that have not been told yet."""
    for worker in multiprocessing.active_children():
        if worker.pid is not None and worker.pid not in told:
            told.add(worker.pid)
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)


def _heard() -> list[signal.Signals]:
    """All but SIGHUP under nohup(1). SIGINT even if ignored: shells start background jobs that way."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (number == signal.SIGHUP and ignored)]


def _end(number: int, _: FrameType | None) -> None:
    # Raised from here, SystemExit could be swallowed by an import; there is nothing to clean up yet.
    with suppress(OSError):
        os.write(2, f"{signal.Signals(number).name}: ended before training began\n".encode())
    os._exit(128 + number)


def _outlive_readers() -> None:
    """Discard what is written to stderr once it has no reader, instead of raising an error."""
    raw = io.BufferedWriter(_Lasting(sys.stderr.fileno(), "w", closefd=False))  # type: ignore[type-var]
    sys.stderr = io.TextIOWrapper(raw, sys.stderr.encoding, "backslashreplace", line_buffering=True)


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
