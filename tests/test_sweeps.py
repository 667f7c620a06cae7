"""Sweeps by each launcher: the numbers of single runs, failed, killed and preempted jobs, and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from runs import SECONDS, TINY, different, reached, rows, train
from test_launch import NEVER, parents, until

from csf import train as program
from csf.io import checkpoint
from csf.sweep import launchers, run
from csf.sweep.record import STARTS, Failure, Record

SEEDS = range(8)
EPOCHS = 6
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
RAY = ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")
SUBMITIT = ("hydra/launcher=submitit_local",)
LAUNCHERS = {"joblib": JOBLIB, "ray": RAY, "submitit": SUBMITIT}


def needs(launcher: str) -> None:
    """Skip a test where the launcher is not installed, as on a second Python."""
    if not find_spec(f"hydra_plugins.hydra_{launcher}_launcher"):
        pytest.skip(f"hydra-{launcher}-launcher is not installed; sh scripts/test.sh -m long installs it")


class Sweep:
    """`python -m csf.train -m`, whose runs are folders named by their seed."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log = folder / "log"
        settings = [*TINY, f"exp_dir={folder}", "run_name=sd${seed}", "-m", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
        with self.log.open("w") as log:
            line = [sys.executable, "-m", "csf.train", *settings]
            self.process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=log, stderr=log)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait(self) -> int:
        try:
            return self.process.wait(5 * SECONDS)  # eight jobs that start at once take minutes on two cores
        finally:
            self.process.kill()

    def wait_for_epoch(self, folder: Path, epoch: int) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.said
            return reached(folder) >= epoch

        until(there, self.said)


def below(process: int) -> list[int]:
    """All processes that a process has started, directly or not."""
    of = parents()
    found = [process]
    for each in found:
        found += [child for child, parent in of.items() if parent == each]
    return found[1:]


def running(process: int, title: bytes) -> list[int]:
    """Those of them with these words in the command line."""
    found = []
    for each in below(process):
        with suppress(OSError):
            if title in Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" "):
                found.append(each)
    return found


def numbers(folder: Path) -> list[dict[str, float]]:
    """What a run has measured, except for its speed."""
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows(folder)]


