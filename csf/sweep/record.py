"""The folder through which a sweep and its jobs, perhaps on other machines, tell each other what happened.

It exists only if there is something to tell, and is deleted at the end of the sweep.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = "CSF_SWEEP"  # environment variable of jobs
STARTS = 5  # of a job that is killed each time, as when memory runs out


@dataclass(frozen=True)
class Failure:
    """A job that failed."""

    label: str  # the folder of its run
    error: str  # one line


@dataclass(frozen=True)
class Record:
    """The folder of one sweep."""

    folder: Path

    @classmethod
    def new(cls, place: Path) -> Record:
        """A record below the folder that all jobs write to."""
        return cls(place.absolute() / ".sweep" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")

    @classmethod
    def of_job(cls) -> Record:
        """The record of the sweep that this job belongs to."""
        return cls(Path(os.environ.get(FOLDER, os.devnull)))

    @property
    def stop(self) -> Path:
        """File that exists once the sweep was stopped."""
        return self.folder / "stop"

    def tell_to_stop(self) -> None:
        """Tell all jobs elsewhere to stop."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.stop.touch()

    def note_failure(self, number: int, failure: Failure) -> None:
        """Note that a job failed; the line is lost if the disk is full, but was printed."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{number:06d}.json").write_text(json.dumps([failure.label, failure.error]))

    def failures(self) -> list[Failure]:
        """The jobs that failed, in their order."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            with suppress(OSError, ValueError):
                found.append(Failure(*json.loads(file.read_text())))
        return found

    def starts(self, number: int) -> int:
        """Count a start of a job, and return how often it was started without an end."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._starts(number).open("a") as file:
                file.write(".")
                return file.tell()
        except OSError:
            return 1

    def ended(self, number: int) -> None:
        """Note that a job has ended, or asked its launcher for another start."""
        with suppress(OSError):
            self._starts(number).unlink(missing_ok=True)

    def _starts(self, number: int) -> Path:
        return self.folder / f"{number:06d}.starts"

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other sweeps have theirs there
            self.folder.parent.rmdir()
