"""Evolution strategies: ranks, mirrored pairs, the estimated gradient, and that skills emerge on the plane."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import torch
from conftest import SPEC, configure
from reach import Reaching
from test_learning import read, train
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from csf.agents import Agent
from csf.backbones.es import ES, centered_ranks
from csf.errors import ConfigError
from csf.learners import EpochBudget
from csf.learners.population import PopulationLearner
from csf.sampler import RolloutSampler
from csf.types import Episodes, Generation, Rewarder
from csf.worlds import describe
from envs import make_vec

NONE = cast(Rewarder, None)


def make(*overrides: str, discrete: bool = False, agent: str = "diayn") -> Agent:
    words = (f"agent={agent}", "agent/backbone=es", "agent.backbone.hidden=[16]", *overrides)
    cfg = configure(*words)
    return Agent(cfg.agent, cfg.backbone, dataclasses.replace(SPEC, obs_shape=(2,), discrete=discrete))


def es(agent: Agent) -> ES:
    return cast(ES, agent.backbone)


def learner_of(agent: Agent, episodes: int = 8, **limits: int) -> PopulationLearner:
    budget = {"updates_per_epoch": 3, "batch_size": 16, "replay_size": 1000, "min_replay_size": 1, **limits}
    return PopulationLearner(agent, EpochBudget(episodes_per_epoch=episodes, **budget), "cpu")


def collected(agent: Agent, learner: PopulationLearner, worlds: int = 8) -> Episodes:
    env: Any = make_vec("point", worlds)
    return learner.collect(RolloutSampler(env, describe(env, "point"), 0, "cpu"), agent.objective.sample_skills(worlds))


def flat(agent: Agent) -> Tensor:
    return parameters_to_vector(es(agent).actor.parameters()).detach().clone()


# ---- ranks


def test_ranks_are_centered_and_equal_for_equal_fitness() -> None:
    found = centered_ranks(torch.tensor([3.0, -100.0, 7.0, 3.0, 1e9]))
    torch.testing.assert_close(found, torch.tensor([-0.125, -0.5, 0.25, -0.125, 0.5]))
    assert not centered_ranks(torch.ones(6)).any()


# ---- a population


@pytest.mark.parametrize("discrete", [False, True])
def test_members_act_as_policies_with_their_parameters_would(discrete: bool) -> None:
    torch.manual_seed(0)
    agent = make("agent.backbone.spread=0.3", discrete=discrete)
    pairs, rows = 3, 4
    noise = es(agent).draw_noise(pairs)
    obs, skill = torch.randn(2 * pairs * rows, 2), agent.objective.sample_skills(2 * pairs * rows)
    found = es(agent).population(noise)(obs, skill)
    center = flat(agent)
    want = []
    for i, signed in enumerate(torch.cat([noise, -noise])):
        vector_to_parameters(center + 0.3 * signed, es(agent).actor.parameters())
        own = slice(i * rows, (i + 1) * rows)
        want.append(agent.act(obs[own], skill[own]))
    torch.testing.assert_close(found, torch.cat(want))
    assert not torch.equal(found[:rows], found[rows : 2 * rows])


def test_members_have_noise_of_their_own_and_none_on_unused_parameters() -> None:
    agent = make()
    noise = es(agent).draw_noise(5)
    assert len({tuple(row.tolist()) for row in noise}) == 5
    params = dict(es(agent).actor.named_parameters())
    parts = dict(zip(params, noise.split([param.numel() for param in params.values()], 1), strict=True))
    heads = parts["heads.weight"].view(5, 2, SPEC.action_dim, -1)
    assert heads[:, 0].all()
    assert not heads[:, 1].any()  # of the standard deviation, which the mode does not depend on
    assert all(rows.all() for name, rows in parts.items() if not name.startswith("heads."))


def test_both_members_of_a_pair_have_the_same_skills_and_seeds() -> None:
    torch.manual_seed(0)
    agent = make()
    learner = learner_of(agent)
    with mock.patch.object(RolloutSampler, "collect", autospec=True, side_effect=RolloutSampler.collect) as collect:
        found = collected(agent, learner)
    assert collect.call_args.kwargs == {"twins": True}
    plus, minus = found.skill.chunk(2)
    assert torch.equal(plus, minus)
    assert learner.noise.shape[0] == 4
    assert not torch.equal(*found.action.chunk(2))


def test_twins_start_equally_and_others_do_not() -> None:
    env: Any = make_vec("half_cheetah", 4)
    sampler = RolloutSampler(env, describe(env, "half_cheetah"), 0, "cpu")

    def still(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
        return torch.zeros(len(obs), 6)

    with pytest.raises(ValueError, match="there are 3 skills and 4 worlds; accepted with twins: equal and even"):
        sampler.collect(still, torch.zeros(3, 2), twins=True)
    sampler.spec = dataclasses.replace(sampler.spec, max_steps=1)
    start = sampler.collect(still, torch.zeros(4, 2), twins=True).obs[:, 0]
    sampler.close()
    assert torch.equal(start[:2], start[2:])
    assert not torch.equal(start[0], start[1])


@pytest.mark.parametrize(("episodes", "skills", "accepted"), [(7, 1, 2), (10, 2, 4)])
def test_the_number_of_episodes_fits_the_population(episodes: int, skills: int, accepted: int) -> None:
    message = (
        f"^task.episodes_per_epoch is {episodes}; accepted with agent/backbone=es: multiples of "
        f"2 x agent.backbone.skills_per_member, which is {accepted}$"
    )
    with pytest.raises(ConfigError, match=message):
        learner_of(make(f"agent.backbone.skills_per_member={skills}"), episodes)


# ---- fitness


def test_fitness_is_the_reward_of_the_current_objective() -> None:
    torch.manual_seed(0)
    agent = make("agent.backbone.skills_per_member=2")
    learner = learner_of(agent)
    episodes = collected(agent, learner)
    episodes.length[:] = torch.tensor([20, 20, 20, 5, 20, 20, 20, 20])
    found, reward = learner.score(episodes)
    batch = episodes.transitions()
    per_step = agent.objective.reward(batch)
    sums = torch.stack([part.sum() for part in per_step.split(episodes.length.tolist())])
    torch.testing.assert_close(found.fitness, sums.view(4, 2).mean(1))
    torch.testing.assert_close(reward, per_step.mean())
    assert found.valid.all()
    with torch.no_grad():
        for param in agent.objective.parameters():
            param.add_(torch.randn_like(param))
    assert not torch.allclose(learner.score(episodes)[0].fitness, found.fitness)


def test_the_objective_is_updated_before_the_fitness(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    learner = learner_of(agent)
    episodes = collected(agent, learner)
    calls: list[str] = []

    def noted(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def wrapper(*args: Any) -> Any:
            calls.append(name)
            return call(*args)

        monkeypatch.setattr(owner, name, wrapper)

    noted(learner, "score")
    noted(agent.objective, "loss")
    learner.learn(episodes)
    assert calls == ["loss"] * 3 + ["score"]
    assert learner.gradient_steps == 4


def test_nothing_is_learned_from_too_few_transitions() -> None:
    agent = make()
    learner = learner_of(agent, min_replay_size=161)
    before = flat(agent)
    assert learner.learn(collected(agent, learner)) == {}
    assert learner.learn(collected(agent, learner)) != {}
    assert not torch.equal(flat(agent), before)


def test_a_pair_with_a_discarded_episode_has_no_weight() -> None:
    torch.manual_seed(0)
    agent = make()
    learner = learner_of(agent)
    episodes = collected(agent, learner)
    episodes.length[6] = 0  # the negative of pair 2
    found, _ = learner.score(episodes)
    assert found.valid.tolist() == [True, True, False, True]
    alone = found._replace(valid=torch.tensor([False, False, True, False]))
    assert slope(agent, alone).any()
    assert not slope(agent, alone._replace(valid=alone.valid & found.valid)).any()


def slope(agent: Agent, generation: Generation) -> Tensor:
    """The gradient that an update follows, [D]."""
    agent.backbone.update(generation, NONE)
    return torch.cat([cast(Tensor, param.grad).flatten() for param in es(agent).actor.parameters()])


# ---- an update


def test_the_gradient_is_a_weighted_sum_of_the_noise() -> None:
    torch.manual_seed(0)
    agent = make("agent.backbone.spread=0.2")
    noise, fitness = es(agent).draw_noise(3), torch.randn(6)
    found = slope(agent, Generation(noise, fitness, torch.tensor([True, False, True])))
    ranks = centered_ranks(fitness)
    want = -sum((ranks[i] - ranks[3 + i]) * noise[i] for i in (0, 2)) / (6 * 0.2)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_a_known_fitness_rises() -> None:
    """The fitness is a distance of the parameters themselves, whose maximum is known."""
    torch.manual_seed(0)
    agent = make("agent.backbone.lr=0.02", "agent.skill_dim=2", "agent.backbone.hidden=[4]")
    goal = flat(agent) + es(agent).draw_noise(1)[0]

    def distance(rows: Tensor) -> Tensor:
        return (rows - goal).norm(dim=-1)

    start = distance(flat(agent))
    for _ in range(150):
        noise = es(agent).draw_noise(16)
        fitness = -distance(flat(agent) + 0.02 * torch.cat([noise, -noise]))
        agent.backbone.update(Generation(noise, fitness, torch.ones(16, dtype=torch.bool)), NONE)
    assert distance(flat(agent)) < 0.25 * start


# ---- on the plane


def test_fitness_rises_where_the_answer_is_known() -> None:
    """The reward is the negative distance to a place that the skill names."""
    torch.manual_seed(0)
    task = Reaching("es", 32, "agent.backbone.hidden=[32]", "agent.backbone.lr=0.02")
    before = task.distance()
    fitness = [task.epoch()["fitness/mean"] for _ in range(60)]
    assert min(fitness[-5:]) > max(fitness[:5]) + 1
    assert task.distance() < 0.3 < 0.7 < before


RUN = ("env=point", "agent/backbone=es", "agent.backbone.lr=0.02", "task.episodes_per_epoch=32")


@pytest.mark.long
@pytest.mark.parametrize("method", ["csf", "metra", "diayn"])
def test_it_trains_skills_that_reach_goals(method: str, tmp_path: Path) -> None:
    small = [f"agent.{key}" for key in ("hidden=[64,64]", "lr=1e-3", "backbone.hidden=[64,64]")]
    budget = ["task.updates_per_epoch=25", "task.batch_size=128", "task.replay_size=10000"]
    few = ["agent.skill_dim=8"] if method == "diayn" else []
    words = [*small, *few, *budget, "task.min_replay_size=160", "task.epochs=50", "task.eval_every=50"]
    first, *_, last = read(train(tmp_path / "run", f"agent={method}", *RUN, *words))
    key = "eval/goal/distance"
    assert last[key] < 0.7 * first[key]
    assert last["eval/coverage"] > 2 * first["eval/coverage"]
    if method != "diayn":  # 8 skills cannot reach every goal
        assert first["eval/goal/hit_0.3"] < 0.5 < 0.8 < last["eval/goal/hit_0.3"]
