"""The border between Hydra and the program: composed tree in, frozen dataclasses out, every key and type checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csf.agents import ObjectiveConfig, objectives
from csf.backbones import BackboneConfig, backbones
from csf.config.ranges import Count, Natural, Range, Seed
from csf.errors import ConfigError
from csf.registry import UnknownName, nearest

_PACKAGED, _CHECKOUT = Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT  # a wheel ships the folder inside the package

GROUPS = ("agent", "agent/backbone", "env", "task")
PATHS = ("cp_path", "exp_dir", "run_name")


@dataclass(frozen=True)
class TaskConfig:
    """A budget, and what is measured on the way."""

    name: str
    epochs: Count
    episodes_per_epoch: Count
    updates_per_epoch: Count  # gradient steps
    batch_size: Count  # transitions
    replay_size: Count  # transitions
    min_replay_size: Count  # transitions; no update before
    terminal_at_limit: bool  # whether the last step of an episode counts as terminal
    eval_every: Count  # epochs; also before the first and after the last
    save_every: Count  # epochs; also after the last
    coverage_skills: Count  # episodes of an evaluation of coverage
    goals: Count  # of an evaluation of zero-shot goal reaching
    keep_critics: bool  # whether policy files have the critics too, for adaptation


@dataclass(frozen=True)
class Config:
    """Everything that a run is made from."""

    agent: ObjectiveConfig
    backbone: BackboneConfig
    task: TaskConfig
    env: dict[str, Any]  # the arguments of envs.make_vec, and plot_range, half the side of pictures of the plane
    seed: int
    exp_dir: Path
    run_name: str
    device: Literal["auto", "cpu", "cuda"]
    threads: int  # of PyTorch while learning and of the simulator while collecting; 0: one per core
    wandb: Literal["disabled", "offline", "online"]
    skills: str | None  # the method whose frozen skills are the actions; null: actions are those of the environment
    cp_path: str | None  # the run, file or pattern that has them; null: the newest of the method on this environment
    hold: int | None  # environment steps for which a skill is held
    tree: dict[str, Any]  # the same as plain data, for config.yaml and the checkpoint


@dataclass(frozen=True)
class _Top:
    """Keys that belong to no group."""

    seed: Seed
    exp_dir: str
    run_name: str
    variant: str
    device: Literal["auto", "cpu", "cuda"]
    threads: Natural
    wandb: Literal["disabled", "offline", "online"]
    skills: str | None
    cp_path: str | None
    hold: int | None


def quoted(word: str) -> str:
    """An override as Hydra takes it: names of runs have in them what its grammar does not, such as = and [8,8]."""
    key, _, value = word.partition("=")
    if key not in PATHS or "'" in value:
        return word
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}='{value}'"
    return word


def register_resolvers() -> None:
    """Teach OmegaConf what the yaml files use."""
    OmegaConf.register_new_resolver("pad", lambda number: f"{int(number):03d}", replace=True)
    OmegaConf.register_new_resolver("variant", _variant, replace=True)


def _variant(overrides: Sequence[str]) -> str:
    """'-<overrides of the agent>', so that ablations of a method do not share a folder; of one key, the last counts.

    Values are spelt as a sweep spells them (1e-4 is 0.0001), so that a single run shares the folder of its point.
    """
    chosen = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element().lstrip("+~")
        if key.startswith(("agent.", "agent/")):
            chosen[key[len("agent.") :]] = override.get_value_element_as_str()
    return "".join(f"-{key}={value}" for key, value in sorted(chosen.items()))


def check(overrides: Sequence[str]) -> Config:
    """Compose and check without running.

    Raises:
        ConfigError: one line that names the key and what is accepted.
    """
    register_resolvers()
    _check_choices(overrides)
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            tree = compose("train", list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(tree)  # run_name reads the overrides from it
            return build(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(str(error), overrides)) from error


def recompose(overrides: Sequence[str], chosen: Sequence[str]) -> DictConfig:
    """The tree of the job that runs, with groups chosen besides those it names; they do not change its folder."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", [*overrides, *chosen])


def _explain(message: str, overrides: Sequence[str] = ()) -> str:
    """What Hydra says in several lines as one line of ours, without its advice to add a misspelt key."""
    if unknown := re.search(r"Could not find '(.+)/([^/']+)'", message):
        group, name = unknown.groups()
        return _not_accepted(f"{group}={name}", name, choices(group))
    if misspelt := re.search(r"Could not override '([^']+)'", message):
        section, _, key = misspelt[1].rpartition(".")
        return _not_accepted(misspelt[1], key, keys(section, overrides))
    lines = (line.strip() for line in message.splitlines())
    advice = ("See http", "full_key", "object_type")
    return " ".join(line for line in lines if not line.startswith(advice))


