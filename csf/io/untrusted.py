"""Limits of what a file may hold before anything of it is used: a file from elsewhere may be made to exhaust memory."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

MOST = 1_000_000  # entries of nested data
SETTINGS = 10_000  # entries of a configuration
DEEPEST = 100  # levels of nesting
NETWORKS = 20  # times the size of a policy file that all networks of its agent may take, critics and targets included
SMALL = 2**26  # bytes of networks below which this is not checked


def read_yaml(path: Path) -> Any:
    """Read a yaml file of plain data; tags of objects are not accepted.

    Raises:
        ValueError: it is not valid yaml, or repeats its parts by reference until there are too many.
        OSError: it cannot be read.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, RecursionError) as error:  # a date that does not exist is a ValueError already
        raise ValueError(str(error)) from error
    check_plain(found, SETTINGS)
    return found


def parse_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is not valid, or nested too deeply.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def load_tensors(path: Path, verify: bool = True) -> Any:
    """Read a file of `torch.save` without executing code from it; with `verify`, also check its checksums.

    Raises:
        Exception: it is not such a file; arbitrary bytes can raise any error.
    """
    with zipfile.ZipFile(path) as archive:
        check_zip(archive, path.stat().st_size)
        if verify and (damaged := archive.testzip()):  # PyTorch does not verify checksums
            raise zipfile.BadZipFile(f"{damaged} is damaged")
    found = torch.load(path, map_location="cpu", weights_only=True)
    check_plain(found)
    return found


def check_networks(make: Callable[[], nn.Module], size: int) -> None:
    """Check that networks fit to the size of the file that describes them, in bytes, without allocating them.

    Raises:
        ValueError: they are far larger.
    """
    with torch.device("meta"):
        tensors = make().state_dict().values()
    needed = sum(each.numel() * each.element_size() for each in tensors)
    if needed > max(NETWORKS * size, SMALL):
        raise ValueError(f"its networks would take {needed / 1e9:.3g} GB, the file has {size / 1e6:.3g} MB of them")


def check_plain(tree: Any, most: int = MOST) -> None:
    """Check that nested data has a limited number of entries, and that no tensor has more numbers than were stored.

    References to one list or mapping from many places are counted at each, as a program that walks the data would.

    Raises:
        ValueError: there are more entries or levels, or a tensor is larger than what is stored of it.
    """
    count, waiting = 0, [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > most or depth > DEEPEST:
            raise ValueError(f"it has more than {most:,} entries or {DEEPEST} levels")
        if isinstance(node, Tensor):
            if node.numel() * node.element_size() > node.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(node.shape)} is larger than what is stored of it")
        elif isinstance(node, Mapping):
            waiting.extend((each, depth + 1) for each in node.values())
        elif isinstance(node, list | tuple | set | frozenset):
            waiting.extend((each, depth + 1) for each in node)


def check_zip(archive: zipfile.ZipFile, size: int) -> None:
    """Check that the files in an archive are stored as they are, as PyTorch does, and fit into its size in bytes.

    Raises:
        BadZipFile: one is compressed, or they are larger than the archive, since some share their bytes.
    """
    members = archive.infolist()
    if any(each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size for each in members):
        raise zipfile.BadZipFile("its content is compressed")
    if sum(each.file_size for each in members) > size:
        raise zipfile.BadZipFile("its content is larger than the file")
