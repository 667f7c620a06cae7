"""Names of run folders, which list the settings that differ from the chosen groups."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from csf.io import packaged

# Maximum length of the settings in a folder's name, in bytes: file systems allow 255, including the method's name.
LIMIT = 200
DIGEST = 10  # hexadecimal digits

CHECKPOINT = re.compile(r"(?:policy|epoch)_0*(\d+)\.\w+")


def variant(changed: Mapping[str, Any]) -> str:
    """Format changed settings, the agent's by their short names: "-lr=0.001-task.batch_size=16".

    Args:
        changed: values by path, such as "agent.lr".
    """
    agent = {key.removeprefix("agent."): value for key, value in changed.items() if key.startswith("agent.")}
    others = {key: value for key, value in changed.items() if not key.startswith("agent.")}
    pairs = [*sorted(agent.items()), *sorted(others.items())]
    return shortened("".join(f"-{key}={_spelt(value)}" for key, value in pairs))


def shortened(text: str) -> str:
    """Return the text; if it is longer than `LIMIT`, its beginning and a hash of the whole text."""
    whole = text.encode()
    if len(whole) <= LIMIT:
        return text
    digest = hashlib.sha256(whole).hexdigest()[:DIGEST]
    return f"{whole[: LIMIT - DIGEST - 1].decode(errors='ignore')}-{digest}"


def folder(env: object) -> str:
    """Return the name of an environment as that of one folder: "module:space/Id-v0" becomes "module_space_Id-v0"."""
    return re.sub(r"[/:]", "_", str(env))


def skills_run(cp_path: str, exp_dir: Path, method: str) -> str:
    """Return a short name of the run that `cp_path` names, with the epoch if it names a file: "sd000@100".

    If the run is not in `exp_dir`/pretrain/ENVIRONMENT/`method`, a hash of its path is added, so that runs with the
    same seed have different names. Only the path is used: the name must not change when that run trains further.
    """
    if packaged.is_address(cp_path):
        return cp_path.replace(":", "_")
    path = Path(os.path.abspath(os.path.expanduser(cp_path)))
    file = CHECKPOINT.fullmatch(path.name)
    run = path.parent if file else path
    run = run.parent if run.name == "checkpoints" else run
    place = os.path.relpath(run, os.path.abspath(exp_dir))
    epoch = f"@{file[1]}" if file else ""
    if re.fullmatch(rf"pretrain/[^/]+/{re.escape(method)}/[^/]+", place):
        return run.name + epoch
    name = re.sub(r"[*?]", "_", run.name)  # wildcards of a pattern
    return f"{name}{epoch}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:DIGEST]}"


def _spelt(value: Any) -> str:
    """Format a value as on the command line, with slashes replaced."""
    if isinstance(value, list):
        return f"[{','.join(map(_spelt, value))}]"
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    return text.replace("/", "_")
