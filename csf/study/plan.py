"""Expands the yaml file of a study to rows: every arm on every environment with every seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from csf.config import compose, names
from csf.config.schema import Config
from csf.config.values import one_of
from csf.errors import ConfigError
from csf.io import checkpoint
from csf.io.run_dir import MAY_CHANGE, flat

FOLDER = compose.CONFIGS / "study"
DIGEST = 10  # hexadecimal digits
# An agent that is never updated: its policy after one epoch is its initial one.
UNTRAINED = ("agent/backbone=sac", "task.epochs=1", "task.min_replay_size=${task.replay_size}")
ADAPTATION = "adaptation"  # kind of the measurements that csf adapt makes
EXPERTS = "asymptotic"  # study with the returns of experts
BODY_TASK = "envs.body_tasks:csf/BodyTask-v0"
EXOGENOUS = "envs.exogenous:csf/Exogenous-v0"


@dataclass(frozen=True)
class Run:
    """A run of csf train, which studies share; with 0 epochs, the place of runs without pretraining."""

    folder: Path
    words: tuple[str, ...]  # arguments of the command
    epochs: int

    def policy(self, epoch: int) -> Path:
        """The policy file of an epoch, which exists once the epoch was saved."""
        return self.folder / "checkpoints" / checkpoint.POLICY.format(epoch)

    def finished(self) -> bool:
        """Whether the run has its last policy, if it has one."""
        return not self.epochs or self.policy(self.epochs).is_file()

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.folder.with_name(f"{self.folder.name}.lock")


@dataclass(frozen=True)
class Part:
    """A measurement of one policy of a run, which studies share."""

    run: Run
    epoch: int
    kind: str  # ADAPTATION, or a function of `csf.study.measures`
    words: tuple[str, ...]  # its settings

    @property
    def file(self) -> Path:
        """The file with the result; the run of an adaptation is in the folder of the same name."""
        return self.run.folder / "study" / f"{self.kind}_{self.epoch:06d}-{digest(self.words)}.json"

    @property
    def lock(self) -> Path:
        """Held by the process that measures."""
        return self.file.with_suffix(".lock")


@dataclass(frozen=True)
class Row:
    """One line of the table: measurements of one policy."""

    env: str
    arm: str
    seed: int
    task: str  # of a generalization study; otherwise empty
    epoch: int
    run: Run
    parts: tuple[Part, ...]

    @property
    def label(self) -> str:
        """The row in messages."""
        return ", ".join(filter(None, (self.arm, self.env, self.task, f"seed {self.seed}", f"epoch {self.epoch}")))

    def complete(self) -> bool:
        """Whether all results exist."""
        return all(part.file.is_file() for part in self.parts)


@dataclass(frozen=True)
class Study:
    """A study with one profile."""

    name: str
    title: str
    about: str  # what is compared and what is measured
    profile: str
    needs_start: bool  # whether the profile is too long to start without being asked to
    control: str  # arm with which the others are compared
    metrics: tuple[str, ...]  # metrics of the figures, the most important first
    over_training: bool  # whether rows are policies of the same runs after more and more pretraining
    rows: tuple[Row, ...]
    experts: tuple[Row, ...]  # whose returns normalize those after adaptation; they belong to another study
    folder: Path  # of the results
    configs: Mapping[Path, Config]  # by the folder of the run; the seed may be that of another run

    @property
    def runs(self) -> list[Run]:
        """Every run once."""
        return list(dict.fromkeys(row.run for row in self.rows))

    @property
    def parts(self) -> list[Part]:
        """Every measurement once."""
        return list(dict.fromkeys(part for row in self.rows for part in row.parts))


@dataclass(frozen=True)
class Choice:
    """What a command chooses of a study."""

    name: str
    profile: str
    exp_dir: Path
    envs: tuple[str, ...] = ()  # empty: all of the profile
    arms: tuple[str, ...] = ()  # besides the control; empty: all of the study
    seeds: int | None = None  # null: as many as the profile has
    words: tuple[str, ...] = ()  # settings of every pretraining run

    @property
    def variant(self) -> str:
        """The part of the folder's name that lists what differs from the profile."""
        chosen = {"envs": self.envs, "arms": self.arms}
        named = [f"{key}={'+'.join(names)}" for key, names in chosen.items() if names]
        named += [] if self.seeds is None else [f"seeds={self.seeds}"]
        return names.shortened("".join(f"-{word}".replace("/", "_") for word in [*named, *self.words]))


