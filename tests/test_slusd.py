"""agent=slusd: what each setting does, which combinations are refused, and that it learns skills."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from conftest import IMAGE, ROOT, SMALL, SPEC, batch, configure, make
from torch import Tensor

import csf
from csf.agents import Agent
from csf.config.schema import Config
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.mi.bounds import info_nce, interpolated, tuba
from csf.mi.regularizers import Mixup
from csf.sampler import RolloutSampler
from csf.types import Batch, EnvSpec
from csf.worlds import make_worlds

WORDS = ["agent.skill_dim=5"]


@functools.cache
def composed() -> Config:
    """The configuration that the tests vary; composing one for every case would take most of their time."""
    return configure("agent=slusd", *SMALL, *WORDS)


def varied(*words: str) -> Any:
    """The section of the agent with some settings changed."""
    pairs = (word.removeprefix("agent.").split("=") for word in words)
    return dataclasses.replace(composed().agent, **{key: yaml.safe_load(value) for key, value in pairs})


def build(*words: str, spec: EnvSpec = SPEC) -> Agent:
    torch.manual_seed(0)
    return Agent(varied(*words), composed().backbone, spec)


def sample(agent: Agent, size: int = 32) -> Batch:
    torch.manual_seed(1)
    return batch(agent, size)


# ---- the method


def test_the_classifier_with_all_skills_is_diayn() -> None:
    slusd, diayn = build().objective, make("diayn", *WORDS).objective
    theirs: Any = diayn
    layers = dict(slusd.critic.net.state_dict())  # type: ignore[union-attr]
    theirs.discriminator.load_state_dict(layers)
    given = batch(build())
    torch.testing.assert_close(slusd.loss(given)[0], diayn.loss(given)[0])
    torch.testing.assert_close(slusd.reward(given), diayn.reward(given))


@pytest.mark.parametrize("candidates", ["all", "batch", "states"])
@pytest.mark.parametrize("bound", ["tuba", "nwj", "nce", "alpha"])
@pytest.mark.parametrize("critic", ["mlp", "linear", "separable", "concat"])
def test_loss_and_reward_are_the_bound_of_the_candidates(critic: str, bound: str, candidates: str) -> None:
    words = [f"agent.critic={critic}", f"agent.bound={bound}", f"agent.candidates={candidates}"]
    agent = build(*words, "agent.alpha=0.3", "agent.temperature=0.7")
    given = sample(agent)
    objective: Any = agent.objective
    own = given.skill.argmax(-1)
    table = objective.critic(given.next_obs, torch.eye(5)) / 0.7
    rows = {"all": table, "batch": table[:, own], "states": table[:, own].T}[candidates]
    column = own if candidates == "all" else torch.arange(32)
    whole = candidates == "all"
    want = {
        "tuba": tuba(rows, column, 0.0, whole),
        "nwj": tuba(rows, column, 1.0, whole),
        "nce": info_nce(rows, column),
        "alpha": interpolated(rows, column, 1.0, 0.3, whole),
    }[bound]
    torch.testing.assert_close(objective.reward(given), want)
    torch.testing.assert_close(objective.loss(given)[0], -want.mean())


def test_fresh_candidates_are_drawn_again_at_every_call() -> None:
    agent = build("agent.bound=nce", "agent.candidates=fresh", "agent.num_fresh=3")
    given = sample(agent)
    values = {agent.objective.reward(given).sum().item() for _ in range(10)}
    assert len(values) > 5
    found = agent.objective.select(torch.zeros(32, 5), given.skill.argmax(-1))  # type: ignore[operator]
    assert found.scores.shape == (32, 4)


def test_a_learned_baseline_is_used_and_trained() -> None:
    agent = build("agent.bound=tuba", "agent.learned_baseline=true")
    given = sample(agent)
    objective: Any = agent.objective
    table, level = objective.critic(given.next_obs, torch.eye(5)), objective.baseline(given.next_obs).squeeze(-1)
    torch.testing.assert_close(objective.reward(given), tuba(table, given.skill.argmax(-1), level, True))
    before = objective.baseline[1].weight.clone()
    agent.update(given)
    assert not torch.equal(objective.baseline[1].weight, before)


def test_the_temperature_divides_scores_in_loss_and_reward() -> None:
    agent, cold = build("agent.critic=linear"), build("agent.critic=linear", "agent.temperature=0.5")
    objective: Any = agent.objective
    given = sample(agent)
    with torch.no_grad():
        for param in objective.critic.parameters():
            param.mul_(2)
    torch.testing.assert_close(cold.objective.reward(given), objective.reward(given))
    torch.testing.assert_close(cold.objective.loss(given)[0], objective.loss(given)[0])


def test_the_policy_learns_from_the_current_critic_at_the_next_state() -> None:
    agent = build("agent.dropout=0.5")
    given = sample(agent)
    stale = agent.objective.reward(given).mean()
    metrics = agent.update(given)
    torch.testing.assert_close(metrics["reward/mean"], agent.objective.reward(given).mean())
    assert not torch.isclose(metrics["reward/mean"], stale)
    elsewhere = given._replace(obs=torch.randn_like(given.obs), action=-given.action)
    torch.testing.assert_close(agent.objective.reward(elsewhere), agent.objective.reward(given))
    assert not torch.allclose(agent.objective.reward(given._replace(next_obs=given.obs)), agent.objective.reward(given))


def test_the_first_skill_can_be_selected() -> None:
    agent = build("agent.critic=linear")
    objective: Any = agent.objective
    for skill in (0, 4):
        with torch.no_grad():
            objective.critic.net[-1].bias.copy_(100 * torch.eye(5)[skill])
        found = agent.goal_skill(torch.randn(3, 3), torch.randn(3, 3))
        assert found is not None
        assert found.argmax(-1).tolist() == [skill] * 3


# ---- regularizers

REGULARIZERS = [
    "weight_decay=0.1",
    "dropout=0.5",
    "gradient_penalty=5",
    "label_smoothing=0.2",
    "mixup=0.4",
    "spectral_norm=true",
    "batch_norm=true",
    "layer_norm=true",
    "input_noise=0.5",
    "gradient_clip=0.01",
]


def gradients(agent: Agent, given: Batch) -> list[Tensor]:
    """The gradients that an update of the critic follows."""
    agent.objective.update(given)
    return [copy.deepcopy(param.grad) for param in agent.objective.minimizers["representation"].params]  # type: ignore[misc]


@pytest.mark.parametrize("critic", ["mlp", "separable", "concat"])
@pytest.mark.parametrize("words", REGULARIZERS)
def test_every_regularizer_changes_an_update(words: str, critic: str) -> None:
    plain, regularized = build(f"agent.critic={critic}"), build(f"agent.critic={critic}", f"agent.{words}")
    given = sample(plain)
    assert plain.objective.update(given).keys() <= regularized.objective.update(given).keys()
    ours, theirs = (dict(agent.objective.named_parameters()) for agent in (plain, regularized))
    shared = [key for key in ours if key in theirs and ours[key].shape == theirs[key].shape]
    assert any(not torch.allclose(ours[key], theirs[key], atol=1e-6) for key in shared)


@pytest.mark.parametrize("words", ["dropout=0.5", "input_noise=0.5", "mixup=0.4", "batch_norm=true"])
def test_regularizers_of_the_loss_do_not_touch_the_reward(words: str) -> None:
    agent = build(f"agent.{words}")
    given = sample(agent, 6)
    reward = agent.objective.reward(given)
    assert torch.equal(agent.objective.reward(given), reward)
    alone = agent.objective.reward(Batch(*(rows[:2] for rows in given)))
    torch.testing.assert_close(alone, reward[:2])
    state = {key: value.clone() for key, value in agent.objective.state_dict().items()}
    agent.objective.reward(given)
    assert all(torch.equal(value, state[key]) for key, value in agent.objective.state_dict().items())


def test_the_gradient_penalty_counts_in_the_gradient() -> None:
    plain, penalized = build(), build("agent.gradient_penalty=5")
    given = sample(plain)
    assert any(
        not torch.allclose(a, b) for a, b in zip(*(gradients(each, given) for each in (plain, penalized)), strict=True)
    )


@pytest.mark.parametrize("over", ["sample", "batch"])
@pytest.mark.parametrize("critic", ["mlp", "separable", "concat"])
def test_the_gradient_penalty_counts_for_mixed_states(critic: str, over: str) -> None:
    words = [f"agent.critic={critic}", "agent.mixup=0.4", f"agent.penalty_over={over}"]
    plain, penalized = build(*words), build(*words, "agent.gradient_penalty=5")
    given = sample(plain)
    found = []
    for agent in (plain, penalized):
        torch.manual_seed(1)  # the same mixture
        found.append(gradients(agent, given))
    assert any(not torch.allclose(a, b) for a, b in zip(*found, strict=True))


def test_clipping_limits_the_gradient_of_all_parameters_together() -> None:
    plain, clipped = build(), build("agent.gradient_clip=0.01")
    given = sample(plain)
    sizes = [torch.stack([grad.norm() for grad in gradients(each, given)]).norm().item() for each in (plain, clipped)]
    assert sizes[0] > 0.02
    assert sizes[1] == pytest.approx(0.01, rel=1e-3)


def test_weight_decay_and_clipping_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(4))
    theirs = torch.nn.Parameter(ours.detach().clone())
    minimizer, adam = Minimizer([ours], 0.1, 0.3, 0.5), torch.optim.Adam([theirs], 0.1, weight_decay=0.3)
    for _ in range(3):
        minimizer.step(ours.square().sum())
        adam.zero_grad()
        theirs.square().sum().backward()
        torch.nn.utils.clip_grad_norm_([theirs], 0.5)
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_mixup_mixes_the_targets_of_states_that_it_mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    mix = Mixup(torch.tensor(0.3), torch.arange(32).flip(0))
    monkeypatch.setattr(Mixup, "draw", lambda *_: mix)
    agent = build("agent.mixup=0.4")
    given, objective = sample(agent), cast(Any, agent.objective)
    states, skills = (0.3 * rows + 0.7 * rows.flip(0) for rows in (given.next_obs, given.skill))
    want = (skills * objective.represent(states).log_softmax(-1)).sum(-1).mean() + math.log(5)
    torch.testing.assert_close(objective.loss(given)[0], -want)


def test_images_are_regularized_by_their_features() -> None:
    words = ["agent.gradient_penalty=1", "agent.mixup=0.4", "agent.input_noise=0.1", "agent.critic=separable"]
    agent = build(*words, spec=IMAGE)
    metrics = agent.objective.update(batch(agent, 4))
    assert all(torch.isfinite(value) for value in metrics.values())


# ---- combinations


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["candidates=batch"], "candidates is batch; accepted with agent.bound=ba: all; with agent.bound=nce, any"),
        (["candidates=states"], "candidates is states; accepted with agent.bound=ba: all"),
        (
            ["learned_baseline=true"],
            "learned_baseline is true; accepted with agent.bound=ba: false; with .*tuba or alpha",
        ),
        (["learned_baseline=true", "bound=nwj"], "learned_baseline is true; accepted with agent.bound=nwj: false"),
        (
            ["learned_baseline=true", "bound=tuba", "candidates=states"],
            "learned_baseline is true; accepted with agent.candidates=states: false",
        ),
        (["mixup=0.4", "bound=nwj"], "mixup is 0.4; accepted with agent.bound=nwj: 0; with agent.bound=ba or nce"),
        (["label_smoothing=0.2", "bound=alpha"], "label_smoothing is 0.2; accepted with agent.bound=alpha: 0"),
        (["mixup=0.4", "bound=nce", "candidates=fresh"], "mixup is 0.4; accepted with agent.candidates=fresh: 0"),
        (["dropout=0.5", "critic=linear"], "dropout is 0.5; accepted with agent.critic=linear: 0, because"),
        (["spectral_norm=true", "hidden=[]"], "spectral_norm is true; accepted with agent.hidden=.*: false, because"),
        (["batch_norm=true", "layer_norm=true"], "layer_norm is true; accepted with agent.batch_norm=true: false"),
        (
            ["gradient_penalty=1", "batch_norm=true"],
            "penalty_over is sample; accepted with agent.batch_norm=true: batch",
        ),
        (
            ["gradient_penalty=1", "bound=nwj", "candidates=states"],
            "penalty_over is sample; accepted with agent.candidates=states: batch",
        ),
        (["dropout=1"], "dropout is 1.0; accepted: a number of at least 0 and at most 0.99"),
        (["bound=infonce"], "bound is 'infonce'; accepted: ba, tuba, nwj, nce, alpha"),
        (["temperature=0"], "temperature is 0.0; accepted: a number above 0"),
    ],
)
def test_combinations_that_are_refused_when_the_configuration_is_read(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^agent\.{message}"):
        configure("agent=slusd", *(f"agent.{word}" for word in words))


@pytest.mark.parametrize("bound", ["tuba", "nwj", "nce", "alpha"])
@pytest.mark.parametrize("candidates", ["all", "batch", "fresh", "states"])
def test_every_other_bound_takes_every_kind_of_candidates(bound: str, candidates: str) -> None:
    for critic in ("mlp", "linear", "separable", "concat"):
        varied(f"bound={bound}", f"candidates={candidates}", f"critic={critic}")


# ---- learning


def train(folder: Path, *words: str) -> list[dict[str, float]]:
    """The rows of a run by the program that users run."""
    settings = [*words, f"exp_dir={folder.parent}", f"run_name={folder.name}", "device=cpu", "threads=1"]
    command = [sys.executable, "-m", "csf.train", "agent=slusd", *settings]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


POINT = {
    "classifier": ["agent.bound=ba", "agent.critic=mlp"],
    "cosines": ["agent.bound=alpha", "agent.candidates=batch", "agent.critic=separable", "agent.temperature=0.1"],
}


@pytest.mark.long
@pytest.mark.parametrize("words", POINT.values(), ids=POINT)
def test_its_skills_reach_goals_on_the_plane_and_those_of_an_untrained_agent_do_not(
    words: list[str], tmp_path: Path
) -> None:
    rows = train(tmp_path / "run", "env=point", *words)
    first, last = rows[0], rows[-1]
    assert (first["epoch"], last["epoch"]) == (0, 40)
    assert last["eval/goal/distance"] < 0.7 < first["eval/goal/distance"]
    assert last["eval/goal/hit_0.3"] > 0.25 > first["eval/goal/hit_0.3"]
    assert last["eval/coverage"] > 5 * first["eval/coverage"]
    assert last["bound/accuracy"] > 4 / 16


CAR = [
    "env=gym",
    "env.max_steps=200",
    "task=fast",
    "task.replay_size=1000000",
    "agent.skill_dim=10",
    "agent.hidden=[64,64]",
    "agent.lr=3e-3",
]
CAR += ["agent.backbone.hidden=[64,64]", "agent.backbone.init_alpha=0.01", "task.updates_per_epoch=50"]
CAR += ["task.batch_size=128", "task.min_replay_size=1600", "task.epochs=60"]


def told_apart(agent: Agent) -> float:
    """Fraction of states in new episodes from which the critic identifies the skill."""
    worlds = make_worlds({"name": agent.spec.id, "max_steps": 200}, 20)
    sampler = RolloutSampler(worlds, agent.spec, 5, "cpu")
    steps = sampler.collect(agent.act, agent.objective.evaluation_skills(20)).transitions()
    with torch.no_grad():
        scores = agent.objective.represent(steps.next_obs)
    assert scores is not None
    return (scores.argmax(-1) == steps.skill.argmax(-1)).float().mean().item()


@pytest.mark.long
def test_skills_of_the_mountain_car_can_be_told_apart(tmp_path: Path) -> None:
    """Three times as often as by chance, 1 / 10."""
    train(tmp_path / "trained", *CAR)
    assert told_apart(csf.load(tmp_path / "trained")) > 0.3
    train(tmp_path / "untrained", *CAR, "task.epochs=1", "task.min_replay_size=100000")
    assert told_apart(csf.load(tmp_path / "untrained")) < 0.2
