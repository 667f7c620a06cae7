"""Signals reach every process of a run or a sweep: each saves, no further job starts, none is left."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from joblib.externals.loky import get_reusable_executor
from runs import SECONDS, TINY, Child, error_of, fork, main, reached, train, wait_for_epoch

from csf import sweep as sweeps
from csf.core.device import use_threads
from csf.core.signals import ONE_REQUEST, SIGNALS
from csf.sweep import KILLED
from envs.vector import usable_cores

NEVER = ("task.epochs=100000", "task.save_every=100000")
IN_TURN = ("-m", "seed=0,1,2")
SIDE_BY_SIDE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *IN_TURN)
SEED = "sd${seed}"


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for an event."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def parents() -> dict[int, int]:
    """The parent of every process that has not ended."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if state != "Z":
            found[int(entry.name)] = int(parent)
    return found


def children(of: int | None) -> list[int]:
    """Of the process of a sweep: workers and what joblib starts besides."""
    return [process for process, parent in parents().items() if parent == of]


def workers(of: int | None) -> list[int]:
    return [process for process in children(of) if b"LokyProcess" in Path(f"/proc/{process}/cmdline").read_bytes()]


def check_ended(processes: list[int]) -> None:
    """None of these is left, or each ends soon."""
    until(lambda: not set(processes) & set(parents()), f"a process of {processes} is left")


def check_saved(folder: Path, said: str, reason: str) -> None:
    """The epoch was finished and saved, and that was said."""
    last = reached(folder)
    assert [path.name for path in (folder / "checkpoints").glob("*.pt")] == [f"epoch_{last:06d}.pt"]
    assert f"{reason}: saved after epoch {last}; the same command resumes the run" in said.splitlines()


# ---- one run


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_saves_whatever_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    child = train(tmp_path / "run", *NEVER)
    wait_for_epoch(child, tmp_path / "run", 1)
    child.kill(number)
    assert child.wait() == 128 + number, child.said
    check_saved(tmp_path / "run", child.said, number.name)


def test_signals_that_come_together_are_one_request(tmp_path: Path) -> None:
    """As timeout(1) sends them, or a terminal that closes; the epoch is a long one."""
    child = train(tmp_path / "run", *NEVER, "task.updates_per_epoch=300")
    wait_for_epoch(child, tmp_path / "run", 1)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        child.kill(number)
        child.process.join(0.01)
    assert child.wait() == 128 + signal.SIGHUP, child.said
    check_saved(tmp_path / "run", child.said, "SIGHUP")


def test_under_nohup_a_run_outlives_a_logout(tmp_path: Path) -> None:
    child = fork(tmp_path / "log", nohup, [*words(tmp_path), *NEVER])
    wait_for_epoch(child, tmp_path / "run", 1)
    child.kill(signal.SIGHUP)
    wait_for_epoch(child, tmp_path / "run", reached(tmp_path / "run") + 3)
    child.kill(signal.SIGTERM)
    assert child.wait() == 143
    check_saved(tmp_path / "run", child.said, "SIGTERM")


