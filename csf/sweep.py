"""The jobs of a sweep: they run in one of Hydra's launchers and all stop when the sweep is signalled."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from csf.core import signals
from csf.errors import ConfigError, CsfError

JOBLIB = "hydra/launcher=joblib"
# Starting one of these processes, which workers share, unblocks signals: they must run before the first worker starts.
TRACKERS = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
KILLED = "error: a process of the sweep was killed, and joblib ended the others; the same command resumes it"


def run(launch: Callable[[], object], words: Sequence[str]) -> None:
    """Run a sweep: `launch` hands it to Hydra, `words` are the command's arguments.

    Raises:
        ConfigError: the launcher cannot run so many jobs.
        SystemExit: the sweep was stopped by a signal (128 + signal), or a job failed (1).
    """
    if "hydra.launcher.n_jobs=0" in words:
        raise ConfigError("hydra.launcher.n_jobs is 0; accepted: a positive number, or -1 for one job per core")
    if JOBLIB in words:
        # Killed workers leave semaphores to the trackers, which remove them and would warn.
        ignored = [*filter(None, [os.environ.get("PYTHONWARNINGS")]), "ignore:resource_tracker"]
        os.environ["PYTHONWARNINGS"] = ",".join(ignored)
        for name in TRACKERS:
            with suppress(ModuleNotFoundError):  # Hydra says that the launcher is not installed
                importlib.import_module(name).ensure_running()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
    error = ""
    with signals.relaying() as stop:
        try:
            launch()
        except CompactHydraException as failed:
            lines = [failed, failed.__cause__] if isinstance(failed.__cause__, OmegaConfBaseException) else [failed]
            error = "\n".join(map(str, lines))
        except BrokenProcessPool:
            error = KILLED
    if error:
        sys.stderr.write(f"{error}\n")
    if stop.signal is not None:
        sys.stderr.write(f"{stop.reason}: the sweep is stopped; the same command resumes it\n")
        sys.exit(128 + stop.signal)
    if error:
        sys.exit(1)


def job(train: Callable[[], int], folder: Path) -> int:
    """Run one job and return its exit code; after a signal, later jobs in this process are not started.

    An error reaches Hydra as its own exception, which is printed without traceback after the other jobs. No other
    exception than ordinary ones may leave a worker: joblib would kill its siblings.
    """
    signals.join_sweep()
    try:
        with signals.listening() as stop:
            if stop.asked():
                with suppress(OSError):  # Hydra has made the folder; one that is in use is not empty
                    os.removedirs(folder)
                return 0
            return train()
    except CsfError as error:
        raise CompactHydraException(f"error: {error}") from error
    except Exception as error:
        if signals.in_worker():  # joblib sends errors without their tracebacks
            error.add_note(f"In the process of the job:\n{traceback.format_exc()}")
        raise
    finally:
        signals.leave_sweep()


def each(work: Callable[[int], int], count: int, folder: Path, words: Sequence[str]) -> None:
    """Call work(0), ..., work(count - 1), each as one job of a sweep.

    Args:
        work: returns an exit code; a function of a module or a `partial` of one, since launchers pickle it.
        count: number of jobs.
        folder: where Hydra keeps its file of the sweep.
        words: settings of Hydra, such as hydra/launcher=joblib; without any, the jobs run one after another.

    Raises:
        ConfigError, SystemExit: as `run`.
    """
    if not count:
        return

    @hydra.main(version_base="1.3", config_path=None, config_name=None)
    def launch(tree: DictConfig) -> int:
        return job(lambda: _apart(work, tree.job), Path(HydraConfig.get().runtime.output_dir))

    place = QuotedString(str(folder), Quote.single).with_quotes()
    fixed = [f"hydra.sweep.dir={place}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
    fixed += ["hydra/job_logging=none", "hydra/hydra_logging=none"]
    numbers = ",".join(map(str, range(count)))
    before = sys.argv
    sys.argv = [before[0], "-m", f"+job={numbers}", *fixed, *words]  # Hydra reads its arguments from there only
    try:
        run(launch, words)
    finally:
        sys.argv = before


def _apart(work: Callable[[int], int], number: int) -> int:
    """Call work(number), which may use Hydra itself."""
    sweeping = GlobalHydra.instance()
    kept, sweeping.hydra = sweeping.hydra, None
    try:
        return work(number)
    finally:
        sweeping.hydra = kept
