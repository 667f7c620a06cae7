"""What asks a program to stop early: a signal, or its sweep, by a signal, a file or its end.

A job of a sweep runs in the sweep's own process, in a worker (a child process of joblib's), or elsewhere: in a process
that Ray or Slurm has started, perhaps on another machine.
"""

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
from pathlib import Path
from types import FrameType
from typing import Any

# Ctrl-C, `kill`, logout, and the two that schedulers send before they end a job.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
JOB_STOPPED = signal.SIGURG  # from a worker to its sweep; ignored by a process that does not handle it
LISTEN_AGAIN = signal.SIGCONT  # from a sweep to itself; harmless from others
SWEEP = "CSF_SWEEP_PID"  # environment variable that tells workers which process runs the sweep
# Signals that come closer together than this many seconds are one request: timeout(1) signals the process and then its
# group, the kernel and the shell both tell of a logout.
ONE_REQUEST = 0.2
PAUSE = 0.05  # seconds between looks for workers that do not know of a signal
LIFE = 1.0  # seconds between an idle worker's looks whether its sweep is alive

_working = False  # whether a job is running in this process
_sweep = 0  # the process of the sweep that this process is a worker of; 0: none
_listening: Stop | None = None
_earlier: dict[int, Any] = {}  # elsewhere: the launcher's handlers of signals


@dataclass
class Stop:
    """Whether this process has been asked to stop, and by what."""

    signal: int | None = None
    reason: str = ""  # what to tell the user
    at_once: Callable[[], None] = field(default=lambda: None)  # called before a second signal ends this process
    file: Path | None = None  # of a job elsewhere: exists once its sweep was stopped
    received: list[int] = field(default_factory=list)  # signals of this process
    _time: float = -math.inf

    def asked(self) -> bool:
        """Whether to stop after the present epoch; a job also stops when its sweep was stopped or has ended."""
        if self.signal is None and _sweep and os.getppid() != _sweep:
            self.signal, self.reason = signal.SIGHUP, "the process of the sweep has ended"
        if self.signal is None and self.file is not None and self.file.exists():
            self.signal, self.reason = signal.SIGTERM, "the sweep is stopped"
        return self.signal is not None

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal: the first is noted, a second one acts at once."""
        now = time.monotonic()
        self.received.append(number)
        if self.signal is None:
            self.signal, self.reason, self._time = number, signal.Signals(number).name, now
        # A worker may be signalled by its sweep and by a scheduler; the sweep decides when to kill it. A job elsewhere
        # is killed by its scheduler, which may send several signals first.
        elif now - self._time > ONE_REQUEST and not (_sweep and os.getppid() == _sweep) and not elsewhere():
            self.at_once()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def note_job(self, *_: object) -> None:
        """Handle JOB_STOPPED: a signal that reached only a worker stops the whole sweep."""
        if self.signal is None:
            self.note(signal.SIGTERM)

    def listen_again(self, *_: object) -> None:
        """Handle LISTEN_AGAIN: take signals back from a launcher that handles them itself, as Ray does."""
        for number in _heard():
            signal.signal(number, self.note)


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
def relaying(tell: Callable[[], None]) -> Iterator[Stop]:
    """Note signals and pass each on to the worker processes started inside, at whatever time they start.

    Workers start with signals blocked and receive them once they call `join_sweep`, so that none is lost or kills a
    worker that is still importing. Therefore signals are blocked in this thread; another one receives them.

    Args:
        tell: tells jobs that run elsewhere to stop; called once, in another thread.
    """
    with listening() as stop:
        stop.at_once = lambda: _send(signal.SIGKILL, set())
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        own = {JOB_STOPPED: stop.note_job, LISTEN_AGAIN: stop.listen_again}
        before_own = {number: signal.signal(number, handler) for number, handler in own.items()}
        os.environ[SWEEP] = str(os.getpid())
        ended = threading.Event()
        threading.Thread(target=_relay, args=(stop, ended, tell), daemon=True).start()
        try:
            yield stop
        finally:
            ended.set()
            os.environ.pop(SWEEP, None)
            for number, handler in before_own.items():
                signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join_sweep(file: Path) -> None:
    """Call first in a job. A process that is not the sweep's notes signals from its first job on, also between jobs.

    Args:
        file: exists once the sweep was stopped.
    """
    global _sweep, _listening, _working
    _working = True
    launched = os.environ.get(SWEEP)
    if not _sweep and launched == str(os.getppid()):
        _sweep = int(os.environ.pop(SWEEP))  # popped: programs that this one starts are not workers
        _listening = stop = Stop()
        for number in _heard():
            signal.signal(number, stop.note)
        _outlive_readers()
        threading.Thread(target=_end_with_sweep, args=(stop,), daemon=True).start()
    elif not _sweep and launched != str(os.getpid()) and _listening is None:
        _listening = Stop(file=file)
        _earlier.update({number: signal.signal(number, _listening.note) for number in _heard()})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def elsewhere() -> bool:
    """Whether this process runs a job, and neither is the sweep's nor a worker."""
    return bool(_earlier)


def hand_on(stop: Stop) -> None:
    """Let the launcher of a job elsewhere handle the signals that were noted: submitit's requeues the job and exits."""
    for number in stop.received:
        handler = _earlier.get(number)
        if callable(handler) and handler is not signal.default_int_handler:
            handler(number, None)


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


def _relay(stop: Stop, ended: threading.Event, tell: Callable[[], None]) -> None:
    """Receive signals, which Python handles in the main thread, and send each worker the one that was noted."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    told: set[int] = set()
    first, main = True, threading.main_thread().ident or 0
    while not ended.wait(PAUSE):
        if any(signal.getsignal(number) != stop.note for number in _heard()):
            signal.pthread_kill(main, LISTEN_AGAIN)  # only the main thread can
        if stop.signal is not None:
            if first:
                tell()
            first = False
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