def learned(folder: Path) -> Any:
    state = checkpoint.load(folder / "checkpoints" / checkpoint.FULL.format(EPOCHS))
    return {name: part for name, part in state["parts"].items() if name not in ("logger", "replay")}


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of single runs."""
    folder = tmp_path_factory.mktemp("single")
    for seed in SEEDS:
        child = train(folder / f"sd{seed}", f"task.epochs={EPOCHS}", f"seed={seed}")
        assert child.wait() == 0, child.said
    return folder


@pytest.mark.long
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_has_the_numbers_of_single_runs(launcher: str, single: Path, tmp_path: Path) -> None:
    needs(launcher)
    sweep = Sweep(tmp_path, *LAUNCHERS[launcher], "seed=range(0,8)", f"task.epochs={EPOCHS}")
    assert sweep.wait() == 0, sweep.said
    for seed in SEEDS:
        one, other = single / f"sd{seed}", tmp_path / f"sd{seed}"
        assert len(numbers(one)) == EPOCHS + 1
        assert numbers(one) == numbers(other)
        assert different(learned(one), learned(other)) == []
    assert not (tmp_path / ".sweep").exists()


@pytest.fixture
def cluster() -> Iterator[tuple[int, str]]:
    """A Ray cluster on this machine that outlives sweeps: the process that started it, and its address."""
    needs("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    line += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--object-store-memory=80000000"]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(line, env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process.pid, f"127.0.0.1:{port}"
    started = below(process.pid)
    process.terminate()
    process.wait(SECONDS)
    for each in started:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


@pytest.mark.long
def test_on_a_cluster_a_job_fails_a_worker_is_killed_and_the_sweep_finishes(
    cluster: tuple[int, str], tmp_path: Path
) -> None:
    process, address = cluster
    until(lambda: bool(running(process, b"raylet/raylet")), "no raylet")
    words = ["seed=0,1,2,3", "task.epochs=400", "task.save_every=20"]
    (tmp_path / "sd2").write_text("a file where the folder of a run should be")
    sweep = Sweep(tmp_path, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}", *words)
    sweep.wait_for_epoch(tmp_path / "sd0", 40)
    workers = running(process, b"ray::_run_job")
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    os.kill(workers[1], signal.SIGTERM)
    assert sweep.wait() == 1, sweep.said
    for seed in (0, 1, 3):
        assert reached(tmp_path / f"sd{seed}") == 400, sweep.said
    assert sweep.said.count("resuming after epoch") == 2, sweep.said
    assert "SIGTERM: saved after epoch" in sweep.said
    lines = sweep.said.splitlines()
    listed = lines.index("1 of the sweep's jobs failed; the same command tries again, and resumes what has begun:")
    assert lines[listed + 1].startswith(f"  {tmp_path / 'sd2'}: cannot use the run folder"), lines[listed + 1]


@pytest.mark.long
def test_a_job_that_is_preempted_goes_back_to_the_queue_and_resumes(tmp_path: Path) -> None:
    """submitit's signal; a job on Slurm receives SIGTERM before it, or a second one after it."""
    needs("submitit")
    sweep = Sweep(tmp_path, *SUBMITIT, "seed=0,1", "task.epochs=1500", "task.save_every=1500")
    sweep.wait_for_epoch(tmp_path / "sd0", 10)
    sweep.wait_for_epoch(tmp_path / "sd1", 10)
    jobs = running(sweep.process.pid, b"submitit.core._submit")
    assert len(jobs) == 2
    for job in jobs:
        os.kill(job, signal.SIGTERM)
        os.kill(job, signal.SIGUSR2)
    assert sweep.wait() == 0, sweep.said
    logs = "".join(path.read_text() for path in (tmp_path / ".submitit").glob("*/*.err"))
    assert logs.count("saved after epoch") == 2, logs
    assert logs.count("resuming after epoch") == 2, logs
    assert logs.count("finished: 1500 epochs") == 2, logs


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["ray", "submitit"])
def test_a_signal_to_the_sweep_stops_jobs_elsewhere_and_the_same_command_resumes(launcher: str, tmp_path: Path) -> None:
    needs(launcher)
    sweep = Sweep(tmp_path, *LAUNCHERS[launcher], "seed=0,1", *NEVER)
    for seed in (0, 1):
        sweep.wait_for_epoch(tmp_path / f"sd{seed}", 1)
    started = below(sweep.process.pid)
    sweep.process.send_signal(signal.SIGTERM)
    assert sweep.wait() == 128 + signal.SIGTERM, sweep.said
    until(lambda: not set(started) & set(parents()), "a process is left")
    assert "SIGTERM: the sweep is stopped; the same command resumes it" in sweep.said.splitlines()
    assert not (tmp_path / ".sweep").exists()
    last = [reached(tmp_path / f"sd{seed}") for seed in (0, 1)]
    for seed in (0, 1):
        assert (tmp_path / f"sd{seed}" / "checkpoints" / f"epoch_{last[seed]:06d}.pt").is_file()
    again = Sweep(tmp_path, *LAUNCHERS[launcher], "seed=0,1", f"task.epochs={max(last) + 1}")
    assert again.wait() == 0, again.said
    assert [reached(tmp_path / f"sd{seed}") for seed in (0, 1)] == [max(last) + 1] * 2


# ---- what needs no launcher


def test_a_launcher_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launchers.PLUGINS, "ray", "hydra_absent_launcher")
    monkeypatch.setattr(sys, "argv", ["csf.train", "-m", "seed=0,1", "env=point", "hydra/launcher=ray"])
    with pytest.raises(SystemExit, match=r"^error: hydra-absent-launcher is not installed: pip install 'csf-skills\["):
        program.main()


