"""How the jobs of a sweep run: one after another, or several at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from hydra._internal import core_plugins
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from csf.core import signals

PACKAGE = f"{core_plugins.__name__}.csf"  # Hydra accepts launchers in the packages of plugins alone
PAUSE = 0.05  # seconds between looks at running jobs


class InTurn(BasicLauncher):
    """One job after another in this process; a signal ends the present job, and no other is started."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all jobs and return how they ended."""
        returns: list[JobReturn] = []
        with signals.listening() as stop:
            for index, overrides in enumerate(job_overrides, initial_job_idx):
                if stop.asked():
                    break
                returns += super().launch([overrides], index)
            leave_if_stopped(stop, returns, len(job_overrides))
        return returns


class SideBySide(Launcher):
    """At most `n_jobs` jobs at a time; a signal is passed on to them, and no other is started.

    Each job is a process in a session of its own, so that only this process decides which signals it gets, and a job
    that crashes takes no other with it.
    """

    def __init__(self, n_jobs: int) -> None:
        """-1: one job per core."""
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what jobs share, and divide the cores among them."""
        if not isinstance(self.n_jobs, int) or (self.n_jobs < 1 and self.n_jobs != -1):
            accepted = "a positive number, or -1 for one job per core"
            raise CompactHydraException(f"error: hydra.launcher.n_jobs is {self.n_jobs}; accepted: {accepted}")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.n_jobs = cores if self.n_jobs == -1 else self.n_jobs
        self.config, self.threads = config, max(1, cores // self.n_jobs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run all jobs and return how they ended, in their order."""
        jobs: list[Job] = []
        with signals.listening() as stop:

            def kill() -> None:
                for job in jobs:
                    job.process.kill()

            stop.at_once = kill
            try:
                self._run(job_overrides, jobs, stop)
            finally:
                for job in jobs:
                    job.end(signal.SIGTERM)  # only after an error is one still running
            returns = [job.result(stop.signal is not None) for job in jobs]
            leave_if_stopped(stop, returns, len(job_overrides))
        return returns

    def _run(self, job_overrides: Sequence[Sequence[str]], jobs: list[Job], stop: signals.Stop) -> None:
        """Until all jobs have ended, or those that ran when a signal came."""
        while True:
            running = [job for job in jobs if job.process.poll() is None]
            if stop.asked():
                assert stop.signal is not None
                for job in running:
                    job.end(stop.signal)
            elif len(running) < self.n_jobs and len(jobs) < len(job_overrides):
                jobs.append(Job(job_overrides[len(jobs)], self.config, self.threads))
                continue
            if not running:
                return
            time.sleep(PAUSE)


class Job:
    """A point of a sweep as a process."""

    def __init__(self, overrides: Sequence[str], config: DictConfig, threads: int) -> None:
        """Start it; `threads` are those of a product of matrices unless the environment says otherwise."""
        self.overrides, self.ended = list(overrides), False
        own = ("hydra.launcher", "hydra/launcher", "hydra.sweep", "hydra/sweep", "hydra.mode")
        words = [word for word in config.hydra.overrides.hydra if not word.lstrip("+~").startswith(own)]
        words += [
            f"--config-dir={source.path}"
            for source in config.hydra.runtime.config_sources
            if source.provider == "command-line"
        ]
        environment = {
            "OMP_NUM_THREADS": str(threads),
            **os.environ,
            signals.SWEEP: str(os.getpid()),
            # With -P: what is imported here is imported there. Hooks of editable installs are no paths.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path if os.path.exists(path or ".")),
        }
        line = [sys.executable, "-P", "-m", "csf.train", *self.overrides, *words]
        with signals.blocked():
            self.process = subprocess.Popen(line, env=environment, start_new_session=True)

    def end(self, number: int) -> None:
        """Pass a signal on, once."""
        if not self.ended and self.process.poll() is None:
            self.process.send_signal(number)
            self.ended = True

    def result(self, stopping: bool) -> JobReturn:
        """What Hydra takes for a finished job; while the sweep is `stopping`, to end by a signal is no failure."""
        code, result = self.process.wait(), JobReturn(overrides=self.overrides)
        stopped = stopping and (code - 128 in signals.SIGNALS or -code in signals.SIGNALS)
        result.status = JobStatus.COMPLETED if code == 0 or stopped else JobStatus.FAILED
        result.return_value = code
        if result.status == JobStatus.FAILED:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            result.return_value = CompactHydraException(f"error: the job {how}")
        return result


def leave_if_stopped(stop: signals.Stop, returns: Sequence[JobReturn], jobs: int) -> None:
    """After a signal that kept jobs from their end, tell how many were not started, and exit with 128 + signal."""
    failed = [each for each in returns if each.status == JobStatus.FAILED]
    stopped = any(each.status == JobStatus.COMPLETED and each.return_value for each in returns)
    left = jobs - len(returns)
    if stop.signal is None or not (stopped or left):
        return
    for each in failed:  # as Hydra does at the end of a sweep, which this one does not reach
        try:
            _ = each.return_value
        except CompactHydraException as error:
            sys.stderr.write(f"{error}\n")
    if left:
        sys.stderr.write(f"{stop.reason}: {left} of {jobs} jobs not started; the same command starts them\n")
    sys.exit(128 + stop.signal)


def register() -> None:
    """Put these launchers in the place of Hydra's: `basic`, and `joblib`, whose name and `n_jobs` users know.

    The workers of Hydra's joblib plugin lose what they have trained when they or their parent get a signal.
    """
    plugins, configs = Plugins.instance(), ConfigStore.instance()
    setattr(core_plugins, PACKAGE.rpartition(".")[2], sys.modules[__name__])
    for name, launcher, settings in (("basic", InTurn, {}), ("joblib", SideBySide, {"n_jobs": -1})):
        launcher.__module__ = PACKAGE
        plugins.register(launcher)
        node = {"_target_": f"{PACKAGE}.{launcher.__name__}", **settings}
        configs.store(group="hydra/launcher", name=name, node=node, provider="csf")
