"""Reference returns of a task, and scores that are normalized by them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from csf.config.names import folder
from csf.config.schema import ADAPT
from csf.errors import ConfigError

RESULT = "adaptation.json"  # in the folder of a finished run of csf adapt


def expert_return(given: str | None, exp_dir: Path, env: str) -> float | None:
    """Return of an expert; None if no expert is known.

    Args:
        given: a number, the folder of a run of csf adapt, or its adaptation.json; None: mean of the runs of
            method=expert on this environment in `exp_dir`.
        exp_dir: folder of all runs.
        env: name of the environment.

    Raises:
        ConfigError: `given` is none of these.
    """
    if given is None:
        return reference(exp_dir, env, "expert")
    try:
        return float(given)
    except ValueError:
        path = Path(given).expanduser()
    path = path / RESULT if path.is_dir() else path
    try:
        return float(json.loads(path.read_text())["return_after"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"task.expert is {given}; accepted: a number, or the folder of a finished run of csf adapt"
        ) from error


def reference(exp_dir: Path, env: str, method: str, steps: int | None = None) -> float | None:
    """Mean return of the finished reference runs of a method, "scratch" or "expert", on an environment.

    Args:
        exp_dir: folder of all runs.
        env: name of the environment.
        method: value of `method`.
        steps: only runs with this number of environment steps count; None: all.
    """
    found = []
    for path in sorted((exp_dir / ADAPT / folder(env)).glob(f"{method}*/*/{RESULT}")):
        try:
            result: dict[str, Any] = json.loads(path.read_text())
            if (result["env"], result["method"]) == (env, method) and steps in (None, result["steps"]):
                found.append(float(result["return_after"]))
        except (OSError, ValueError, LookupError, TypeError):  # being written, or of another version
            continue
    return statistics.fmean(found) if found else None


def normalized(score: float, random: float, expert: float | None) -> float | None:
    """(score - random) / (expert - random); None without an expert, or with one that is as good as random actions."""
    if expert is None or expert == random:
        return None
    return (score - random) / (expert - random)
