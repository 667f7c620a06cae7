"""The border to Hydra: the tree that it composes becomes frozen dataclasses, every key, type and value checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csf import worlds
from csf.agents import objectives
from csf.backbones import backbones
from csf.config import names
from csf.config.overrides import key_of, literal, not_understood, values
from csf.config.schema import Budget, Config, Environment, General
from csf.config.values import checked, not_accepted, one_of, typed
from csf.errors import ConfigError
from csf.io.run_dir import MAY_CHANGE, flat
from csf.registry import UnknownName

_PACKAGED, _CHECKOUT = Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT  # a wheel ships the folder inside the package

GROUPS = ("agent", "agent/backbone", "env", "task")
PRESETS = ("preset", "preset/all_envs")
NOT_NAMED = MAY_CHANGE | {"seed", "cp_path"}  # what a run's name does not spell out; cp_path has a short form


def register_resolvers() -> None:
    """Teach OmegaConf what the yaml files use."""
    OmegaConf.register_new_resolver("pad", lambda number: f"{int(number):03d}", replace=True)
    OmegaConf.register_new_resolver("variant", _variant, replace=True)


def _variant(words: Sequence[str], *, _root_: DictConfig) -> str:
    """The part of a run's name that tells its settings: see `names.variant`."""
    return names.variant(_changed([*words], _root_))


def _changed(words: Sequence[str], tree: DictConfig) -> dict[str, Any]:
    """The settings in overrides that differ from what the groups in them compose, by path.

    Left out is what the run's name tells anyhow, such as ${env.name}, and what may change when a run is resumed.
    """
    parsed = [*zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True)]
    chosen = {key_of(each): word for word, each in parsed if key_of(each) in (*GROUPS, *PRESETS)}
    groups = tuple(chosen.values())
    changed: dict[str, Any] = {
        key.replace("/", "."): word.partition("=")[2]
        for key, word in chosen.items()
        if key in ("agent/backbone", *PRESETS)
        and _plain(groups) != _plain(tuple(each for each in groups if each != word))
    }
    for key in dict.fromkeys(key_of(each) for _, each in parsed if key_of(each) not in (*chosen, *NOT_NAMED)):
        new, old = (_leaves(each, key) for each in (tree, _composed(groups)))
        changed |= {
            leaf: new.get(leaf)
            for leaf in {**new, **old}
            if _differ(new.get(leaf), old.get(leaf)) and not _is_told(leaf, tree)
        }
    lenders = [each.value() for _, each in parsed if key_of(each) == "cp_path" and each.value()]
    if lenders:
        changed["cp_path"] = names.lender(str(lenders[-1]), Path(tree.exp_dir), str(tree.skills))
    return changed


@lru_cache(maxsize=64)
def _composed(groups: tuple[str, ...]) -> DictConfig:
    """The tree that groups compose, without any other override."""
    return recompose(groups, [])


def _plain(groups: tuple[str, ...]) -> Any:
    return OmegaConf.to_container(_composed(groups), resolve=False)


def _leaves(tree: DictConfig, key: str) -> dict[str, Any]:
    """The values at and below a key by path; an argument of the environment that is not given has its default."""
    node = OmegaConf.select(tree, key)
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if value is None and key.startswith("env.") and (accepted := worlds.settings_of(str(tree.env.name))):
        setting = accepted.get(key.removeprefix("env."))
        value = setting.default if setting else None
    return flat(value, key)


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other) or isinstance(one, bool) != isinstance(other, bool)


def _is_told(key: str, tree: DictConfig) -> bool:
    raw: Any = OmegaConf.to_container(OmegaConf.masked_copy(tree, "run_name"), resolve=False)
    return key in NOT_NAMED or f"${{{key}}}" in raw["run_name"]


