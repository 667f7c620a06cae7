"""The settings of a run that belong to no method: type, range and meaning. Their values are in configs/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from csf.agents import ObjectiveConfig, objectives
from csf.backbones import BackboneConfig, backbones
from csf.config.ranges import Before, Count, Natural, Range, Seed
from csf.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """The section "task": how long a run trains, and how often it is evaluated and saved."""

    name: str
    epochs: Count  # each collects episodes, then updates the agent
    episodes_per_epoch: Count  # as many worlds are simulated at once
    updates_per_epoch: Count  # gradient steps
    batch_size: Count  # transitions
    replay_size: Count  # transitions
    min_replay_size: Count  # transitions that are collected before the first update
    terminal_at_limit: bool  # whether the last step of an episode counts as terminal
    eval_every: Count  # epochs between evaluations; also before the first epoch and after the last
    save_every: Count  # epochs between checkpoints; also after the last epoch
    coverage_skills: Count  # episodes of an evaluation of coverage
    goals: Count  # episodes of an evaluation of zero-shot goal reaching
    keep_critics: Annotated[bool, Before(False)]  # whether policy files hold the critics too, for adaptation


@dataclass(frozen=True)
class Environment:
    """The section "env", besides the arguments of the environment's constructor."""

    name: str
    plot_range: Annotated[float | None, Range(0, above=True)]  # half the side of plots of the plane; null: as needed


@dataclass(frozen=True)
class General:
    """Settings that belong to no group."""

    seed: Seed  # of networks, skills, actions and worlds
    exp_dir: Path  # folder of all runs
    run_name: str  # folder of the run below exp_dir
    variant: str  # part of run_name: the settings that differ from what the chosen groups set
    device: Literal["auto", "cpu", "cuda"]  # where networks compute; auto: cuda if there is one
    threads: Natural  # CPU threads; 0: OMP_NUM_THREADS if it is set, else one per usable core
    wandb: Literal["disabled", "offline", "online"]  # logging to Weights & Biases
    skills: str | None  # method whose frozen skills are the actions; null: the environment's own actions
    cp_path: str | None  # run, file or pattern that has these skills; null: the newest run of the method
    hold: Annotated[int | None, Range(1)]  # environment steps for which a skill is held


@dataclass(frozen=True)
class Config(General):
    """Everything that a run is made from."""

    agent: ObjectiveConfig
    backbone: BackboneConfig
    task: Budget
    env: dict[str, Any]  # fields of Environment, and arguments of the environment's constructor
    tree: dict[str, Any]  # the same as plain data, for config.yaml and checkpoints


def completed(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plain configuration of a file with every setting that was added since, and these settings by their path.

    A setting that was added has the value of its `Before`. Sections of unknown methods are left as they are.
    """
    tree, added = dict(config), dict[str, Any]()
    for section, cls in _sections(config):
        missing = {key: value for key, value in _before(cls).items() if key not in _section(config, section)}
        if missing:
            tree = _with(tree, section, missing)
            added |= {".".join([*section, key]): value for key, value in missing.items()}
    return tree, added


def told(added: Mapping[str, Any], file: Path | str) -> str:
    """What `completed` added to the configuration of a file, in one line."""
    return "; ".join(
        f"{key} is not in {file}; its value before it existed is used: {value}" for key, value in added.items()
    )


def made(cls: type, node: Mapping[str, Any], where: str) -> Any:
    """A frozen dataclass from the completed section of a file.

    Raises:
        ConfigError: the section has a setting that this version lacks, or lacks one that this version needs.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if gone := [f"{where}.{key}={node[key]}" for key in node if key not in names]:
        raise ConfigError(f"this version has no setting {', '.join(gone)}")
    if missing := sorted(names - set(node)):
        raise ConfigError(f"{', '.join(f'{where}.{key}' for key in missing)} is missing")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in node.items()})


def _before(cls: type) -> dict[str, Any]:
    """The `Before` values that a dataclass declares, by field."""
    hints = get_type_hints(cls, include_extras=True)
    pairs = ((key, each) for key, hint in hints.items() for each in getattr(hint, "__metadata__", ()))
    return {key: each.value for key, each in pairs if isinstance(each, Before)}


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], type]]:
    """The parts of a configuration that are present, with the dataclasses that describe them."""
    yield (), General
    if _section(config, ("task",)):
        yield ("task",), Budget
    registries: tuple[tuple[tuple[str, ...], Any], ...] = ((("agent",), objectives), (("agent", "backbone"), backbones))
    for path, registry in registries:
        node = _section(config, path)
        if isinstance(node, Mapping) and node.get("name") in registry.names():
            yield path, registry[node["name"]].Config


def _section(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = config
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _with(config: Mapping[str, Any], path: tuple[str, ...], added: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested mapping with keys added to the section at a path."""
    if not path:
        return {**config, **added}
    return {**config, path[0]: _with(config[path[0]], path[1:], added)}