def _check_choices(overrides: Sequence[str]) -> None:
    """Hydra takes other things than names for a choice, and fails on them; an optional group it leaves out."""
    for word in overrides:
        group, sign, name = word.partition("=")
        if sign and not group:
            raise ConfigError(f"{word!r} is not understood; accepted: key=value")
        if group in (*GROUPS, "preset", "preset/all_envs") and name not in choices(group):
            raise ConfigError(_not_accepted(word, name, choices(group)))


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


def _not_accepted(what: str, word: str, accepted: Sequence[str]) -> str:
    return f"{what} is not known; accepted: {', '.join(accepted)}{nearest(word, accepted)}"


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
    agent, task, env = (dict(plain[group]) for group in ("agent", "task", "env"))
    backbone = agent.pop("backbone")
    if not isinstance(backbone, dict):
        raise ConfigError(f"agent.backbone is {backbone!r}; choose with agent/backbone={'|'.join(choices(GROUPS[1]))}")
    try:
        objective_config = objectives[agent["name"]].Config
        backbone_config = backbones[backbone["name"]].Config
    except UnknownName as error:
        raise ConfigError(str(error)) from error
    rest = {key: value for key, value in plain.items() if key not in ("agent", "task", "env")}
    top = typed(_Top, rest, "")
    config = Config(
        agent=typed(objective_config, agent, "agent"),
        backbone=typed(backbone_config, backbone, "agent.backbone"),
        task=typed(TaskConfig, task, "task"),
        env=env,
        seed=top.seed,
        exp_dir=Path(top.exp_dir),
        run_name=top.run_name,
        device=top.device,
        threads=top.threads,
        wandb=top.wandb,
        skills=top.skills,
        cp_path=top.cp_path,
        hold=top.hold,
        tree=plain,
    )
    _check_values(config)
    return config


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


def typed(cls: type, node: dict[str, Any], where: str) -> Any:
    """A frozen dataclass from a plain tree.

    Raises:
        ConfigError: a key that the class has not, a value of another type, or not among those accepted.
    """
    prefix = f"{where}." if where else ""
    hints = {field.name: get_type_hints(cls)[field.name] for field in dataclasses.fields(cls)}
    accepted = {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}
    # OmegaConf checks types and knows no Literal, so it sees text there.
    fields = [(key, str if key in accepted else hint) for key, hint in hints.items()]
    schema = OmegaConf.structured(dataclasses.make_dataclass(cls.__name__, fields))
    try:
        values = OmegaConf.to_container(OmegaConf.merge(schema, node), throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key or "")
        known = "" if key.partition("[")[0] in hints else f"; accepted: {', '.join(hints)}{nearest(key, hints)}"
        raise ConfigError(f"{prefix}{key}: {str(error.msg).splitlines()[0]}{known}") from error
    checked: dict[str, Any] = {str(key): value for key, value in dict(values).items()}  # type: ignore[arg-type]
    for key, options in accepted.items():
        _one_of(prefix + key, checked[key], options)
    for key, hint in get_type_hints(cls, include_extras=True).items():
        _within(prefix + key, checked[key], hint)
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in checked.items()})


def _within(key: str, value: Any, hint: Any) -> None:
    """Check a number, or each of a list of numbers, against the range in its type."""
    if isinstance(value, list):
        for each in value:
            _within(key, each, get_args(hint)[0])
        return
    for extent in getattr(hint, "__metadata__", ()):
        if isinstance(extent, Range) and value not in extent:
            kind = "an integer" if isinstance(value, int) else "a number"
            raise ConfigError(f"{key} is {value}; {kind} {extent} is accepted")


def _one_of(key: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ConfigError(f"{key} is {value!r}; accepted: {', '.join(accepted)}{nearest(value, accepted)}")


def _check_values(config: Config) -> None:
    """What a type cannot say."""
    task = config.task
    if task.min_replay_size > task.replay_size:
        raise ConfigError(
            f"task.min_replay_size is {task.min_replay_size}, more than task.replay_size ({task.replay_size}): "
            "nothing would ever be learned"
        )
    reach = config.env.get("plot_range")
    if reach is not None and not (isinstance(reach, int | float) and 0 < reach < math.inf):
        raise ConfigError(f"env.plot_range is {reach}; a number above 0 is accepted, or null")
    _check_skills(config)


def _check_skills(config: Config) -> None:
    """Skills as actions are chosen with all that belongs to them, or not at all."""
    if config.skills is None:
        for key in ("cp_path", "hold"):
            if (value := getattr(config, key)) is not None:
                raise ConfigError(f"{key} is {value}, but skills is null: no skills are used; set skills=<method>")
        return
    _one_of("skills", config.skills, [name for name in objectives.names() if name != "task"])
    if config.hold is None or config.hold < 1:
        raise ConfigError(f"hold is {config.hold}; an integer of at least 1 is accepted")