def former_name(tree: DictConfig, words: Sequence[str]) -> str:
    """The name that earlier versions gave to a run: all overrides of the agent, as written, and no others."""
    told: dict[str, str] = {}
    for each in OverridesParser.create().parse_overrides(list(words)):
        if (key := key_of(each)).startswith(("agent.", "agent/")):
            told[key[len("agent.") :]] = each.get_value_element_as_str()
    former = tree.copy()
    former.variant = "".join(f"-{key}={value}" for key, value in sorted(told.items()))
    return str(former.run_name)


def check(overrides: Sequence[str]) -> Config:
    """Compose and check without running.

    Raises:
        ConfigError: one line that names the key and what is accepted.
    """
    register_resolvers()
    overrides = literal(overrides)
    _check_choices(overrides)
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            tree = compose("train", overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(tree)  # run_name reads the overrides from it
            return build(tree)
    except OverrideParseException as error:
        raise ConfigError(not_understood(error.override)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(str(error), overrides)) from error


def points(words: Sequence[str]) -> Iterator[Config]:
    """Configurations of a sweep, checked: every value of each setting but the seed, with the others' first values.

    Raises:
        ConfigError: one line that names the key and what is accepted.
    """
    expanded = [found for word in words if (found := values(word, choices))]
    firsts = [found[0] for found in expanded]
    yield check(firsts)
    for i, found in enumerate(expanded):
        for value in found[1:]:
            yield check([*firsts[:i], value, *firsts[i + 1 :]])


def recompose(overrides: Sequence[str], chosen: Sequence[str]) -> DictConfig:
    """The tree of the job that runs, with groups chosen besides those it names; they do not change its folder."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*literal(overrides), *chosen])


def _explain(message: str, overrides: Sequence[str] = ()) -> str:
    """What Hydra says in several lines as one line of ours, without its advice to add a misspelt key."""
    if (unknown := re.search(r"Could not find '(.+)/([^/']+)'", message)) and choices(unknown[1]):
        group, name = unknown.groups()
        return not_accepted(f"{group}={name}", name, choices(group))
    if misspelt := re.search(r"Could not override '([^']+)'", message):
        section, _, key = misspelt[1].rpartition(".")
        return not_accepted(misspelt[1], key, keys(section, overrides))
    lines = (line.strip() for line in message.splitlines())
    advice = ("See http", "full_key", "object_type")
    return " ".join(line for line in lines if not line.startswith(advice))


def _check_choices(overrides: Sequence[str]) -> None:
    """Hydra takes other things than names for a choice, and fails on them; an optional group it leaves out."""
    for word in overrides:
        group, sign, name = word.partition("=")
        if sign and not group:
            raise ConfigError(not_understood(word))
        if group in (*GROUPS, *PRESETS) and name not in choices(group):
            raise ConfigError(not_accepted(word, name, choices(group)))


def choices(group: str) -> list[str]:
    """What may be chosen in a group: the yaml files of its folder."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def keys(section: str, overrides: Sequence[str]) -> list[str]:
    """What may be set in a section of the configuration, under the groups that the overrides choose."""
    groups = [word for word in overrides if word.partition("=")[0] in GROUPS]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree = compose("train", groups)
    node = OmegaConf.select(tree, section) if section else tree
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def build(tree: DictConfig) -> Config:
    """From the composed tree to frozen dataclasses.

    Raises:
        ConfigError: a key, a type or a value that is not accepted, by its full path.
    """
    try:
        plain: dict[str, Any] = OmegaConf.to_container(tree, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(_explain(str(error))) from error
    plain.pop("hydra", None)
    agent, task = (dict(plain[group]) for group in ("agent", "task"))
    backbone = agent.pop("backbone")
    if not isinstance(backbone, dict):
        raise ConfigError(f"agent.backbone is {backbone!r}; choose with agent/backbone={'|'.join(choices(GROUPS[1]))}")
    try:
        objective_config = objectives[agent["name"]].Config
        backbone_config = backbones[backbone["name"]].Config
    except UnknownName as error:
        raise ConfigError(str(error)) from error
    env = plain["env"] = _environment(plain["env"])
    general = typed(General, {key: value for key, value in plain.items() if key not in ("agent", "task", "env")}, "")
    config = Config(
        **vars(general),
        agent=typed(objective_config, agent, "agent"),
        backbone=typed(backbone_config, backbone, "agent.backbone"),
        task=typed(Budget, task, "task"),
        env=env,
        tree=plain,
    )
    _check_values(config)
    return config


def environment(name: str) -> type:
    """A dataclass of all that the section "env" accepts for an environment of this package; else of the least."""
    arguments = [(setting.name, setting.type) for setting in (worlds.settings_of(name) or {}).values()]
    return dataclasses.make_dataclass("Environment", arguments, bases=(Environment,), frozen=True)


def _environment(node: Mapping[str, Any]) -> dict[str, Any]:
    """The section "env", checked; what only repeats a default of the constructor and is in no yaml file is left out."""
    accepted = worlds.settings_of(str(node["name"]))
    if accepted is None:  # of another package
        typed(Environment, {key: node.get(key) for key in ("name", "plot_range")}, "env")
        return dict(node)
    given = checked(environment(str(node["name"])), dict(node), "env")
    listed = _listed(str(node["name"]))
    return {key: value for key, value in given.items() if key in listed or _differ(value, accepted[key].default)}


@lru_cache
def _listed(env: str) -> frozenset[str]:
    """The settings that an environment's yaml file has."""
    file = CONFIGS / f"env/{env}.yaml"
    return frozenset(yaml.safe_load(file.read_text())) if file.is_file() else frozenset(("name", "plot_range"))


def settings(cls: type, name: str, words: Sequence[str], places: Sequence[str]) -> Any:
    """A frozen dataclass from configs/<name>.yaml and arguments, for entry points without groups.

    Args:
        cls: the dataclass.
        name: of the yaml file with its defaults.
        words: arguments, key=value or a value by position; a path may have "=" in it, a key consists of letters.
        places: the keys that values by position belong to, in order; a key of many values takes all that are left.

    Raises:
        ConfigError: one line that names the argument and what is accepted.
    """
    plain: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    many = {key for key, value in plain.items() if isinstance(value, list)}
    free = list(places)
    for word in words:
        key, sign, value = word.partition("=")
        if word.startswith("-"):
            raise ConfigError(f"{word} is not understood; accepted: {_instead(key, plain)}")
        if not sign or not key.isidentifier():
            if not free:
                raise ConfigError(f"{word!r} is one too many; accepted: {_synopsis(places)} [KEY=VALUE ...], --help")
            key, value = free[0] if free[0] in many else free.pop(0), word
        if key in many:
            plain[key] = [*plain[key], value]
        else:
            plain[key] = None if value in ("", "null") else value  # as it is: paths are full of what means more in yaml
    return typed(cls, plain, "")


def _synopsis(places: Sequence[str]) -> str:
    return " ".join(place.upper() for place in places)


def _instead(flag: str, accepted: Mapping[str, Any]) -> str:
    """What is written in place of a flag such as --title or --no-video."""
    word = flag.lstrip("-")
    if word in accepted:
        return f"{word}=VALUE"
    if word.removeprefix("no-") in accepted:
        return f"{word.removeprefix('no-')}=false"
    return "key=value, --help"


def _check_values(config: Config) -> None:
    """What a type cannot say."""
    task = config.task
    if task.min_replay_size > task.replay_size:
        raise ConfigError(
            f"task.min_replay_size is {task.min_replay_size}, more than task.replay_size ({task.replay_size}): "
            "nothing would ever be learned"
        )
    _check_skills(config)


def _check_skills(config: Config) -> None:
    """Skills as actions are chosen with all that belongs to them, or not at all."""
    if config.skills is None:
        for key in ("cp_path", "hold"):
            if (value := getattr(config, key)) is not None:
                raise ConfigError(f"{key} is {value}, but skills is null: no skills are used; set skills=<method>")
        return
    one_of("skills", config.skills, [name for name in objectives.names() if name != "task"])
    if config.hold is None:
        raise ConfigError(f"hold is {config.hold}; an integer of at least 1 is accepted")
