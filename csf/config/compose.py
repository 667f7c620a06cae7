"""Interface to Hydra: converts the composed tree to frozen dataclasses and validates every key, type and value."""

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
from csf.agents import EncoderConfig, objectives
from csf.backbones import backbones
from csf.config import names
from csf.config.constraints import check_adapting, check_training
from csf.config.overrides import key_of, literal, not_understood, values
from csf.config.schema import (
    ADAPT,
    Adaptation,
    AdaptConfig,
    AdaptGeneral,
    Budget,
    Config,
    Environment,
    General,
    GymEnvironment,
)
from csf.config.values import checked, not_accepted, typed
from csf.errors import ConfigError
from csf.io.run_dir import MAY_CHANGE, flat
from csf.registry import UnknownName

_PACKAGED, _CHECKOUT = Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT  # a wheel has the folder inside the package

GROUPS = ("agent", "agent/backbone", "encoder", "env", "task")
PRESETS = ("preset", "preset/all_envs", "preset/recipe", "preset/all_agents")
SECTIONS = ("agent", "encoder", "env", "task")
# Left out of a run's name: cp_path is added there in a short form, and env.id is env.name.
NOT_NAMED = MAY_CHANGE | {"seed", "cp_path", "env.id"}


def register_resolvers() -> None:
    """Register the resolvers that the yaml files use."""
    OmegaConf.register_new_resolver("pad", _pad, replace=True)
    OmegaConf.register_new_resolver("variant", _variant, replace=True)
    OmegaConf.register_new_resolver("folder", names.folder, replace=True)


def _pad(number: Any) -> str:
    return f"{number:03d}" if isinstance(number, int) else str(number)  # refused later, with what is accepted


def _variant(words: Sequence[str], *, _root_: DictConfig) -> str:
    """Return the part of a run's name that lists its changed settings; see `names.variant`."""
    return names.variant(_changed([*words], _root_))


def _changed(words: Sequence[str], tree: DictConfig) -> dict[str, Any]:
    """Return the overridden settings that differ from the values of the chosen groups, by path.

    Settings that the run's name contains anyway, such as ${env.name}, and those that may change when a run is resumed
    are left out.
    """
    parsed = [*zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True)]
    chosen = {key_of(each): word for word, each in parsed if key_of(each) in (*GROUPS, *PRESETS)}
    groups, primary = tuple(chosen.values()), _primary(tree)
    changed: dict[str, Any] = {
        key.replace("/", "."): word.partition("=")[2]
        for key, word in chosen.items()
        if key in ("agent/backbone", "encoder", *PRESETS)
        and _plain(groups, primary) != _plain(tuple(each for each in groups if each != word), primary)
    }
    for key in dict.fromkeys(key_of(each) for _, each in parsed if key_of(each) not in (*chosen, *NOT_NAMED)):
        new, old = (_leaves(each, key) for each in (tree, _composed(groups, primary)))
        changed |= {
            leaf: new.get(leaf)
            for leaf in {**new, **old}
            if _differ(new.get(leaf), old.get(leaf)) and not _is_in_name(leaf, tree)
        }
    paths = [each.value() for _, each in parsed if key_of(each) == "cp_path" and each.value()]
    if paths:
        method = str(tree.method if _primary(tree) == ADAPT else tree.skills)
        changed["cp_path"] = names.skills_run(str(paths[-1]), Path(tree.exp_dir), method)
    return changed


@lru_cache(maxsize=64)
def _composed(groups: tuple[str, ...], primary: str) -> DictConfig:
    """Compose the tree of the given groups, without any other override."""
    return recompose(groups, [], primary)


def _plain(groups: tuple[str, ...], primary: str) -> Any:
    return OmegaConf.to_container(_composed(groups, primary), resolve=False)


def _primary(tree: DictConfig) -> str:
    """Return the name of the yaml file that a tree was composed from: "train" or "adapt"."""
    return ADAPT if OmegaConf.select(tree, "task.name") == ADAPT else "train"


def _leaves(tree: DictConfig, key: str) -> dict[str, Any]:
    """Return the values at and below a key, by path; unset arguments of the environment have their default."""
    node = OmegaConf.select(tree, key)
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if value is None and key.startswith("env.") and (accepted := worlds.settings_of(str(tree.env.name))):
        setting = accepted.get(key.removeprefix("env."))
        value = setting.default if setting else None
    return flat(value, key)


def _differ(one: Any, other: Any) -> bool:
    return bool(one != other) or isinstance(one, bool) != isinstance(other, bool)


def _is_in_name(key: str, tree: DictConfig) -> bool:
    raw: Any = OmegaConf.to_container(OmegaConf.masked_copy(tree, "run_name"), resolve=False)
    return key in NOT_NAMED or f"${{{key}}}" in raw["run_name"]


