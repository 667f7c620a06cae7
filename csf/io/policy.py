"""A policy file on its own: one safetensors file whose header says in JSON what it is, so that loading runs no code."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from csf.agents import Agent, objectives
from csf.backbones import backbones
from csf.config.schema import completed, made, told
from csf.errors import CheckpointError
from csf.io import files
from csf.io.checkpoint import FORMAT
from csf.types import EnvSpec

log = logging.getLogger(__name__)

HEADER = "csf"  # the key of the JSON document among the file's metadata
# How state of another version fails to become an agent.
MISFITS = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def save(path: Path, agent: Agent, facts: Mapping[str, Any], critics: bool = False) -> None:
    """Write what acting takes, without optimizers.

    Args:
        path: of the file.
        agent: whose policy it is.
        facts: "config" and plain data, for the header.
        critics: whether to write the critics and all else that the agent is made of, for adaptation.

    Raises:
        CheckpointError: the file cannot be written.
    """
    state = agent.state_dict() if critics else agent.policy_state()
    tensors = {name: value.contiguous().cpu() for name, value in state.items()}
    about = {
        "format": FORMAT,
        "spec": dataclasses.asdict(agent.spec),
        "prior": agent.objective.prior,
        **facts,
        "critics": critics,
    }
    files.write(path, lambda file: file.write(safetensors.torch.save(tensors, metadata={HEADER: json.dumps(about)})))


def describe(path: Path) -> dict[str, Any]:
    """What the header of a policy file says: format, spec, prior, config, results, versions, critics.

    Raises:
        CheckpointError: no such file, or not one of this program's.
    """
    with _opened(path) as (about, _):
        return about


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """A policy file's header, and the file, which is opened once: its own run may delete it meanwhile."""
    files.check_name(path)
    if not path.is_file():
        raise CheckpointError(f"no policy file {path}")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(safetensors.safe_open(path, framework="pt"))
            about: Any = json.loads((file.metadata() or {})[HEADER])
        except FileNotFoundError as error:
            raise CheckpointError(f"no policy file {path}") from error
        except (safetensors.SafetensorError, LookupError, ValueError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{path} is not a policy file of this program ({files.reason_of(error)})") from error
        found = about.get("format") if isinstance(about, dict) else None
        if found != FORMAT:
            raise CheckpointError(f"{path} has format {found}; this version reads {FORMAT}")
        yield about, file


def load(path: Path) -> tuple[dict[str, Any], Agent]:
    """The header of a policy file, and its agent; modules that the file lacks, such as critics, are newly initialized.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another format.
    """
    with _opened(path) as (about, file):
        check_origin(path, about)
        try:
            agent = rebuild(path, about)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            found = agent.load_state_dict(tensors, strict=False)
        except (safetensors.SafetensorError, *MISFITS) as error:
            raise CheckpointError(f"{path} does not fit this version: {str(error).splitlines()[0]}") from error
    lacking = sorted(set(agent.policy_state()) & set(found.missing_keys)) + list(found.unexpected_keys)
    if lacking:
        raise CheckpointError(f"{path} does not fit this version: {', '.join(lacking)}")
    return about, agent


def check_origin(path: Path, about: Mapping[str, Any]) -> None:
    """Refuse a file that does not say by which agent and on which environment it was made.

    Raises:
        CheckpointError: it does not.
    """
    try:
        about["config"]["agent"]["name"], about["config"]["env"]["name"]
    except (LookupError, TypeError) as error:
        raise CheckpointError(f"{path} does not say by which agent and on which environment it was made") from error


def rebuild(path: Path, about: Mapping[str, Any]) -> Agent:
    """A new agent of the configuration and the environment that a checkpoint at `path` tells of.

    Settings that the file lacks since they were added later have their value from before; a warning names them.
    PyTorch's random state is restored after initial values have been drawn.

    Raises:
        Exception: one of `MISFITS`; a ConfigError names settings that the file lacks or this version does not have.
    """
    config, added = completed({"agent": about["config"]["agent"]})
    if added:
        log.warning(told(added, path))
    plain = dict(config["agent"])
    backbone = plain.pop("backbone")
    objective_cfg = made(objectives[plain["name"]].Config, plain, "agent")
    backbone_cfg = made(backbones[backbone["name"]].Config, backbone, "agent.backbone")
    spec: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in about["spec"].items()
    }
    device = torch.get_default_device()  # on which modules are made
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        return Agent(objective_cfg, backbone_cfg, EnvSpec(**spec))
