"""Learners own collection and learning: every backbone resumes bit for bit, and new kinds need no edit elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from conftest import NAMES
from gymnasium.spaces import Discrete
from runs import TINY, different, rows
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import csf
from csf import run as entry
from csf.agents import Agent, Objective, objectives
from csf.backbones import Backbone, BackboneConfig, backbones
from csf.config import compose
from csf.config.compose import check
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.io import checkpoint, policy
from csf.learners import Learner, learners
from csf.nets.mlp import mlp
from csf.pretrained import worlds_of
from csf.run import Run
from csf.types import Batch, EnvSpec, Episodes, Metrics, Rewarder, Sampler, SomeObs, Worlds

CPU = torch.device("cpu")
EPOCHS, SAVED = 4, 2


def run(folder: Path, epochs: int, *words: str) -> Agent:
    """A whole run in this process; its agent."""
    tiny = [word for word in TINY if "num_negatives" not in word or "agent=csf" in words]
    settings = [*tiny, f"exp_dir={folder.parent}", f"run_name={folder.name}", f"task.save_every={SAVED}", *words]
    with Run(check([*settings, f"task.epochs={epochs}"]), CPU) as whole:
        assert whole.train() == 0
        return whole.agent


def final(folder: Path) -> dict[str, Any]:
    """The last full checkpoint but for where it is, and how long the logs were."""
    state = checkpoint.load(folder / "checkpoints" / checkpoint.FULL.format(EPOCHS))
    del state["config"]["exp_dir"], state["config"]["run_name"], state["parts"]["logger"]
    return state


def timeless(folder: Path) -> list[dict[str, float]]:
    """What training logged, without times and evaluations, which follow the last epoch that is asked for."""
    left_out = ("time/", "eval/", "phi/rank", "phi/singular_ratio")
    return [{key: value for key, value in row.items() if not key.startswith(left_out)} for row in rows(folder)]


def check_resumed(tmp_path: Path, *words: str) -> None:
    """A run that stopped at a saved epoch and was resumed ends as one that was not."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    run(whole, EPOCHS, *words)
    run(resumed, SAVED, *words)
    torch.manual_seed(99)  # what the process did before must not matter
    run(resumed, EPOCHS, *words)
    assert [path for path in different(final(resumed), final(whole)) if not path.startswith("/results")] == []
    assert timeless(resumed) == timeless(whole)


# ---- every method on every backbone


class FourWays:
    """The worlds of the point with one-hot actions: a step to one of four sides."""

    def __init__(self, worlds: Worlds) -> None:
        self.worlds, self.single_action_space = worlds, Discrete(4)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.worlds, name)

    def step(self, actions: np.ndarray) -> Any:
        assert set(actions.ravel().tolist()) <= {0, 1}
        return self.worlds.step(actions @ np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32))


@pytest.fixture
def no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "suite", lambda *_: [])