def nohup(arguments: list[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    main(arguments)


def words(folder: Path) -> list[str]:
    return [*TINY, f"exp_dir={folder}", "run_name=run"]


def test_a_terminal_that_closes_takes_no_epoch_with_it(tmp_path: Path) -> None:
    """Besides the signal, every write to it fails."""
    child = fork(tmp_path / "log", terminal, [*words(tmp_path), *NEVER], tmp_path / "run")
    assert child.wait() == 128 + signal.SIGHUP
    folder = tmp_path / "run"
    assert [path.name for path in (folder / "checkpoints").glob("*.pt")] == [f"epoch_{reached(folder):06d}.pt"]


def terminal(arguments: list[str], folder: Path) -> None:
    os.setsid()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    os.dup2(slave, 2)
    os.close(slave)

    def close() -> None:
        until(lambda: reached(folder) >= 2, "no epoch 2")
        os.close(master)

    threading.Thread(target=close, daemon=True).start()
    main(arguments)


def test_a_run_does_not_need_a_reader_of_what_it_says(tmp_path: Path) -> None:
    """As in `csf_ant.sh 2>&1 | tee log`, where Ctrl-C ends tee first."""
    child = fork(tmp_path / "log", unread, [*words(tmp_path), *NEVER])
    wait_for_epoch(child, tmp_path / "run", 2)
    child.kill(signal.SIGINT)
    assert child.wait() == 130
    folder = tmp_path / "run"
    assert [path.name for path in (folder / "checkpoints").glob("*.pt")] == [f"epoch_{reached(folder):06d}.pt"]


def unread(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(reader)
    main(arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_training_is_one_line(tmp_path: Path, number: signal.Signals) -> None:
    """While imports are running: it is sent as soon as the program listens."""
    line = [sys.executable, "-m", "csf.train", *words(tmp_path)]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def listens() -> bool:
        assert process.poll() is None
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(next(row.split()[1] for row in status.splitlines() if row.startswith("SigCgt")), 16)
        return bool(caught >> (signal.SIGUSR2 - 1) & 1)

    until(listens, "does not listen")
    process.send_signal(number)
    _, said = process.communicate(timeout=SECONDS)
    assert said == f"{number.name}: ended before training began\n"
    assert process.returncode == 128 + number
    assert not (tmp_path / "run").exists()


# ---- sweeps


def test_in_a_sweep_no_further_job_is_started(tmp_path: Path) -> None:
    child = train(tmp_path / SEED, *NEVER, *IN_TURN)
    wait_for_epoch(child, tmp_path / "sd0", 1)
    child.kill(signal.SIGTERM)
    assert child.wait() == 143, child.said
    check_saved(tmp_path / "sd0", child.said, "SIGTERM")
    assert child.said.splitlines()[-1] == "SIGTERM: the sweep is stopped; the same command resumes it"
    assert not (tmp_path / "sd1").exists()
    assert not (tmp_path / "sd2").exists()
    again = train(tmp_path / SEED, f"task.epochs={reached(tmp_path / 'sd0') + 1}", *IN_TURN)
    assert again.wait() == 0, again.said
    assert again.said.count("finished: ") == 3, again.said


Sweep = Callable[..., Child]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    """Starts a sweep of three jobs that never end, two of them side by side."""
    started: list[Child] = []

    def start(*more: str, name: str = SEED) -> Child:
        settings = [*TINY, f"exp_dir={tmp_path}", f"run_name={name}", *NEVER, *SIDE_BY_SIDE, *more]
        started.append(fork(tmp_path / "log", side_by_side, settings, daemon=False))
        return started[-1]

    yield start
    for child in started:
        for process in [*children(child.process.pid), child.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(process or 0, signal.SIGKILL)


def side_by_side(arguments: list[str]) -> None:
    try:
        main(arguments)
    finally:  # a process of multiprocessing waits for its children before joblib's hook at exit ends them
        get_reusable_executor().shutdown()


@pytest.mark.long
def test_jobs_side_by_side_all_save_and_the_same_command_resumes(tmp_path: Path, sweep: Sweep) -> None:
    child = sweep()
    for name in ("sd0", "sd1"):
        wait_for_epoch(child, tmp_path / name, 1)
    running = children(child.process.pid)
    child.kill(signal.SIGUSR1)
    for worker in workers(child.process.pid):  # as a scheduler does that signals every process
        os.kill(worker, signal.SIGUSR1)
    assert child.wait() == 128 + signal.SIGUSR1, child.said
    check_ended(running)
    for name in ("sd0", "sd1"):
        check_saved(tmp_path / name, child.said, "SIGUSR1")
    assert not (tmp_path / "sd2").exists()
    lines = [line for line in child.said.splitlines() if not line.startswith("epoch ")]
    assert len(lines) == 7, child.said  # two begin with two lines each, two save, and:
    assert lines[-1] == "SIGUSR1: the sweep is stopped; the same command resumes it"
    epochs = max(reached(tmp_path / name) for name in ("sd0", "sd1")) + 1
    again = sweep(f"task.epochs={epochs}")
    assert again.wait() == 0, again.said
    assert again.said.count("resuming after epoch") == 2, again.said
    assert again.said.count(f"finished: {epochs} epochs") == 3, again.said


@pytest.mark.slow
def test_a_signal_while_workers_start_is_one_line(tmp_path: Path) -> None:
    """As Ctrl-C sends it, which reaches every process of a terminal."""
    line = [sys.executable, "-m", "csf.train", *TINY, f"exp_dir={tmp_path}", f"run_name={SEED}", *SIDE_BY_SIDE]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: len(workers(process.pid)) == 2, "no workers")
    running = children(process.pid)
    for each in (*workers(process.pid), process.pid):
        os.kill(each, signal.SIGINT)
    _, said = process.communicate(timeout=SECONDS)
    assert said == "SIGINT: the sweep is stopped; the same command resumes it\n"
    assert process.returncode == 130
    check_ended(running)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.long
def test_workers_end_when_their_sweep_is_killed(tmp_path: Path, sweep: Sweep) -> None:
    """The one that trains after it has saved, and the one whose job has ended."""
    child = sweep("task.epochs=1,100000", "seed=0", name="${task.epochs}")
    wait_for_epoch(child, tmp_path / "100000", 1)
    until(lambda: "finished: 1 epochs" in child.said, child.said)
    running = children(child.process.pid)
    child.kill(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    check_ended(running)
    check_saved(tmp_path / "100000", child.said, "the process of the sweep has ended")
    assert "resource_tracker" not in child.said


def test_a_second_signal_ends_a_sweep_at_once(sweep: Sweep) -> None:
    child = sweep()
    until(lambda: len(workers(child.process.pid)) == 2, "no workers")
    running = children(child.process.pid)
    child.kill(signal.SIGINT)
    child.process.join(2 * ONE_REQUEST)
    assert child.process.exitcode is None, child.said
    child.kill(signal.SIGINT)
    assert child.wait() == -signal.SIGINT
    check_ended(running)
    assert child.said == ""


@pytest.mark.long
def test_a_job_that_fails_leaves_the_others_and_a_signal_to_one_worker_stops_all(tmp_path: Path, sweep: Sweep) -> None:
    child = sweep("task.replay_size=100,10", "task.min_replay_size=10", "seed=0", name="${task.replay_size}")
    wait_for_epoch(child, tmp_path / "100", 20)
    for worker in workers(child.process.pid):
        os.kill(worker, signal.SIGUSR2)
    assert child.wait() == 143, child.said
    check_saved(tmp_path / "100", child.said, "SIGUSR2")
    lines = child.said.splitlines()
    assert f"error: {tmp_path}/10: task.replay_size is 10; accepted: at least the 20 transitions of an epoch" in lines
    assert lines[-1] == "SIGTERM: the sweep is stopped; the same command resumes it"
    assert "Traceback" not in child.said


def test_a_worker_that_is_killed_is_one_line(sweep: Sweep) -> None:
    """As by the kernel when memory runs out; joblib then kills the other workers."""
    child = sweep()
    until(lambda: len(workers(child.process.pid)) == 2, "no workers")
    running = children(child.process.pid)
    os.kill(workers(child.process.pid)[0], signal.SIGKILL)
    assert child.wait() == 1, child.said
    check_ended(running)
    assert child.said == KILLED + "\n"


def test_a_bug_in_a_job_is_told_with_its_traceback_and_at_the_end_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def with_a_bug(number: int) -> int:
        done.append(number)
        return 1 // (number - 1)

    with pytest.raises(SystemExit) as ended:
        sweeps.each(with_a_bug, 3, tmp_path, [])
    assert ended.value.code == 1
    assert done == [0, 1, 2]
    said = capsys.readouterr().err
    assert "in with_a_bug\n    return 1 // (number - 1)" in said
    assert said.splitlines()[-1] == "  job 1: ZeroDivisionError: integer division or modulo by zero"


def test_a_number_of_jobs_that_cannot_be(tmp_path: Path) -> None:
    child = train(tmp_path / SEED, *SIDE_BY_SIDE, "hydra.launcher.n_jobs=0")
    accepted = "a positive number, or -1 for one job per core"
    assert error_of(child) == f"error: hydra.launcher.n_jobs is 0; accepted: {accepted}"


@pytest.mark.parametrize(("value", "used"), [("3", 3), ("3,1", 3), ("", 2)])
def test_threads_are_divided_among_jobs(value: str, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker of joblib sees it, where both variables are set; an earlier job may have set another number."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5}, raising=False)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        use_threads(0)
        assert torch.get_num_threads() == used
        assert usable_cores() == used, "as many threads step the worlds"
    finally:
        torch.set_num_threads(before)
