"""Types, ranges and meanings of the settings that belong to no method. Their values are in configs/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from csf.agents import EncoderConfig, ObjectiveConfig, objectives
from csf.backbones import BackboneConfig, backbones
from csf.config.ranges import Before, Count, Natural, Positive, Range, Seed
from csf.core.precision import Precision
from csf.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """The section "task": how long a run trains, and how often it is evaluated and saved."""

    name: str
    epochs: Count  # number of epochs; each collects episodes, then updates the agent
    episodes_per_epoch: Count  # number of episodes, simulated in as many worlds at once
    updates_per_epoch: Count  # number of gradient steps
    batch_size: Count  # transitions per gradient step
    replay_size: Count  # capacity of the replay buffer, in transitions
    min_replay_size: Count  # transitions collected before the first update
    terminal_at_limit: bool  # whether the last step of an episode counts as terminal
    eval_every: Count  # epochs between evaluations; also before the first epoch and after the last
    save_every: Count  # epochs between checkpoints; also after the last epoch
    coverage_skills: Count  # episodes per evaluation of coverage
    goals: Count  # episodes per evaluation of zero-shot goal reaching
    keep_critics: Annotated[bool, Before(False)]  # whether policy files include the critics, for fine-tuning
    keep_full: Annotated[int, Range(2), Before(2)]  # number of full checkpoints that are kept, the newest
    keep_policy_every: Annotated[Count, Before(1000)]  # epochs between policies that are kept besides the early ones
    overlap: Annotated[bool, Before(False)]  # whether to collect while learning, from episodes of earlier epochs only


@dataclass(frozen=True)
class Environment:
    """The keys of the section "env" that are not arguments of the environment's constructor."""

    name: str
    plot_range: Annotated[float | None, Range(0, above=True)]  # half the side of trajectory plots; null: fits the data


@dataclass(frozen=True)
class GymEnvironment(Environment):
    """The keys of env=gym; others are arguments of the environment's constructor, which are not known here."""

    id: str  # id registered with Gymnasium; MODULE:ID imports MODULE first, which registers the id
    max_steps: Annotated[int | None, Range(1)]  # number of steps per episode; null: the limit that the id has


@dataclass(frozen=True)
class Adaptation:
    """The section "task" of csf adapt: which skill is adapted, what is transferred, and for how long it is trained."""

    name: str
    steps: Count  # environment steps of training; the run ends with the first epoch that reaches them
    episodes_per_epoch: Count  # number of episodes, simulated in as many worlds at once
    updates_per_step: Positive  # gradient steps per environment step, taken after the episodes of an epoch
    batch_size: Count  # transitions per gradient step
    replay_size: Count  # capacity of the replay buffer, in transitions
    terminal_at_limit: bool  # whether the last step of an episode counts as terminal
    candidates: Count  # skills to choose from if they are continuous; one-hot skills are all tried
    candidate_episodes: Count  # episodes per skill, from whose mean return on the task the best one is chosen
    policy: Literal["skill", "fresh"]  # skill: that of the best skill, for a planner a network trained to imitate it
    critics: Literal["fresh", "copy", "value_body", "discriminator_body"]  # what the critics start from
    init_std: Positive  # standard deviation, before the tanh, of a policy that was trained without one (es, pets)
    imitation_updates: Count  # gradient steps of the imitation of a planner
    warmup: Literal["skill", "random", "none"]  # who acts before the first update; without a skill, the fresh policy
    warmup_steps: Natural  # environment steps of the warm-up
    eval_every: Count  # environment steps between evaluations; also before training and after it
    eval_episodes: Count  # deterministic episodes per evaluation and reference
    save_every: Count  # environment steps between checkpoints; also after training
    keep_critics: bool  # whether policy files include the critics
    keep_full: Annotated[int, Range(2), Before(2)]  # number of full checkpoints that are kept, the newest
    keep_policy_every: Annotated[Count, Before(1000)]  # epochs between policies that are kept besides the early ones
    expert: str | None  # return of an expert, or its run or adaptation.json; null: the runs of method=expert in exp_dir
    video: bool  # whether to record videos of the skills and of the adapted agent at the end


