"""Policy files: safetensors files with a JSON header that describes the agent, which load without executing code."""

from __future__ import annotations

import dataclasses
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from csf.agents import OWN, Agent, EncoderConfig, objectives
from csf.backbones import backbones
from csf.config.schema import completed, describe_added, from_section
from csf.errors import CheckpointError
from csf.io import files, untrusted
from csf.types import EnvSpec

log = logging.getLogger(__name__)

FORMAT = 1
HEADER = "csf"  # key of the JSON document in the file's metadata
# Errors when the state of another version does not fit the agent.
MISFITS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save(path: Path, agent: Agent, facts: Mapping[str, Any], critics: bool = False) -> None:
    """Write the modules that acting needs, without optimizers.

    Args:
        path: path of the file.
        agent: agent to save.
        facts: plain data for the header, including "config".
        critics: whether to write all modules, including the critics, for fine-tuning.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    state = agent.state_dict() if critics else agent.policy_state()
    tensors = {name: value.contiguous().cpu() for name, value in state.items()}
    about = {
        "spec": dataclasses.asdict(agent.spec),
        "prior": agent.objective.prior,
        **facts,
        "format": FORMAT,  # not that of a full checkpoint, which may be among the facts
        "critics": critics,
        "crc32": _checksum(tensors),  # safetensors has none
    }
    files.write(path, lambda file: file.write(safetensors.torch.save(tensors, metadata={HEADER: json.dumps(about)})))


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return found


def describe(path: Path) -> dict[str, Any]:
    """Return the header of a policy file: format, spec, prior, config, results, versions, critics.

    Raises:
        CheckpointError: if there is no such file, or it is not a policy file of this program.
    """
    with _opened(path) as (about, _):
        return about


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a policy file once, since its run may delete it at any time; yields its header and the file."""
    files.check_name(path)
    if not path.is_file():
        raise CheckpointError(f"no policy file {path}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(safetensors.safe_open(path, framework="pt"))
            about: Any = untrusted.parse_json((file.metadata() or {})[HEADER])
            untrusted.check_plain(about, untrusted.SETTINGS)
        except FileNotFoundError as error:
            raise CheckpointError(f"no policy file {path}") from error
        except (safetensors.SafetensorError, LookupError, ValueError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is not a policy file of this program ({files.reason_of(error)})") from error
        found = about.get("format") if isinstance(about, dict) else None
        if found != FORMAT:
            raise CheckpointError(f"{path} has format {found}; this version reads {FORMAT}")
        yield about, file


def load(path: Path) -> tuple[dict[str, Any], Agent]:
    """Load the header of a policy file and its agent; modules missing in the file, such as critics, are reinitialized.

    Raises:
        CheckpointError: if there is no such file, it is damaged or of another program, or has another format.
    """
    with _opened(path) as (about, file):
        check_origin(path, about)
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            if about.get("crc32", checksum := _checksum(tensors)) != checksum:  # older files have none
                raise CheckpointError(f"{path} is damaged: its checksum is not that of its tensors")
            agent = rebuild(path, about, sum(each.nbytes for each in tensors.values()))
            found = agent.load_state_dict(tensors, strict=False)
        except CheckpointError:
            raise
        except (safetensors.SafetensorError, *MISFITS) as error:
            raise CheckpointError(f"{path} does not fit this version: {files.reason_of(error)}") from error
    lacking = sorted(set(agent.policy_state()) & set(found.missing_keys)) + list(found.unexpected_keys)
    if lacking:
        raise CheckpointError(f"{path} does not fit this version: {', '.join(lacking)}")
    return about, agent


def check_origin(path: Path, about: Mapping[str, Any]) -> None:
    """Check that a header names the agent and the environment, and the epoch, which is part of names of files.

    Raises:
        CheckpointError: if it does not.
    """
    try:
        untrusted.check_plain(about["config"], untrusted.SETTINGS)
        about["config"]["agent"]["name"], about["config"]["env"]["name"]
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not name its agent and environment") from error
    if not isinstance(epoch := about.get("epoch"), int | None):
        raise CheckpointError(f"{path} has epoch {epoch!r}; accepted: an integer")


def rebuild(path: Path, about: Mapping[str, Any], size: int) -> Agent:
    """Build a new agent from the configuration and the environment's spec in a checkpoint.

    Settings that were added after the file was written have their `Before` values; a warning lists them. PyTorch's
    random state is left unchanged.

    Args:
        path: path of the checkpoint, for messages.
        about: header of a policy file, or a full checkpoint.
        size: bytes of its tensors, to which the networks must fit.

    Raises:
        Exception: one of `MISFITS`; a ConfigError names settings that are missing in the file or unknown here.
    """
    config, added = completed({"agent": about["config"]["agent"]})
    encoder = about["config"].get("encoder")  # None in files that predate it
    if added:
        log.warning(describe_added(added, path))
    plain = dict(config["agent"])
    backbone = plain.pop("backbone")
    objective_cfg = from_section(objectives[plain["name"]].Config, plain, "agent")
    backbone_cfg = from_section(backbones[backbone["name"]].Config, backbone, "agent.backbone")
    encoder_cfg = OWN if encoder is None else from_section(EncoderConfig, encoder, "encoder")
    spec: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in about["spec"].items()
    }
    make = partial(Agent, objective_cfg, backbone_cfg, EnvSpec(**spec), encoder_cfg)
    untrusted.check_networks(make, size)
    device = torch.get_default_device()  # modules are created there
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return make()