def studies() -> list[str]:
    """The names of the studies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted(path.stem for path in (FOLDER / "profile").glob("*.yaml"))


def make(choice: Choice) -> Study:
    """Expand a study.

    Raises:
        ConfigError: there is no such study, profile or environment, or a run's setting is not accepted.
    """
    one_of("name", choice.name, studies())
    one_of("profile", choice.profile, profiles())
    about = yaml.safe_load((FOLDER / f"{choice.name}.yaml").read_text())
    profile = yaml.safe_load((FOLDER / "profile" / f"{choice.profile}.yaml").read_text())
    if about["control"] not in about["arms"]:
        raise ConfigError(f"the control of {choice.name} is {about['control']!r}; accepted: {', '.join(about['arms'])}")
    envs = [env for env in profile["envs"] if env in about.get("tasks", profile.get("main", profile["envs"]))]
    for env in choice.envs:
        one_of("envs", env, envs)
    for arm in choice.arms:
        one_of("arms", arm, list(about["arms"]))
    arms = [arm for arm in about["arms"] if not choice.arms or arm in (*choice.arms, about["control"])]
    seeds = profile["seeds"] if choice.seeds is None else choice.seeds
    expand = Expansion(choice, about, profile)
    keys = [(env, arm, seed) for env in choice.envs or envs for arm in arms for seed in range(seeds)]
    return Study(
        name=choice.name,
        title=about["title"],
        about=about["about"],
        profile=choice.profile,
        needs_start=profile["needs_start"],
        control=about["control"],
        metrics=tuple(about["metrics"]),
        over_training=about.get("over_training", False),
        rows=tuple(row for key in keys for row in expand.rows(*key)),
        experts=_experts(choice, about),
        folder=choice.exp_dir / "study" / choice.name / f"{choice.profile}{choice.variant}",
        configs=expand.configs,
    )


def _experts(choice: Choice, about: Mapping[str, Any]) -> tuple[Row, ...]:
    """The experts on the environments' own tasks, of the same profile."""
    if ADAPTATION not in about["measures"] or about.get("tasks") or choice.name == EXPERTS:
        return ()
    chosen = Choice(EXPERTS, choice.profile, choice.exp_dir, arms=("expert",))
    return tuple(row for row in make(chosen).rows if row.arm == "expert")


