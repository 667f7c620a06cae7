"""The jobs of a sweep: they run in one of Hydra's launchers and all stop when the sweep is signalled."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from csf.config.compose import explain
from csf.core import signals
from csf.errors import CsfError
from csf.sweep import launchers
from csf.sweep.record import FOLDER, STARTS, Failure, Record

# Starting one of these processes, which workers share, unblocks signals: they must run before the first worker starts.
TRACKERS = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
KILLED = "error: a process of the sweep was killed, and joblib ended the others; the same command resumes it"
RESUMES = "the same command tries again, and resumes what has begun"
FOREIGN = ("submitit", "ray")  # packages of launchers with errors of their own


def run(launch: Callable[[], object], words: Sequence[str], place: Path) -> None:
    """Run a sweep. Failed jobs do not end it, and are listed at its end.

    Args:
        launch: hands the sweep in sys.argv to Hydra.
        words: the command's arguments.
        place: folder that all jobs write to.

    Raises:
        CsfError: the launcher is not installed, or cannot run so many jobs.
        SystemExit: the sweep was stopped by a signal (128 + signal), or a job failed (1).
    """
    launchers.check(words)
    record = Record.new(place)
    settings = [f"+hydra.job.env_set.{FOLDER}={quoted(record.folder)}", *launchers.settings(words)]
    settings += [f"hydra.sweep.dir={quoted(place.absolute())}"]
    if "joblib" in launchers.chosen(words):
        _start_trackers()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    with signals.relaying(record.tell_to_stop) as stop, _arguments([*settings, *words]):
        error = _launched(launch, words, record)
    if "joblib" in launchers.chosen(words):
        _end_workers()
    failures = record.failures()
    if failures:
        lines = [f"{len(failures)} of the sweep's jobs failed; {RESUMES}:"]
        lines += [f"  {each.label}: {each.error}" for each in failures]
        error = "\n".join(filter(None, [error, *lines]))
    if error:
        sys.stderr.write(f"{error}\n")
    record.delete()
    if stop.signal is not None:
        sys.stderr.write(f"{stop.reason}: the sweep is stopped; the same command resumes it\n")
        sys.exit(128 + stop.signal)
    if error:
        sys.exit(1)


def _launched(launch: Callable[[], object], words: Sequence[str], record: Record) -> str:
    """Call `launch`; returns what ended it early, if it is not the program's mistake, and otherwise nothing."""
    try:
        launch()
    except CompactHydraException as failed:
        cause = failed.__cause__
        said = f"{failed}\n{cause}" if isinstance(cause, OmegaConfBaseException) else str(failed)
        return f"error: {explain(said, words)}"
    except BrokenProcessPool:
        return KILLED
    except ValueError:
        if "optuna" not in launchers.chosen(words) or not record.failures():
            raise
        return "error: the search has no best values, since every trial failed"
    except Exception as failed:
        if type(failed).__module__.partition(".")[0] not in FOREIGN:
            raise
        return f"error: a job ended without a result: {str(failed).strip().splitlines()[0]}; {RESUMES}"
    return ""


def quoted(path: Path) -> str:
    """A path as a literal value of a setting."""
    return QuotedString(str(path), Quote.single).with_quotes()


def _start_trackers() -> None:
    # Killed workers leave semaphores to the trackers, which remove them and would warn.
    ignored = [*filter(None, [os.environ.get("PYTHONWARNINGS")]), "ignore:resource_tracker"]
    os.environ["PYTHONWARNINGS"] = ",".join(ignored)
    for name in TRACKERS:
        importlib.import_module(name).ensure_running()


def _end_workers() -> None:
    """End joblib's idle workers, which would wait for further work for five minutes and hold their memory."""
    loky = importlib.import_module("joblib.externals.loky")
    loky.get_reusable_executor().shutdown(wait=True)


@contextmanager
def _arguments(words: Sequence[str]) -> Iterator[None]:
    """Replace the program's arguments: Hydra reads its own from there only."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def job(work: Callable[[], int], folder: Path, label: str) -> int | None:
    """Run one job and return its exit code; after a signal, later jobs are not started.

    An error of the user's or the program's is printed, and listed at the end of the sweep; None is returned then. An
    exception that left a worker would end its siblings.

    Args:
        work: does it; returns an exit code.
        folder: folder of the sweep, which Hydra has made.
        label: name of the job in messages, such as the folder of its run.
    """
    hydra_cfg = HydraConfig.get()
    record, number = Record.of_job(), int(hydra_cfg.job.num)
    signals.join_sweep(record.stop)
    try:
        with signals.listening() as stop:
            if stop.asked():
                with suppress(OSError):  # one that is in use is not empty
                    os.removedirs(folder)
                return None
            if signals.elsewhere():
                os.chdir(hydra_cfg.runtime.cwd)  # relative paths are meant from there
                if hydra_cfg.runtime.choices["hydra/launcher"] == "ray" and record.starts(number) > STARTS:
                    raise CsfError(f"was killed {STARTS} times, perhaps because memory ran out")
            code = work()
            record.ended(number)
            if code and signals.elsewhere() and stop.received:
                signals.hand_on(stop)
                sys.exit(code)
            return code
    except CsfError as error:
        _fail(record, number, Failure(label, str(error)))
    except Exception as error:
        sys.stderr.write(traceback.format_exc())
        _fail(record, number, Failure(label, f"{type(error).__name__}: {error}"))
    finally:
        signals.leave_sweep()
    return None


def _fail(record: Record, number: int, failure: Failure) -> None:
    sys.stderr.write(f"error: {failure.label}: {failure.error}\n")
    record.note_failure(number, failure)
    record.ended(number)


def each(
    work: Callable[[int], int], count: int, folder: Path, words: Sequence[str], labels: Sequence[str] | None = None
) -> None:
    """Call work(0), ..., work(count - 1), each as one job of a sweep.

    Args:
        work: returns an exit code; a function of a module or a `partial` of one, since launchers pickle it.
        count: number of jobs.
        folder: where Hydra keeps its file of the sweep.
        words: settings of Hydra, such as hydra/launcher=joblib; without any, the jobs run one after another.
        labels: names of the jobs in messages; None: their numbers.

    Raises:
        CsfError, SystemExit: as `run`.
    """
    if not count:
        return

    @hydra.main(version_base="1.3", config_path=None, config_name=None)
    def launch(tree: DictConfig) -> int | None:
        place = Path(HydraConfig.get().runtime.output_dir)
        label = labels[tree.job] if labels else f"job {tree.job}"
        return job(lambda: _apart(work, tree.job), place, label)

    fixed = ["hydra.sweep.subdir=.", "hydra.output_subdir=null"]
    fixed += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    numbers = ",".join(map(str, range(count)))
    run(launch, [f"+job={numbers}", *fixed, *words, "-m"], folder)


def _apart(work: Callable[[int], int], number: int) -> int:
    """Call work(number), which may use Hydra itself."""
    sweeping = GlobalHydra.instance()
    kept, sweeping.hydra = sweeping.hydra, None
    try:
        return work(number)
    finally:
        sweeping.hydra = kept