def former_name(tree: DictConfig, words: Sequence[str]) -> str:
    """Return the run name of earlier versions: all overrides of the agent as written, and no others."""
    named: dict[str, str] = {}
    for each in OverridesParser.create().parse_overrides(list(words)):
        if (key := key_of(each)).startswith(("agent.", "agent/")):
            named[key[len("agent.") :]] = each.get_value_element_as_str()
    former = tree.copy()
    former.variant = "".join(f"-{key}={value}" for key, value in sorted(named.items()))
    return str(former.run_name)


def check(overrides: Sequence[str]) -> Config:
    """Compose and validate a configuration of csf train without running it.

    Raises:
        ConfigError: if a key, type or value is not accepted; one line names the key and the accepted values.
    """
    return build(composed(overrides))


def check_adaptation(overrides: Sequence[str]) -> AdaptConfig:
    """Compose and validate a configuration of csf adapt, as `check` does."""
    for word in overrides:
        if word.partition("=")[0] == "task":
            raise ConfigError(f"{word} is not understood; accepted by csf adapt: settings such as task.steps=100000")
    return build_adaptation(composed(overrides, ADAPT))


def composed(overrides: Sequence[str], primary: str = "train") -> dict[str, Any]:
    """Compose the plain tree of a run from a primary yaml file and overrides.

    Raises:
        ConfigError: if a key or a choice is not accepted.
    """
    register_resolvers()
    overrides = literal(overrides)
    _check_choices(overrides)
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            tree = compose(primary, overrides, return_hydra_config=True)
            HydraConfig.instance().set_config(tree)  # run_name reads the overrides from it
            plain: Any = OmegaConf.to_container(tree, resolve=True)
    except OverrideParseException as error:
        raise ConfigError(not_understood(error.override)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(str(error), overrides, primary)) from error
    plain.pop("hydra")
    return dict(plain)


def points(words: Sequence[str]) -> Iterator[Config]:
    """Yield validated configurations of a sweep: each value (two of seeds) of each setting, the others at their first.

    Raises:
        ConfigError: if a key, type or value is not accepted; one line names the key and the accepted values.
    """
    expanded = [found for word in words if (found := values(word, choices))]
    firsts = [found[0] for found in expanded]
    yield check(firsts)
    for i, found in enumerate(expanded):
        for value in found[1:]:
            yield check([*firsts[:i], value, *firsts[i + 1 :]])


def recompose(overrides: Sequence[str], chosen: Sequence[str], primary: str = "train") -> DictConfig:
    """Compose the tree of the current job with additional groups, which do not change its folder."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(primary, [*literal(overrides), *chosen])


def explain(message: str, overrides: Sequence[str] = (), primary: str = "train") -> str:
    """Shorten a message of Hydra to one line, without where it searched and its advice to add a misspelt key."""
    if (unknown := re.search(r"Could not find '(.+)/([^/']+)'", message)) and choices(unknown[1]):
        group, name = unknown.groups()
        return not_accepted(f"{group}={name}", name, choices(group))
    if misspelt := re.search(r"Could not override '([^']+)'", message):
        section, _, key = misspelt[1].rpartition(".")
        if known := keys(section, overrides, primary):
            return not_accepted(misspelt[1], key, known)
        return not_accepted(misspelt[1], section, keys("", overrides, primary))
    lines = (line.strip() for line in message.splitlines())
    advice = ("See http", "full_key", "object_type", "Config search path", "provider=")
    return " ".join(line for line in lines if line and not line.startswith(advice))


def _check_choices(overrides: Sequence[str]) -> None:
    """Validate chosen groups: Hydra fails on values that are not names, and ignores unknown optional groups."""
    for word in overrides:
        group, sign, name = word.partition("=")
        if sign and not group:
            raise ConfigError(not_understood(word))
        if group in (*GROUPS, *PRESETS) and name not in choices(group):
            raise ConfigError(not_accepted(word, name, choices(group)))


def choices(group: str) -> list[str]:
    """Return the choices of a group, which are the yaml files in its folder."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def keys(section: str, overrides: Sequence[str], primary: str = "train") -> list[str]:
    """Return the keys of a section of the configuration, for the groups that the overrides choose."""
    hydra = section.partition(".")[0] == "hydra"
    groups = [word for word in overrides if word.partition("=")[0] in GROUPS or (hydra and word.startswith("hydra/"))]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        tree = compose(primary, groups, return_hydra_config=hydra)
    node = OmegaConf.select(tree, section) if section else tree
    return [str(key) for key in node] if isinstance(node, DictConfig) else []


def build(tree: DictConfig | dict[str, Any]) -> Config:
    """Convert a composed tree of csf train to frozen dataclasses.

    Raises:
        ConfigError: if a key, type or value is not accepted; the message has its full path.
    """
    plain = _resolved(tree)
    config = Config(
        **vars(typed(General, _top(plain), "")), **_sections(plain), task=typed(Budget, dict(plain["task"]), "task")
    )
    check_training(config)
    return config