KINDS = [("sac", False), ("successor", False), ("ppo", False), ("discrete_sac", True), ("ppo", True)]
KINDS += [("es", False), ("es", True), ("pets", False)]
LOGGED = {"es": "fitness/mean", "pets": "loss/model"}  # others: loss/actor


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize(("backbone", "discrete"), KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_resumed_bit_for_bit(
    name: str, backbone: str, discrete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if discrete:
        make = worlds_of
        monkeypatch.setattr(entry, "worlds_of", lambda *args: FourWays(make(*args)))
    words: tuple[str, ...] = (f"agent={name}", f"agent/backbone={backbone}")
    if backbone == "successor" and objectives[name].cumulant is Objective.cumulant:
        with pytest.raises(ConfigError, match="needs a reward that is linear in the skill"):
            run(tmp_path / "run", 1, *words)
        return
    if backbone == "pets":
        words = (*words, "agent.backbone.candidates=9", "agent.backbone.horizon=3")
        if name in ("cic", "task"):
            with pytest.raises(ConfigError, match="needs rewards of single predicted transitions"):
                run(tmp_path / "run", 1, *words)
            return
    check_resumed(tmp_path, *words)
    learned = [row for row in rows(tmp_path / "whole") if LOGGED.get(backbone, "loss/actor") in row]
    assert len(learned) == (EPOCHS if backbone == "ppo" else EPOCHS - 1)
    assert rows(tmp_path / "whole")[-1]["env_steps"] == EPOCHS * 4 * 5  # the same for every backbone


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("name", NAMES)
def test_modules_are_in_the_modes_of_their_construction(name: str, tmp_path: Path) -> None:
    """A resumed run has new modules, so that training must leave no other modes behind."""
    agent = run(tmp_path / "run", 2, f"agent={name}", "agent/backbone=sac")
    fresh = Agent(agent.objective.cfg, agent.backbone.cfg, agent.spec)
    modes = [{key: module.training for key, module in each.named_modules()} for each in (agent, fresh)]
    assert modes[0] == modes[1]


# ---- batches that are too small


@pytest.mark.usefixtures("no_evaluation")
@pytest.mark.parametrize("backbone", ["sac", "ppo"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_has_as_many_transitions_as_method_and_backbone_need(name: str, backbone: str, tmp_path: Path) -> None:
    """From the least on every number is finite: a run ends otherwise."""
    few = ["agent.neighbors=1"] if name == "cic" else []
    words = (f"agent={name}", f"agent/backbone={backbone}", *few)
    needs = {
        f"agent={name}": 2 if name in ("cic", "dads") else 1,
        f"agent/backbone={backbone}": 2 if backbone == "ppo" else 1,
    }
    least = max(needs.values())
    run(tmp_path / "run", EPOCHS, *words, f"task.batch_size={least}")
    assert any("loss/actor" in row for row in rows(tmp_path / "run"))
    if least > 1:
        who = next(key for key, count in needs.items() if count == least)
        with pytest.raises(ConfigError, match=f"^task.batch_size is 1; accepted with {who}: at least 2$"):
            run(tmp_path / "other", 1, *words, "task.batch_size=1")
        assert not (tmp_path / "other").exists()


def test_skills_that_are_centered_must_be_several(tmp_path: Path) -> None:
    words = ("agent=metra", "agent.prior=one_hot", "agent.skill_dim=1")
    message = "^agent.skill_dim is 1; accepted with agent.prior=one_hot: an integer of at least 2$"
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "run", 1, *words)
    assert not (tmp_path / "run").exists()


# ---- a learner that collects with several policies


@dataclass(frozen=True)
class EvolutionConfig(BackboneConfig):
    hidden: tuple[int, ...]
    lr: float
    spread: float


class Evolution(Backbone):
    """An actor that is moved towards those of its perturbed copies that collected more reward."""

    Config: ClassVar[type[BackboneConfig]] = EvolutionConfig
    learner = "evolution"

    def __init__(self, cfg: EvolutionConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        self.actor = self.make_actor(cfg.hidden)
        self.minimizers = {}

    def update(self, batch: tuple[Tensor, Tensor], objective: Rewarder) -> Metrics:
        noise, fitness = batch
        center = parameters_to_vector(self.actor.parameters()).detach()
        score = (fitness - fitness.mean()) / (fitness.std() + 1e-8)
        vector_to_parameters(center + self.cfg.lr * (score[:, None] * noise).mean(0), self.actor.parameters())
        return {"evolution/fitness": fitness.mean()}


class EvolutionLearner(Learner):
    """A population of actors, each of which runs one episode per skill."""

    population = 3
    noise: Tensor
    generation = 0

    def collect(self, sampler: Sampler, skills: Tensor) -> Episodes:
        params = list(self.agent.backbone.actor.parameters())
        center = parameters_to_vector(params).detach()
        self.noise = torch.randn(self.population, len(center))
        parts = []
        for noise in self.noise:
            vector_to_parameters(center + self.agent.backbone.cfg.spread * noise, params)
            parts.append(sampler.collect(self.agent.act, skills))
        vector_to_parameters(center, params)
        return Episodes(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def learn(self, episodes: Episodes) -> dict[str, float]:
        batch = episodes.transitions()
        metrics = self.agent.objective.update(batch)
        with torch.no_grad():
            fitness = self.agent.objective.reward(batch).view(self.population, -1).sum(1)
        metrics |= self.agent.backbone.update((self.noise, fitness), self.agent.objective)
        self.generation += 1
        self.gradient_steps += 1
        return {name: value.item() for name, value in metrics.items()}

    def full_state(self) -> dict[str, Any]:
        return {**super().full_state(), "generation": self.generation}

    def load_full_state(self, state: dict[str, Any]) -> None:
        super().load_full_state(state)
        self.generation = state["generation"]


# ---- a backbone that plans


@dataclass(frozen=True)
class PlannerConfig(BackboneConfig):
    hidden: tuple[int, ...]
    lr: float
    candidates: int


class Planner(Backbone):
    """Takes that of several random actions to whose predicted outcome the objective gives the highest reward."""

    Config: ClassVar[type[BackboneConfig]] = PlannerConfig
    policy_parts = ("model", "scale")

    def __init__(self, cfg: PlannerConfig, spec: EnvSpec, skill_dim: int) -> None:
        super().__init__(cfg, spec, skill_dim)
        self.model = mlp([spec.obs_dim + spec.action_dim, *cfg.hidden, spec.obs_dim])
        self.critic = mlp([spec.obs_dim, 1])  # not needed to act
        self.scale = nn.Parameter(torch.ones(()))
        self.minimizers = {"model": Minimizer([*self.model.parameters(), self.scale], cfg.lr)}

    def predict(self, obs: Tensor, action: Tensor) -> Tensor:
        change: Tensor = self.scale * self.model(torch.cat([obs, action], -1))
        return obs + change

    def act(self, obs: SomeObs, skill: Tensor, mode: bool, objective: Rewarder) -> Tensor:
        count, n = self.cfg.candidates, len(obs)
        steps = torch.linspace(-1, 1, count)[:, None, None].expand(count, n, self.spec.action_dim)
        actions = steps if mode else 2 * torch.rand_like(steps) - 1
        many = [rows.expand(count, *rows.shape).flatten(0, 1) for rows in (obs, skill)]
        action, nothing = actions.flatten(0, 1), torch.zeros(count * n)
        batch = Batch(many[0], action, self.predict(many[0], action), nothing, nothing, many[1])
        best = objective.reward(batch).view(count, n).argmax(0)
        return actions[best, torch.arange(n)]

    def update(self, batch: Batch, objective: Rewarder) -> Metrics:
        error = self.predict(batch.obs, batch.action) - batch.next_obs
        return {"loss/model": self.minimizers["model"].step(error.square().mean())}


# ---- both are ordinary


@pytest.fixture
def newcomers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both backbones and the learner, registered as an import would do it, with their yaml beside the others."""
    folder = tmp_path / "configs"
    shutil.copytree(compose.CONFIGS, folder)
    settings: dict[str, dict[str, float]] = {"evolution": {"spread": 0.1}, "planner": {"candidates": 5}}
    for name, more in settings.items():
        text = yaml.safe_dump({"name": name, "hidden": [8], "lr": 0.1, **more})
        (folder / f"agent/backbone/{name}.yaml").write_text(text)
    monkeypatch.setattr(compose, "CONFIGS", folder)
    with monkeypatch.context() as patch:
        patch.setattr(backbones, "_items", dict(backbones._items))
        patch.setattr(learners, "_items", dict(learners._items))
        backbones("evolution")(Evolution)
        backbones("planner")(Planner)
        learners("evolution")(EvolutionLearner)
        yield


both = pytest.mark.parametrize("backbone", ["evolution", "planner"])


@pytest.mark.usefixtures("newcomers")
@both
def test_a_newcomer_is_trained_and_resumed_bit_for_bit(backbone: str, tmp_path: Path) -> None:
    check_resumed(tmp_path, "agent=csf", f"agent/backbone={backbone}")
    (*_, last) = rows(tmp_path / "whole")
    assert {"eval/coverage", "loss/representation"} <= last.keys()
    if backbone == "evolution":
        assert last["env_steps"] == EPOCHS * 3 * 4 * 5  # a population of 3, 4 skills, 5 steps
        assert last["gradient_steps"] == final(tmp_path / "whole")["parts"]["learner"]["generation"] == EPOCHS
    else:
        assert last["env_steps"] == EPOCHS * 4 * 5
        assert last["loss/model"] > 0


@pytest.mark.usefixtures("newcomers")
@both
def test_what_a_newcomer_needs_to_act_is_saved_and_loaded(backbone: str, tmp_path: Path) -> None:
    agent = run(tmp_path / "run", 2, "agent=csf", f"agent/backbone={backbone}").eval()
    loaded = csf.load(tmp_path / "run")
    obs, skill = torch.randn(6, 2), agent.sample_skills(6)
    assert torch.equal(loaded.act(obs, skill, True), agent.act(obs, skill, True))
    names = policy.load(tmp_path / "run/checkpoints/policy_000002.safetensors")[1].policy_state().keys()
    parts = {name.split(".")[1] for name in names if name.startswith("backbone.")}
    assert parts == {"evolution": {"actor"}, "planner": {"model", "scale"}}[backbone]


@pytest.mark.usefixtures("newcomers")
def test_a_planner_asks_the_objective_while_it_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = run(tmp_path / "run", 2, "agent=csf", "agent/backbone=planner")
    obs, skill = torch.zeros(1, 2), agent.sample_skills(1)
    reward: Callable[[Batch], Tensor] = agent.objective.reward
    chosen = agent.act(obs, skill, True)
    monkeypatch.setattr(agent.objective, "reward", lambda batch: -reward(batch))
    assert not torch.equal(agent.act(obs, skill, True), chosen)


@pytest.mark.usefixtures("newcomers", "no_evaluation")
def test_a_population_collects_with_perturbed_actors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[Episodes] = []
    learn = EvolutionLearner.learn

    def noted(self: EvolutionLearner, episodes: Episodes) -> dict[str, float]:
        collected.append(episodes)
        return learn(self, episodes)

    monkeypatch.setattr(EvolutionLearner, "learn", noted)
    run(tmp_path / "run", 1, "agent=csf", "agent/backbone=evolution")
    (found,) = collected
    assert torch.equal(found.skill.view(3, 4, 2), found.skill[:4].expand(3, 4, 2))
    first = found.action[:, 0].view(3, 4, -1)
    assert not torch.equal(first[0], first[1])
