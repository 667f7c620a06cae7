"""Folders of policies on the Hugging Face hub: download and upload. The package huggingface_hub is optional."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csf.errors import CheckpointError, MissingDependency
from csf.io import files

PREFIX = "hf://"
FILES = ("*.safetensors", "config.yaml", "eval*.json")  # of a folder on the hub, all that is downloaded
NAME = r"[\w.-]+/[\w.-]+"


def download(address: str, policy: str) -> Path:
    """Download a folder from the hub and return the path of its policy file.

    Args:
        address: hf://USER/NAME, or hf://USER/NAME@REVISION.
        policy: the name of the policy file.

    Raises:
        CheckpointError: another address, a folder that cannot be downloaded or has no policy, or a file in it that
            is a link to elsewhere.
        MissingDependency: huggingface_hub is not installed.
    """
    named = re.fullmatch(rf"{PREFIX}({NAME})(?:@([\w./-]+))?", address)
    if named is None:
        raise CheckpointError(f"{address} is not understood; accepted: hf://USER/NAME, hf://USER/NAME@REVISION")
    client = _client(address)
    try:
        folder = Path(client.snapshot_download(named[1], revision=named[2], allow_patterns=list(FILES)))
    except Exception as error:  # of the network, the hub or the disk
        raise CheckpointError(f"cannot download {address}: {files.reason_of(error)}") from error
    for path in files.walk(folder, "*"):
        _check_inside(path, folder)
    if not (folder / policy).is_file():
        raise CheckpointError(f"{address} has no {policy}, which csf.export writes")
    return folder / policy


def upload(folder: Path, names: Sequence[str], target: str) -> str:
    """Upload files of a folder to the hub, where it is made if it is not there; returns its address on the web.

    Args:
        folder: where the files are.
        names: of the files; nothing else is sent.
        target: USER/NAME.

    Raises:
        CheckpointError: it cannot be uploaded.
        MissingDependency: huggingface_hub is not installed.
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
    except Exception as error:  # of the network or the hub
        reason = files.reason_of(error)
        raise CheckpointError(f"cannot upload {folder} to {target}: {reason}. To log in: hf auth login") from error
    return f"https://huggingface.co/{target}"


def check_target(target: str) -> None:
    """Refuse what cannot be pushed to, before anything is made.

    Raises:
        CheckpointError: it is not USER/NAME.
        MissingDependency: huggingface_hub is not installed.
    """
    if not re.fullmatch(NAME, target):
        raise CheckpointError(f"push={target} is not understood; accepted: push=USER/NAME")
    _client(f"push={target}")


def _client(what: str) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependency(f"{what} needs the package huggingface_hub: pip install huggingface_hub") from error
    return huggingface_hub


def _check_inside(path: Path, folder: Path) -> None:
    """Refuse a link out of the folder; in the hub's cache, files are links to REPOSITORY/blobs."""
    cached = folder.parent.name == "snapshots"
    allowed = [folder.resolve(), *([folder.parents[1].resolve() / "blobs"] if cached else [])]
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise CheckpointError(f"{path} is a link out of the downloaded folder, to {path.resolve()}: it is not read")
