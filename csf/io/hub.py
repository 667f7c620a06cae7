"""Downloads and uploads exported folders of the Hugging Face hub, with the optional package huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csf.errors import CheckpointError, optional
from csf.io import files

PREFIX = "hf://"
FILES = ("*.safetensors", "config.yaml", "eval*.json")  # the only files that are downloaded
NAME = r"[\w.-]+/[\w.-]+"


def download(address: str, policy: str) -> Path:
    """Download a folder from the hub and return the path of its policy file.

    Args:
        address: hf://USER/NAME, or hf://USER/NAME@REVISION.
        policy: name of the policy file.

    Raises:
        CheckpointError: if the address is malformed, the folder cannot be downloaded or has no policy, or a file in
            it links out of the folder.
        MissingDependency: if huggingface_hub is not installed.
    """
    named = re.fullmatch(rf"{PREFIX}({NAME})(?:@([\w./-]+))?", address)
    if named is None:
        raise CheckpointError(f"{address} is not understood; accepted: hf://USER/NAME, hf://USER/NAME@REVISION")
    client = _client(address)
    try:
        folder = Path(client.snapshot_download(named[1], revision=named[2], allow_patterns=list(FILES)))
    except Exception as error:  # network, hub or disk
        raise CheckpointError(f"cannot download {address}: {files.reason_of(error)}") from error
    for path in files.walk(folder, "*"):
        _check_inside(path, folder)
    if not (folder / policy).is_file():
        raise CheckpointError(f"{address} has no {policy}; accepted: a folder that csf export wrote")
    return folder / policy


def upload(folder: Path, names: Sequence[str], target: str) -> str:
    """Upload files of a folder to a repository on the hub, which is created if needed, and return its web address.

    Args:
        folder: folder of the files.
        names: names of the files; no others are sent.
        target: USER/NAME.

    Raises:
        CheckpointError: if the upload fails.
        MissingDependency: if huggingface_hub is not installed.
    """
    client = _client(f"push={target}")
    try:
        api = client.HfApi()
        api.create_repo(target, exist_ok=True)
        api.upload_folder(
            repo_id=target,
            folder_path=str(folder),
            allow_patterns=list(names),
            commit_message="Policy of csf",
        )
    except Exception as error:  # network or hub
        reason = files.reason_of(error)
        raise CheckpointError(f"cannot upload {folder} to {target}: {reason}. To log in: hf auth login") from error
    return f"https://huggingface.co/{target}"


def check_target(target: str) -> None:
    """Check a target before any file is written.

    Raises:
        CheckpointError: if it is not USER/NAME.
        MissingDependency: if huggingface_hub is not installed.
    """
    if not re.fullmatch(NAME, target):
        raise CheckpointError(f"push={target} is not understood; accepted: push=USER/NAME")
    _client(f"push={target}")


def _client(what: str) -> Any:
    return optional("huggingface_hub", f"{what} needs the package huggingface_hub: pip install huggingface_hub")


def _check_inside(path: Path, folder: Path) -> None:
    """Refuse links out of the folder; in the hub's cache, files are links to REPOSITORY/blobs."""
    if path.is_symlink() and not path.exists():  # a circle, or nothing
        raise CheckpointError(f"{path} is a link that leads nowhere; it is not read")
    cached = folder.parent.name == "snapshots"
    allowed = [folder.resolve(), *([folder.parents[1].resolve() / "blobs"] if cached else [])]
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise CheckpointError(f"{path} is a link out of the downloaded folder, to {path.resolve()}; it is not read")
