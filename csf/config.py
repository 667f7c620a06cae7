"""The border between Hydra and the program: composed tree in, frozen dataclasses out, every key and type checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from csf.agents import ObjectiveConfig, objectives
from csf.backbones import BackboneConfig, backbones
from csf.errors import ConfigError
from csf.registry import UnknownName, nearest

_PACKAGED, _CHECKOUT = Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT  # a wheel ships the folder inside the package


@dataclass(frozen=True)
class TaskConfig:
    """A budget, and what is measured on the way."""

    name: str
    epochs: int
    episodes_per_epoch: int
    updates_per_epoch: int  # gradient steps
    batch_size: int  # transitions
    replay_size: int  # transitions
    min_replay_size: int  # transitions; no update before
    eval_every: int  # epochs; also before the first and after the last
    save_every: int  # epochs; also after the last
    coverage_skills: int  # episodes of an evaluation of coverage
    goals: int  # of an evaluation of zero-shot goal reaching


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
    tree: dict[str, Any]  # the same as plain data, for config.yaml and the checkpoint


@dataclass(frozen=True)
class _Top:
    """Keys that belong to no group."""

    seed: int
    exp_dir: str
    run_name: str
    variant: str
    device: str
    threads: int
    wandb: str


def register_resolvers() -> None:
    """Teach OmegaConf what the yaml files use."""
    OmegaConf.register_new_resolver("pad", lambda number: f"{int(number):03d}", replace=True)
    OmegaConf.register_new_resolver("variant", _variant, replace=True)


def _variant(overrides: Sequence[str]) -> str:
    """'-<overrides of agent.*>', so that ablations of a method do not share a folder."""
    words = sorted(word.lstrip("+~") for word in overrides)
    return "".join(f"-{word.removeprefix('agent.')}" for word in words if word.startswith("agent."))


def check(overrides: Sequence[str]) -> Config:
    """Compose and check without running.

    Raises:
        ConfigError: one line that names the key and what is accepted.
    """
    register_resolvers()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            tree = compose("train", list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(tree)  # run_name reads the overrides from it
            return build(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(str(error))) from error


def _explain(message: str) -> str:
    """What Hydra says in several lines as one line of ours, without its advice to add a misspelt key."""
    if unknown := re.search(r"Could not find '(.+)/([^/']+)'", message):
        group, name = unknown.groups()
        return _not_accepted(f"{group}={name}", name, choices(group))
    if misspelt := re.search(r"Could not override '([^']+)'", message):
        *path, key = misspelt[1].split(".")
        return _not_accepted(misspelt[1], key, keys(".".join(path)))
    lines = (line.strip() for line in message.splitlines())
    advice = ("See http", "full_key", "object_type")
    return " ".join(line for line in lines if not line.startswith(advice))


def choices(group: str) -> list[str]:
    """What may be chosen in a group: the yaml files of its folder."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def keys(section: str) -> list[str]:
    """What may be set in a section of the configuration, by any choice of its group."""
    fields = [f.name for part in _SECTIONS.get(section, list)() for f in dataclasses.fields(part)]
    if section == "env":
        files = (CONFIGS / "env").glob("*.yaml")
        fields = [str(key) for file in files for key in OmegaConf.load(file)]
    return list(dict.fromkeys(fields))


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
        device=_one_of("device", top.device, ("auto", "cpu", "cuda")),
        threads=top.threads,
        wandb=_one_of("wandb", top.wandb, ("disabled", "offline", "online")),
        tree=plain,
    )
    _check_values(config)
    return config


def typed(cls: type, node: dict[str, Any], where: str) -> Any:
    """A frozen dataclass from a plain tree.

    Raises:
        ConfigError: a key that the class has not, or a value of another type.
    """
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), node))
    except OmegaConfBaseException as error:
        key = str(error.full_key or error.key or "")
        fields = [field.name for field in dataclasses.fields(cls)]
        path = f"{where}.{key}" if where else key
        known = "" if key in fields else f"; accepted: {', '.join(fields)}{nearest(key, fields)}"
        raise ConfigError(f"{path}: {str(error.msg).splitlines()[0]}{known}") from error


def _one_of(key: str, value: str, accepted: Sequence[str]) -> Any:
    if value not in accepted:
        raise ConfigError(f"{key} is {value!r}; accepted: {', '.join(accepted)}{nearest(value, accepted)}")
    return value


def _check_values(config: Config) -> None:
    """What a type cannot say."""
    task = config.task
    least = {f"task.{key}": (value, 1) for key, value in vars(task).items() if key != "name"}
    least["seed"], least["threads"] = (config.seed, 0), (config.threads, 0)
    least["agent.skill_dim"] = config.agent.skill_dim, 0
    for key, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{key} is {value}; an integer of at least {lowest} is accepted")
    if task.min_replay_size > task.replay_size:
        raise ConfigError(
            f"task.min_replay_size is {task.min_replay_size}, more than task.replay_size ({task.replay_size}): "
            "nothing would ever be learned"
        )


_SECTIONS: dict[str, Callable[[], list[type]]] = {
    "": lambda: [_Top],
    "task": lambda: [TaskConfig],
    "agent": lambda: [objectives[name].Config for name in objectives.names()],
    "agent.backbone": lambda: [backbones[name].Config for name in backbones.names()],
}