def build_adaptation(tree: DictConfig | dict[str, Any]) -> AdaptConfig:
    """Convert a composed tree of csf adapt to frozen dataclasses, as `build` does."""
    plain = _resolved(tree)
    general, task = typed(AdaptGeneral, _top(plain), ""), typed(Adaptation, dict(plain["task"]), "task")
    config = AdaptConfig(**vars(general), **_sections(plain), task=task)
    check_adapting(config)
    return config


def _resolved(tree: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return a composed tree as plain data."""
    if isinstance(tree, dict):  # not resolved again: a path may contain ${
        return dict(tree)
    try:
        plain: Any = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(str(error))) from error
    plain.pop("hydra", None)
    return dict(plain)


def _top(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key not in SECTIONS}


def _sections(plain: dict[str, Any]) -> dict[str, Any]:
    """Validate the sections that every run has; the section "env" of the plain tree becomes the validated one."""
    agent = dict(plain["agent"])
    backbone = agent.pop("backbone")
    if not isinstance(backbone, dict):
        raise ConfigError(f"agent.backbone is {backbone!r}; choose with agent/backbone={'|'.join(choices(GROUPS[1]))}")
    try:
        objective_config = objectives[agent["name"]].Config
        backbone_config = backbones[backbone["name"]].Config
    except UnknownName as error:
        raise ConfigError(str(error)) from error
    env = plain["env"] = _environment(plain["env"])
    return {
        "agent": typed(objective_config, agent, "agent"),
        "backbone": typed(backbone_config, backbone, "agent.backbone"),
        "encoder": typed(EncoderConfig, plain["encoder"], "encoder"),
        "env": env,
        "tree": plain,
    }


def environment(name: str) -> type:
    """Return a dataclass of the section "env"; for environments of other packages it has the common keys only."""
    arguments = [(setting.name, setting.type) for setting in (worlds.settings_of(name) or {}).values()]
    return dataclasses.make_dataclass("Environment", arguments, bases=(Environment,), frozen=True)


def _environment(node: Mapping[str, Any]) -> dict[str, Any]:
    """Validate the section "env"; drop values that equal the constructor's default and are in no yaml file."""
    accepted = worlds.settings_of(str(node["name"]))
    if accepted is None:
        _check_other(node)
        return dict(node)
    if "id" in node:
        raise ConfigError(
            f"env.id is {node['id']}; accepted: with env=gym, the id of an environment of another package; "
            f"without it, env={node['name']}"
        )
    given = checked(environment(str(node["name"])), dict(node), "env")
    listed = _listed(str(node["name"]))
    return {key: value for key, value in given.items() if key in listed or _differ(value, accepted[key].default)}


def _check_other(node: Mapping[str, Any]) -> None:
    """Validate those keys of the section "env" that an environment of another package has."""
    if "id" in node and not isinstance(node["id"], str):
        shown = "null" if node["id"] is None else node["id"]
        raise ConfigError(f"env.id is {shown}; accepted: an id registered with Gymnasium, such as Walker2d-v5")
    common = GymEnvironment if "id" in node else Environment
    typed(common, {field.name: node.get(field.name) for field in dataclasses.fields(common)}, "env")


@lru_cache
def _listed(env: str) -> frozenset[str]:
    """Return the keys of an environment's yaml file."""
    file = CONFIGS / f"env/{env}.yaml"
    return frozenset(yaml.safe_load(file.read_text())) if file.is_file() else frozenset(("name", "plot_range"))


def settings(cls: type, name: str, words: Sequence[str], places: Sequence[str]) -> Any:
    """Build a frozen dataclass from configs/<name>.yaml and command-line arguments, for entry points without groups.

    Args:
        cls: the dataclass.
        name: name of the yaml file with the defaults.
        words: arguments, each key=value or positional; a path may contain "=", a key is an identifier.
        places: keys of the positional arguments, in order; a key whose value is a list takes all that remain.

    Raises:
        ConfigError: if an argument is not accepted; one line names it and what is accepted.
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
                raise ConfigError(
                    f"unexpected argument {word!r}; accepted: {_synopsis(places)} [KEY=VALUE ...], --help"
                )
            key, value = free[0] if free[0] in many else free.pop(0), word
        if key in many:
            plain[key] = [*plain[key], value]
        else:
            plain[key] = None if value in ("", "null") else value  # not yaml: paths may contain its symbols
    return typed(cls, plain, "")


def _synopsis(places: Sequence[str]) -> str:
    return " ".join(place.upper() for place in places)


def _instead(flag: str, accepted: Mapping[str, Any]) -> str:
    """Return the key=value form of a flag such as --title or --no-video."""
    word = flag.lstrip("-")
    if word in accepted:
        return f"{word}=VALUE"
    if word.removeprefix("no-") in accepted:
        return f"{word.removeprefix('no-')}=false"
    return "key=value, --help"