@dataclass(frozen=True)
class Common:
    """Settings that belong to no group, of every run."""

    seed: Seed  # random seed of networks, skills, actions and worlds
    exp_dir: Path  # folder of all runs
    run_name: str  # folder of the run, relative to exp_dir
    variant: str  # part of run_name that lists the settings that differ from the chosen groups
    device: Literal["auto", "cpu", "cuda"]  # device of the networks; auto: cuda if available
    precision: Annotated[Precision, Before("float32")]  # wide layers, convolutions; bf16: all but phi, bf16_all: all
    graphs: Annotated[bool, Before(True)]  # whether gradient steps and acting are CUDA graphs; no effect on the CPU
    threads: Natural  # number of CPU threads; 0: OMP_NUM_THREADS if set, else one per usable core
    wandb: Literal["disabled", "offline", "online"]  # logging to Weights & Biases


@dataclass(frozen=True)
class General(Common):
    """Settings of csf train that belong to no group."""

    skills: str | None  # method whose frozen skills are the actions; null: the environment's own actions
    cp_path: str | None  # run, file, pattern or packaged:NAME with the skills; null: the newest run of their method
    hold: Annotated[int | None, Range(1)]  # number of environment steps per skill
    objective: Annotated[str | None, Before(None)]  # metric that a search (hydra/sweeper=optuna) tries to raise


@dataclass(frozen=True)
class AdaptGeneral(Common):
    """Settings of csf adapt that belong to no group."""

    method: str | None  # method of the skills; scratch or expert: no skills; null: that of cp_path, or scratch
    cp_path: str | None  # run, file, pattern or packaged:NAME with the skills; null: the newest run of their method


@dataclass(frozen=True)
class Sections:
    """The groups that every run has, and its whole configuration as plain data."""

    agent: ObjectiveConfig
    backbone: BackboneConfig
    encoder: EncoderConfig
    env: dict[str, Any]  # fields of Environment and arguments of the environment's constructor
    tree: dict[str, Any]  # the same as plain data, for config.yaml and checkpoints


@dataclass(frozen=True)
class Config(General, Sections):
    """The full configuration of a run of csf train."""

    task: Budget


@dataclass(frozen=True)
class AdaptConfig(AdaptGeneral, Sections):
    """The full configuration of a run of csf adapt."""

    task: Adaptation


ADAPT = "adapt"  # value of task.name in runs of csf adapt


def completed(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Complete the plain configuration of an earlier version; also returns the added settings by path.

    Added settings have the value of their `Before`. Sections of unknown methods are unchanged.
    """
    tree, added = dict(config), dict[str, Any]()
    for section, cls in _sections(config):
        given = _section(config, section) or {}
        missing = {key: value for key, value in _before(cls).items() if key not in given}
        if missing:
            tree = _with(tree, section, missing)
            added |= {".".join([*section, key]): value for key, value in missing.items()}
    return tree, added


def describe_added(added: Mapping[str, Any], file: Path | str) -> str:
    """Describe in one line the settings that `completed` added to the configuration of a file."""
    return "; ".join(f"{key} is missing in {file}, which predates it; using {value}" for key, value in added.items())


def from_section(cls: type, node: Mapping[str, Any], where: str) -> Any:
    """Build a frozen dataclass from a completed section of a file.

    Raises:
        ConfigError: if the section has an unknown setting, or lacks a required one.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    if gone := [f"{where}.{key}={node[key]}" for key in node if key not in names]:
        raise ConfigError(f"this version has no setting {', '.join(gone)}")
    if missing := sorted(names - set(node)):
        raise ConfigError(f"{', '.join(f'{where}.{key}' for key in missing)} is missing")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in node.items()})


def _before(cls: type) -> dict[str, Any]:
    """Return the `Before` values of a dataclass by field."""
    hints = get_type_hints(cls, include_extras=True)
    pairs = ((key, each) for key, hint in hints.items() for each in getattr(hint, "__metadata__", ()))
    return {key: each.value for key, each in pairs if isinstance(each, Before)}


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], type]]:
    """Yield the sections that a configuration has, with their dataclasses."""
    task = _section(config, ("task",))
    adapts = isinstance(task, Mapping) and task.get("name") == ADAPT
    if "seed" in config:  # not only a section
        yield (), AdaptGeneral if adapts else General
        yield ("encoder",), EncoderConfig
    if task:
        yield ("task",), Adaptation if adapts else Budget
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
    """Return a copy of a nested mapping with keys added to the section at a path."""
    if not path:
        return {**config, **added}
    return {**config, path[0]: _with(config.get(path[0]) or {}, path[1:], added)}
