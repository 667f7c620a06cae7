"""What a study measures of a policy; every function returns numbers by the names of the table's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from csf.adapt import adapt, configure
from csf.agents import Agent
from csf.config.ranges import Count
from csf.config.values import typed
from csf.core.device import use_threads
from csf.errors import ConfigError, StudyError
from csf.evaluation.entropy import StateEntropy
from csf.evaluation.rollouts import isolated
from csf.io import checkpoint, files, policy
from csf.io.load import read
from csf.learners.rewards import rewards
from csf.pretrained import worlds_of
from csf.sampler import RolloutSampler
from csf.study import dimensions
from csf.study.information import held_out
from csf.study.plan import ADAPTATION, EXOGENOUS, Part
from csf.types import EnvSpec, Episodes
from csf.worlds import describe

SEED = 2_000_003  # offset to the seed: training, its evaluations and these episodes use different random numbers
ADAPTED = ("return_before", "return_after", "random")  # results of csf adapt
MAX_WORLDS = 64
STATES = 2_000  # of the picture of coverage, and the number on which entropy and cells are computed
MOST = 3  # dimensions in which cells are counted
CELL = 0.5  # side length of a cell, in standard deviations under random actions


@dataclass(frozen=True)
class Settings:
    """Settings of measurements without groups."""

    episodes: Count  # per skill
    skills: Count  # number of skills of a continuous prior; one-hot skills are all measured


@dataclass(frozen=True)
class Scene:
    """A policy and the means to collect its episodes."""

    agent: Agent
    sampler: RolloutSampler
    seed: int
    settings: Settings
    batch_size: int
    exogenous: int  # number of entries at the end of the observation that no action affects

    @property
    def spec(self) -> EnvSpec:
        """The environment."""
        return self.sampler.spec

    def skills(self) -> Tensor:
        """All one-hot skills [K, K], or samples of a continuous prior; one row without skills."""
        objective = self.agent.objective
        count = objective.skill_count(self.settings.skills)
        with isolated(self.agent, self.seed):
            return objective.evaluation_skills(count if objective.cfg.skill_dim else 1)

    def collect(self, part: int, mode: bool = True) -> tuple[Episodes, Tensor]:
        """Episodes of every skill, and the index of each episode's skill [N] int64.

        Args:
            part: episodes with different numbers have different random numbers.
            mode: whether the policy returns its mode instead of a sample.
        """
        skills = self.skills()
        index = torch.arange(len(skills)).repeat_interleave(self.settings.episodes)
        with isolated(self.agent, self.seed + part):
            return self.sampler.collect(self.agent.act, skills[index], mode, self.seed + part), index


def take(part: Part) -> int:
    """Take a measurement and write its result; returns the exit code."""
    if part.kind == ADAPTATION:
        return _adapt(part)
    use_threads(1)
    with opened(part) as (scene, about):
        found = KINDS[part.kind](scene)
        results = {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}
        arrays: dict[str, Any] = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
        part.file.parent.mkdir(exist_ok=True)
        if arrays:
            save = partial(np.savez_compressed, allow_pickle=False, **arrays)
            files.write(part.file.with_suffix(".npz"), save)
        keep(part, results, about)
    return 0


def _adapt(part: Part) -> int:
    """Adapt the best skill of the policy, or resume this; returns the exit code."""
    words = [*part.words, f"exp_dir={part.file.parent}", f"run_name={part.file.stem}"]
    about: Mapping[str, Any] = {}
    if part.run.epochs:
        words.append(f"cp_path={part.run.policy(part.epoch)}")
        about = policy.describe(part.run.policy(part.epoch))
    try:
        found = adapt(configure(words))
    except SystemExit as stopped:  # by a signal; the run has been saved
        return int(stopped.code or 0)
    results = {name: float(found[name]) for name in ADAPTED if found[name] is not None}
    keep(part, results | {"adaptation_steps": float(found["steps"])}, about)
    return 0


def keep(part: Part, results: Mapping[str, float], about: Mapping[str, Any]) -> None:
    """Write the result of a measurement, last of all that it writes.

    Args:
        part: the measurement.
        results: numbers by name.
        about: metadata of the policy.
    """
    counts = {key: about.get(key) for key in ("epoch", "env_steps", "gradient_steps")}
    lost = [name for name, value in results.items() if not np.isfinite(value)]
    if lost:
        raise StudyError(f"{part.kind} of {part.run.folder}: {lost[0]} is {results[lost[0]]}")
    content = {"settings": [*part.words], **counts, "results": dict(results), "versions": checkpoint.provenance()}
    part.file.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(part.file, content)


@contextmanager
def opened(part: Part) -> Iterator[tuple[Scene, dict[str, Any]]]:
    """Open the policy of a measurement and its worlds, and the policy's metadata."""
    words = dict(word.split("=", 1) for word in part.words)
    settings = typed(Settings, words, "measures")
    about, agent = read(part.run.policy(part.epoch))
    config = about["config"]
    count = max(1, agent.objective.skill_count(settings.skills))
    worlds = worlds_of(config, min(MAX_WORLDS, count * settings.episodes), None, torch.device("cpu"))
    spec = describe(worlds, agent.spec.id)
    sampler = RolloutSampler(worlds, spec, SEED + config["seed"], "cpu")
    exogenous = int(config["env"].get("exogenous", 0))
    try:
        yield Scene(agent, sampler, SEED + config["seed"], settings, config["task"]["batch_size"], exogenous), about
    finally:
        sampler.close()