def test_a_search_whose_trials_all_failed_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def launch() -> None:
        raise ValueError("No trials are completed yet.")  # of Optuna, at the end

    monkeypatch.setattr(launchers, "PLUGINS", {})
    with pytest.raises(ValueError, match="No trials"):
        run(launch, ["hydra/sweeper=optuna"], tmp_path)
    monkeypatch.setattr(Record, "failures", lambda _: [Failure("exp/a", "a full disk")])
    with pytest.raises(SystemExit):
        run(launch, ["hydra/sweeper=optuna"], tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: the search has no best values, since every trial failed"
    assert said[-1] == "  exp/a: a full disk"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "seed=0,1", "run_name=same"], r"run_name is 'same' whatever seed is.*; accepted: one with \$\{seed\}"),
        (["-m", "seed=0,x"], "seed: Value 'x' "),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib is for the jobs of a sweep: add -m"),
        (
            ["-m", "hydra/launcher=foo"],
            r"In 'hydra/config': Could not find 'hydra/launcher/foo' Available options in .*: basic joblib[^\n]*$",
        ),
        (["-m", "hydra/launcher=joblib", "hydra.launcher.n_job=2"], r".* is not known; .* \(did you mean 'n_jobs'\?\)"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line_before_the_first_job(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["csf.train", "env=point", f"exp_dir={tmp_path}", *words])
    with pytest.raises(SystemExit, match=f"^error: {said}"):
        program.main()
    assert not any(tmp_path.iterdir())


def test_a_search_needs_an_objective(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launchers, "PLUGINS", {})
    words = ["env=point", f"exp_dir={tmp_path}", "agent.lr=interval(0.1,0.2)", "hydra/sweeper=optuna", "-m"]
    monkeypatch.setattr(sys, "argv", ["csf.train", *words])
    with pytest.raises(SystemExit, match=r"^error: a search needs objective=METRIC"):
        program.main()


@pytest.mark.parametrize(
    ("words", "added"),
    [
        ([], []),
        (["hydra/launcher=custom"], []),
        (
            ["hydra/launcher=ray"],
            ["remote.max_retries=-1", "init.address=local", "init.include_dashboard=false"],
        ),
        (
            ["hydra/launcher=ray", "hydra.launcher.ray.init.address=auto", "+hydra.launcher.ray.remote.max_retries=0"],
            ["init.object_store_memory=null"],
        ),
    ],
)
def test_settings_of_a_launcher_are_added_unless_they_are_given(
    words: list[str], added: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "PLUGINS", {})
    monkeypatch.setenv("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert [word.lstrip("+").removeprefix("hydra.launcher.ray.") for word in launchers.settings(words)] == added


def test_jobs_of_submitit_local_which_all_start_at_once_have_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "PLUGINS", {})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "+hydra.job.env_set.OMP_NUM_THREADS=1" in launchers.settings(SUBMITIT)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert launchers.settings(SUBMITIT) == ["hydra.launcher.timeout_min=525600"]


def test_what_jobs_tell_their_sweep(tmp_path: Path) -> None:
    record = Record.new(tmp_path)
    record.note_failure(7, Failure("exp/b", "a full disk"))
    record.note_failure(2, Failure("exp/a", "1 / 0"))
    assert record.failures() == [Failure("exp/a", "1 / 0"), Failure("exp/b", "a full disk")]
    assert [record.starts(3) for _ in range(STARTS)] == [1, 2, 3, 4, 5]
    record.ended(3)
    assert record.starts(3) == 1
    record.tell_to_stop()
    assert record.stop.exists()
    record.delete()
    assert list(tmp_path.iterdir()) == []


# ---- a job of Slurm without submitit


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts scripts/sweep/sbatch.sh with a command as Slurm does, with an scontrol that notes its arguments."""
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/scontrol.log\n')
    scontrol.chmod(0o755)
    environment = {**os.environ, "PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "42"}
    started: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        line = ["sh", str(ROOT / "scripts/sweep/sbatch.sh"), *command]
        started.append(subprocess.Popen(line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()


REQUEUED = "csf: USR1: job 42 goes back to the queue\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "said", "asked"),
    [(signal.SIGUSR1, 0, REQUEUED, "requeue 42\n"), (signal.SIGTERM, 143, "", None)],
    ids=["time is over", "scancel"],
)
def test_a_job_goes_back_to_the_queue_at_the_signal_before_its_end_alone(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: int, code: int, said: str, asked: str | None
) -> None:
    words = [*TINY, f"exp_dir={tmp_path}", "run_name=run"]
    job = slurm(sys.executable, "-m", "csf.train", *words, *NEVER)
    until(lambda: reached(tmp_path / "run") >= 1, "no epoch")
    job.send_signal(number)
    _, heard = job.communicate(timeout=SECONDS)
    assert job.returncode == code, heard
    log = tmp_path / "scontrol.log"
    assert (log.read_text() if log.exists() else None) == asked
    assert heard.endswith(said)
    saved = reached(tmp_path / "run")
    assert f"{signal.Signals(number).name}: saved after epoch {saved}; the same command resumes the run" in heard
    if asked:  # Slurm starts the same script again
        again = slurm(sys.executable, "-m", "csf.train", *words, f"task.epochs={saved + 1}")
        _, heard = again.communicate(timeout=SECONDS)
        assert again.returncode == 0
        assert f"resuming after epoch {saved}" in heard


@pytest.mark.parametrize(
    ("name", "code", "queued"),
    [("USR1", 138, True), ("USR2", 140, True), ("USR1", 0, False), ("USR1", 3, False), ("TERM", 143, False)],
)
def test_only_a_job_that_left_at_the_signal_is_queued_again(
    slurm: Callable[..., subprocess.Popen[str]], tmp_path: Path, name: str, code: int, queued: bool
) -> None:
    job = slurm("sh", "-c", f"trap 'exit {code}' {name}; touch {tmp_path}/ready; while :; do sleep 0.05; done")
    until((tmp_path / "ready").exists, "not started")
    job.send_signal(signal.Signals[f"SIG{name}"])
    assert job.wait(SECONDS) == (0 if queued else code)
    assert (tmp_path / "scontrol.log").exists() == queued