@dataclass(frozen=True)
class Expansion:
    """Expands arms to rows.

    Attributes:
        configs: the configurations of the runs by folder, except for their seed.
        composed: the same by words, since composing one takes a fraction of a second.
    """

    choice: Choice
    about: Mapping[str, Any]  # the study's yaml
    profile: Mapping[str, Any]  # the profile's yaml
    configs: dict[Path, Config] = field(default_factory=dict)
    composed: dict[tuple[str, ...], Config] = field(default_factory=dict)

    def rows(self, env: str, arm: str, seed: int) -> Iterator[Row]:
        """The rows of one run: one, or one for each task or checkpoint."""
        own = self.about["arms"][arm]
        reference = [word for word in own if word.startswith("method=")]
        run = self._reference(env, seed) if reference else self._run(env, arm, seed)
        kinds = [ADAPTATION] if reference else self.about["measures"]
        for epoch in self._epochs(run):
            for task, words in self.about.get("tasks", {env: {"": []}})[env].items():
                settings = {kind: tuple(self.profile["measures"].get(kind, [])) for kind in kinds}
                if ADAPTATION in kinds:
                    settings[ADAPTATION] = self._adaptation(env, words, own if reference else [], seed)
                parts = tuple(Part(run, epoch, kind, settings[kind]) for kind in kinds)
                yield Row(env, arm, seed, task, epoch, run, parts)

    def _reference(self, env: str, seed: int) -> Run:
        """The place of adaptations without pretraining."""
        return Run(self.choice.exp_dir / "study/runs" / env / f"references/sd{seed:03d}", (), 0)

    def _adaptation(self, env: str, task: Sequence[str], own: Sequence[str], seed: int) -> tuple[str, ...]:
        """The arguments of csf adapt, except those that name its pretrained run and its folder."""
        world = self._world(env)
        if task:
            world = distinct([*world, f"env.id={BODY_TASK}", f"env.of={_value(world, 'env.id')}", *task])
        adapting = self.profile[ADAPTATION]
        words = [*world, *adapting["all"], *adapting.get(env, []), *own]
        words += adapting["expert"] if "method=expert" in own else []
        # The task has the environment's settings, and the adapted policy the layers of the pretrained one.
        words += [word for word in self.choice.words if word.startswith(("env.", "agent.backbone.hidden="))]
        return tuple(distinct([*words, f"seed={seed}"]))

    def _run(self, env: str, arm: str, seed: int) -> Run:
        own = [each for word in self.about["arms"][arm] for each in (UNTRAINED if word == "untrained" else (word,))]
        chosen = [*self._world(env), *self.profile["words"], *self._budget(env, own), *self.about["words"], *own]
        chosen += [*self.choice.words, *(word for word in own if word in UNTRAINED)]  # which stays untrained
        words = tuple(distinct([*chosen, f"exp_dir={self.choice.exp_dir}"]))
        if words not in self.composed:  # the seed is not in its identity
            self.composed[words] = compose.check(words)
        cfg = self.composed[words]
        world, method = names.folder(cfg.env["name"]), f"{cfg.agent.name}-{identity(cfg)}"
        name = f"study/runs/{world}/{method}/sd{seed:03d}"
        self.configs[cfg.exp_dir / name] = cfg
        return Run(cfg.exp_dir / name, (*words, f"seed={seed}", f"run_name={name}"), cfg.task.epochs)

    def _world(self, env: str) -> list[str]:
        """The words that choose an environment, with exogenous entries if the study has them."""
        words = list(self.profile["envs"][env])
        if not self.about.get("exogenous"):
            return words
        other = [f"env.id={EXOGENOUS}", f"env.of={_value(words, 'env.id')}"]
        return distinct([*words, *other, f"env.exogenous={self.about['exogenous']}"])

    def _budget(self, env: str, arm: Sequence[str]) -> list[str]:
        """The words of the profile for an environment and for the backbone of an arm."""
        backbone = next((word.partition("=")[2] for word in arm if word.startswith("agent/backbone=")), "sac")
        sections = (self.profile["skills"], self.profile["backbones"].get(backbone, {}))
        return [word for each in sections for key in ("all", env) for word in each.get(key, [])]

    def _epochs(self, run: Run) -> list[int]:
        """The epochs whose policies are measured: the last, or some that are spaced about evenly in their logarithm."""
        last, count = run.epochs, self.profile["points"]
        if not self.about.get("over_training") or not last:
            return [last]
        task = self.configs[run.folder].task
        saved = checkpoint.saved_epochs(last, task.save_every)
        kept = sorted(checkpoint.milestones(saved, task.keep_policy_every) | {last})  # those that a run does not delete
        return sorted({kept[round(i * (len(kept) - 1) / (count - 1))] for i in range(count)})


def _value(words: Sequence[str], key: str) -> str:
    """The value of a key among words."""
    return next(word.partition("=")[2] for word in words if word.startswith(f"{key}="))


def distinct(words: Sequence[str]) -> list[str]:
    """Keep the last of several words with the same key, in the order of first use."""
    kept: dict[str, str] = {}
    for word in words:
        kept[word.partition("=")[0].lstrip("+")] = word
    return list(kept.values())


def identity(cfg: Config) -> str:
    """A hash of what a run depends on, except its seed: all that it may not change when it is resumed, and its length.

    Settings that are null and missing settings are equal.
    """
    excluded = (MAY_CHANGE - {"task.epochs"}) | {"seed"}
    return digest({key: value for key, value in flat(cfg.tree).items() if key not in excluded and value is not None})


def digest(settings: Mapping[str, Any] | Sequence[str]) -> str:
    """A hash of plain data that does not depend on the order of keys."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]
