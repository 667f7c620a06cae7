"""Entry point: python -m csf.export RUN DIR makes a folder that can be pushed to a model hub as it is."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from csf.card import card
from csf.errors import CheckpointError, CsfError
from csf.film import film
from csf.hierarchy.pretrained import KEPT
from csf.io import policy
from csf.io.load import about, load
from csf.io.locate import find, run_of

ABOUT = "Make a folder that can be pushed to a model hub as it is: policy, model card, configuration, results, video."
POLICY, CARD, CONFIG, RESULTS, VIDEO = "policy.safetensors", "README.md", "config.yaml", "eval.json", "skills.webm"
SEED = 0  # of the video


def export(run: str, folder: Path, license: str, video: bool) -> list[str]:
    """Write policy, model card, configuration, results and video; returns the files' names.

    Raises:
        CsfError: no such checkpoint, a folder that is not empty or cannot be written, no way to render.
    """
    path = find(run)
    told, agent = about(path), load(path)
    config = told["config"]
    public = config | {"exp_dir": "exp", "cp_path": KEPT if config.get("skills") else None}  # no paths of this machine
    prepare(folder)
    try:
        if video:  # first, since it is what may fail: then the folder is still empty, and can be given again
            film(folder / VIDEO, agent, config, run_of(path), SEED)
        results = copy_results(path, folder) or told.get("results", {})
        facts = {key: told[key] for key in told if key not in ("format", "spec", "prior")}
        policy.save(folder / POLICY, agent, facts | {"config": public})
        (folder / CONFIG).write_text(yaml.safe_dump(public, sort_keys=False))
        if config.get("skills"):
            copy_skills(run_of(path), folder)
        text = card(agent, told, results, license, VIDEO if video else None)
        (folder / CARD).write_text(text)
    except OSError as error:
        raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error
    return sorted(path.name for path in folder.iterdir())


def prepare(folder: Path) -> None:
    """Make the folder.

    Raises:
        CheckpointError: it has content, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty; accepted: a new or an empty folder")
    except OSError as error:
        raise CheckpointError(f"cannot make {folder}: {error.strerror or error}") from error


def copy_results(path: Path, folder: Path) -> Mapping[str, Any] | None:
    """What `csf.evaluate` has found of this very checkpoint, copied; None if it has not been asked.

    Raises:
        CheckpointError: the file is damaged.
    """
    source = path.with_name(RESULTS)
    if not source.is_file():
        return None
    try:
        report = json.loads(source.read_text())
        checkpoint, results = report["checkpoint"], report["results"]
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{source} is not what csf.evaluate writes; run it again, or delete the file") from error
    if checkpoint != path.name:
        return None
    shutil.copyfile(source, folder / RESULTS)
    return dict(results)


def copy_skills(run: Path, folder: Path) -> None:
    """The skills that are a controller's actions.

    Raises:
        CheckpointError: they are not where its run keeps them.
    """
    kept = run / KEPT
    if not kept.is_file():
        raise CheckpointError(f"{kept} is missing, whose skills are this controller's actions; accepted: a whole run")
    told = about(kept)
    public = told["config"] | {"exp_dir": "exp"}
    policy.save(folder / KEPT, load(kept), told | {"config": public, "cp_path": KEPT})


def main() -> None:
    """Read the arguments; a mistake is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m csf.export", description=ABOUT)
    parser.add_argument("run", metavar="RUN", help="a run's folder, a policy file, a full checkpoint, or a pattern")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or an empty folder")
    parser.add_argument("--license", default="mit", help="of the policy, as the hub names it (default: %(default)s)")
    parser.add_argument("--no-video", action="store_true", help="for machines that cannot render")
    words = parser.parse_args()
    try:
        made = export(words.run, words.folder, words.license, not words.no_video)
    except CsfError as error:
        sys.exit(f"error: {error}")
    sys.stderr.write(f"written to {words.folder}: {', '.join(made)}\n")


if __name__ == "__main__":
    main()