def skills(scene: Scene) -> dict[str, Any]:
    """Intrinsic reward, information about skills on other episodes, best skill, and entropy of states.

    The best skill is chosen by the return of some episodes and measured on others, so that its return is not biased by
    the choice. Entropy is of sampled actions, since episodes of the mode are nearly equal. `reward` is the method's own
    reward per step, which differs between bounds; `information` does not.
    """
    (first, index), (second, _) = scene.collect(1), scene.collect(2)
    chosen = int(_returns(first, index).argmax())
    returns = _returns(second, index)
    found = {
        "reward": _reward(scene, second),
        "best_skill": float(chosen),
        "best_return": returns[chosen].item(),
        "mean_return": returns.mean().item(),
        **_accuracy(scene, second, index),
        **_spread(scene, scene.collect(3, mode=False)[0]),
    }
    count = int(index.max()) + 1
    if count > 1:
        found |= held_out(_labeled(first, index), _labeled(second, index), count, scene.seed)
    return found


def coverage(scene: Scene) -> dict[str, Any]:
    """Entropy and cells of the states of sampled actions, and some of these states with their skills."""
    episodes, index = scene.collect(3, mode=False)
    states, skill = _labeled(episodes, index)
    order = torch.randperm(len(states), generator=torch.Generator().manual_seed(0))[:STATES]
    return {**_spread(scene, episodes), "states": states[order].numpy(), "skill": skill[order].numpy()}


def representation(scene: Scene) -> dict[str, Any]:
    """Three measures of the entries of the observation, as means over controllable and over exogenous ones.

    Raises:
        ConfigError: the environment does not append exogenous entries.
    """
    if not (added := scene.exogenous):
        raise ConfigError(f"env={scene.spec.id} has no exogenous entries; accepted: env.id={EXOGENOUS}")
    (first, index), (second, _) = scene.collect(1, mode=False), scene.collect(2, mode=False)
    (x, _), (x_test, z_test) = _labeled(first, index), _labeled(second, index)
    trained = (dimensions.features(scene.agent, x), x)
    tested = (dimensions.features(scene.agent, x_test), x_test)
    found = {
        "information": dimensions.information(x_test, z_test, scene.agent.objective.cfg.skill_dim),
        "saliency": dimensions.saliency(scene.agent, x_test, z_test),
        "probe": dimensions.probe(trained, tested),
    }
    split = {"controllable": slice(None, -added), "exogenous": slice(-added, None)}
    return {f"{name}_{part}": row[rows].mean().item() for name, row in found.items() for part, rows in split.items()}


KINDS: dict[str, Callable[[Scene], dict[str, Any]]] = {
    "skills": skills,
    "coverage": coverage,
    "representation": representation,
}


def _returns(episodes: Episodes, index: Tensor) -> Tensor:
    """Mean return of every skill, [K] float64."""
    one_hot = F.one_hot(index).double()
    return episodes.returns() @ one_hot / one_hot.sum(0)


def _labeled(episodes: Episodes, index: Tensor) -> tuple[Tensor, Tensor]:
    """States after every step [M, O] float32, and the indices of their skills [M]."""
    steps = episodes.steps()
    return episodes.transitions().next_obs, index[:, None].expand(steps.shape)[steps]


def _reward(scene: Scene, episodes: Episodes) -> float:
    """Mean intrinsic reward of a step; 0 without skills."""
    with isolated(scene.agent, scene.seed), torch.no_grad():
        return rewards(scene.agent.objective, episodes.transitions(), scene.batch_size).mean().item()


def _accuracy(scene: Scene, episodes: Episodes, index: Tensor) -> dict[str, float]:
    """Fraction of states at which the own skill has the critic's largest score; empty without scores of skills."""
    states, skill = _labeled(episodes, index)
    objective = scene.agent.objective
    if objective.prior != "one_hot":
        return {}
    scores = scene.agent.represent(states)
    if scores is None or scores.shape[1] != objective.cfg.skill_dim:
        return {}
    return {"accuracy": (scores.argmax(-1) == skill).float().mean().item()}


def _spread(scene: Scene, episodes: Episodes) -> dict[str, float]:
    """Entropy of a sample of states and the number of cells with one, in units of random actions' deviations.

    With coordinates, these are replaced by the measures of the environment. Cells are counted only in up to `MOST`
    dimensions, since in more of them every state has a cell of its own.
    """
    kept = episodes.length > 0
    if scene.spec.coord_dim:
        return scene.sampler.env.measure(episodes.coord[kept].numpy(), episodes.length[kept].numpy())
    entropy = StateEntropy(scene.seed)
    found = {key.removeprefix("eval/"): value for key, value in entropy(scene.sampler, episodes).items()}
    states = entropy.scaled(scene.sampler, episodes)
    if states.shape[1] <= MOST:
        found["cells"] = float(len((states / CELL).floor().unique(dim=0)))
    return found
