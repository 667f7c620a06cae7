"""What a run's folder is called: the settings of its command that differ from what the chosen groups set."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Bytes of a run's settings in the name of a folder: file systems take 255, of which the method has a part.
LIMIT = 200
DIGEST = 10  # hexadecimal digits

CHECKPOINT = re.compile(r"(?:policy|epoch)_0*(\d+)\.\w+")


def variant(changed: Mapping[str, Any]) -> str:
    """'-lr=0.001-task.batch_size=16': changed settings of the agent by their short names, others in full.

    Args:
        changed: values by path, such as "agent.lr".
    """
    agent = {key.removeprefix("agent."): value for key, value in changed.items() if key.startswith("agent.")}
    others = {key: value for key, value in changed.items() if not key.startswith("agent.")}
    pairs = [*sorted(agent.items()), *sorted(others.items())]
    return shortened("".join(f"-{key}={_spelt(value)}" for key, value in pairs))


def shortened(text: str) -> str:
    """The text; if it is longer than `LIMIT`, its beginning with a hash of the whole."""
    whole = text.encode()
    if len(whole) <= LIMIT:
        return text
    digest = hashlib.sha256(whole).hexdigest()[:DIGEST]
    return f"{whole[: LIMIT - DIGEST - 1].decode(errors='ignore')}-{digest}"


def lender(cp_path: str, exp_dir: Path, method: str) -> str:
    """'sd000@100': the run that `cp_path` names and, if it names a file, the epoch.

    A run elsewhere than `exp_dir`/pretrain/ENVIRONMENT/`method` gets a hash of its path besides, so that runs of the
    same seed are told apart. Nothing is looked up: the name must not change when the lender trains on.
    """
    path = Path(os.path.abspath(os.path.expanduser(cp_path)))
    file = CHECKPOINT.fullmatch(path.name)
    run = path.parent if file else path
    run = run.parent if run.name == "checkpoints" else run
    place = os.path.relpath(run, os.path.abspath(exp_dir))
    epoch = f"@{file[1]}" if file else ""
    if re.fullmatch(rf"pretrain/[^/]+/{re.escape(method)}/[^/]+", place):
        return run.name + epoch
    name = re.sub(r"[*?]", "_", run.name)  # of a pattern
    return f"{name}{epoch}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:DIGEST]}"


def _spelt(value: Any) -> str:
    """A value as the command line takes it, without the characters that separate folders."""
    if isinstance(value, list):
        return f"[{','.join(map(_spelt, value))}]"
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    return text.replace("/", "_")
