"""The planner: what its ensemble learns, how it chooses, and that it solves what is known from few episodes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from conftest import BOTH, IMAGE, SPEC, configure
from reach import Reaching
from test_learning import read, train
from torch import Tensor

import csf
from csf.agents import Agent
from csf.backbones.pets import PETS
from csf.errors import ConfigError
from csf.io import policy
from csf.nets.dynamics import MAX_LOG_VAR, MIN_LOG_VAR, Dynamics, Normalizer
from csf.types import Batch, EnvSpec, Rewarder

SMALL = ("agent.backbone.hidden=[32]", "agent.backbone.horizon=4", "agent.backbone.iterations=3")


def make(*overrides: str, method: str = "csf", spec: EnvSpec = SPEC) -> Agent:
    cfg = configure(f"agent={method}", "agent/backbone=pets", "agent.hidden=[16]", *SMALL, *overrides)
    return Agent(cfg.agent, cfg.backbone, spec)


def pets(agent: Agent) -> PETS:
    return cast(PETS, agent.backbone)


def transitions(size: int, noise: float = 0.0) -> Batch:
    """A world in which the first action moves the first two coordinates by different scales; the third stays."""
    obs, action = torch.randn(size, 3) * torch.tensor([1.0, 50.0, 0.01]), 2 * torch.rand(size, 2) - 1
    move = action[:, :1] * torch.tensor([0.1, 5.0, 0.0]) + noise * torch.tensor([0.1, 5.0, 0.0]) * torch.randn(size, 3)
    nothing = torch.zeros(size)
    return Batch(obs, action, obs + move, nothing, nothing, torch.zeros(size, 2))


# ---- the ensemble


def test_a_normalizer_has_the_moments_of_all_that_it_saw() -> None:
    torch.manual_seed(0)
    norm, rows = Normalizer(3), torch.randn(6, 40, 3) * torch.tensor([1.0, 10.0, 0.1]) + 2
    torch.testing.assert_close(norm(rows[0]), rows[0])
    for part in rows:
        norm.follow(part)
    whole = rows.flatten(0, 1)
    torch.testing.assert_close(norm.mean, whole.mean(0))
    torch.testing.assert_close(norm.scale(), whole.std(0, correction=0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm(whole).std(0, correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_what_never_changes_is_predicted_not_to_change() -> None:
    model = Dynamics(2, 3, 2, [8])
    batch = transitions(64)
    model.follow(batch)
    obs, action = batch.obs.expand(2, -1, -1), batch.action.expand(2, -1, -1)
    assert (model.predict(obs, action) - obs)[..., 2].abs().max() < 1e-3


def test_the_loss_is_the_negative_log_likelihood() -> None:
    torch.manual_seed(0)
    model, batch = Dynamics(3, 3, 2, [8]), transitions(10, 0.3)
    model.follow(batch)
    rows = torch.randint(10, (3, 10))
    loss, error = model.loss(batch, rows)
    want, squared = 0.0, []
    for member in range(3):
        own = Batch(*(field[rows[member]] for field in batch))
        mean, log_var = (out[member] for out in model(own.obs.expand(3, -1, -1), own.action.expand(3, -1, -1)))
        change = model.change_norm(own.next_obs - own.obs)
        likelihood = torch.distributions.Normal(mean, (0.5 * log_var).exp()).log_prob(change)
        want -= (2 * likelihood + math.log(2 * math.pi)).mean().item()
        squared.append((mean - change).square().mean())
    assert loss.item() == pytest.approx(want, rel=1e-4)
    assert error.item() == pytest.approx(torch.stack(squared).mean().item(), rel=1e-4)


def test_variances_are_bounded() -> None:
    model = Dynamics(2, 3, 2, [8])
    _, log_var = model(1e6 * torch.randn(2, 50, 3), torch.zeros(2, 50, 2))
    assert log_var.min() >= MIN_LOG_VAR - 1e-4
    assert log_var.max() <= MAX_LOG_VAR + 1e-4
    assert log_var.max() - log_var.min() > 5


def learned(noise: float, steps: int = 600) -> tuple[Agent, Batch]:
    torch.manual_seed(0)
    agent, data = make("agent.backbone.lr=3e-3"), transitions(4000, noise)
    for _ in range(steps):
        index = torch.randint(4000, (64,))
        agent.backbone.update(Batch(*(field[index] for field in data)), agent.objective)
    return agent, transitions(200, noise)


def test_an_ensemble_learns_dynamics_of_any_scale() -> None:
    agent, new = learned(0.0)
    obs, action = new.obs.expand(5, -1, -1), new.action.expand(5, -1, -1)
    error = (pets(agent).model.predict(obs, action) - new.next_obs).abs().mean((0, 1))
    assert error[0] < 0.02
    assert error[1] < 1.0
    assert error[2] < 1e-3


def test_an_ensemble_learns_how_random_the_world_is() -> None:
    agent, new = learned(0.5)
    obs, action = new.obs.expand(5, -1, -1), new.action.expand(5, -1, -1)
    model = pets(agent).model
    mean = model.predict(obs, action)
    drawn = torch.stack([model.predict(obs, action, torch.randn_like(obs)) - mean for _ in range(50)])
    spread = drawn.square().mean((0, 1, 2)).sqrt()
    torch.testing.assert_close(spread[:2], torch.tensor([0.05, 2.5]), rtol=0.3, atol=0)


def test_members_learn_from_resamples_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, seen = make(), list[Tensor]()
    loss = pets(agent).model.loss

    def noted(batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(rows)
        return loss(batch, rows)

    monkeypatch.setattr(pets(agent).model, "loss", noted)
    agent.backbone.update(transitions(32), agent.objective)
    (rows,) = seen
    assert rows.shape == (5, 32)
    assert len({tuple(row.tolist()) for row in rows}) == 5


# ---- planning


class FirstCoordinate:
    """Rewards a place of the first coordinate, which the skill names, and counts how often it is asked."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def reward(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        return -(batch.next_obs[:, 0] - batch.skill[:, 0]).abs()


def perfect(agent: Agent, monkeypatch: pytest.MonkeyPatch, gains: Tensor | None = None) -> None:
    """Replace the model by the world itself, in which each of the members has a gain of its own."""
    gain = torch.ones(5) if gains is None else gains

    def predict(obs: Tensor, action: Tensor, noise: Tensor | None = None) -> Tensor:
        move = gain[:, None, None] * action[..., :1] * torch.tensor([1.0, 0.0, 0.0])
        return obs + move

    monkeypatch.setattr(pets(agent).model, "predict", predict)


@pytest.mark.parametrize("mode", [False, True])
def test_a_plan_goes_where_the_reward_is(mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    agent = make("agent.backbone.candidates=200", "agent.backbone.iterations=6")
    perfect(agent, monkeypatch)
    places = torch.tensor([[-0.5, 0.0], [0.4, 0.0], [3.0, 0.0]])  # the last one takes three full steps
    action = agent.backbone.act(torch.zeros(3, 3), places, mode, cast(Rewarder, FirstCoordinate()))
    torch.testing.assert_close(action[:, 0], torch.tensor([-0.5, 0.4, 0.95]), rtol=0, atol=0.12)


def test_scores_are_sums_over_the_plan_of_the_mean_over_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trajectory follows one member for the whole plan."""
    torch.manual_seed(0)
    agent, objective = make("agent.backbone.particles=2"), FirstCoordinate()
    gains = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    perfect(agent, monkeypatch, gains)
    obs, skill, plans = torch.randn(3, 3), torch.randn(3, 2), torch.rand(3, 7, 4, 2)
    found = pets(agent).score(obs, skill, plans, False, cast(Rewarder, objective))
    for n in range(3):
        for c in range(7):
            places = obs[n, 0] + gains[:, None] * plans[n, c, :, 0].cumsum(0)
            assert found[n, c].item() == pytest.approx(float(-(places - skill[n, 0]).abs().sum(1).mean()), abs=1e-4)
    assert len(objective.batches) == 4
    assert len(objective.batches[0].reward) == 5 * 2 * 3 * 7


def test_a_prediction_that_is_not_a_number_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    agent, objective = make("agent.backbone.elites=2"), FirstCoordinate()
    perfect(agent, monkeypatch)
    reward = objective.reward
    monkeypatch.setattr(
        objective, "reward", lambda batch: reward(batch).where(batch.action[:, 1] < 0, torch.tensor(torch.nan))
    )
    action = agent.backbone.act(torch.zeros(4, 3), torch.zeros(4, 2), False, cast(Rewarder, objective))
    assert torch.isfinite(action).all()
    assert (action[:, 1] < 0).all()


def test_worlds_are_planned_for_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    agent = make()
    obs, skill = torch.randn(4, 3), agent.sample_skills(4)
    together = agent.act(obs, skill, True)
    alone = torch.cat([agent.act(obs[i : i + 1], skill[i : i + 1], True) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["csf", "diayn", "metra", "visr", "dads"])
def test_planning_leaves_the_agent_as_it_is(method: str) -> None:
    torch.manual_seed(0)
    agent = make(method=method)
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    agent.act(torch.randn(2, 3), agent.sample_skills(2))
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())


# ---- what it refuses


@pytest.mark.parametrize(
    ("method", "words"), [("cic", ()), ("task", ()), ("csf", ("agent.reward_contrast=true", "agent.negatives=batch"))]
)
def test_it_refuses_rewards_that_predictions_do_not_have(method: str, words: tuple[str, ...]) -> None:
    message = (
        f"^agent/backbone=pets needs rewards of single predicted transitions, which agent={method} with these "
        "settings does not have; accepted: "
    )
    with pytest.raises(ConfigError, match=message) as error:
        make(*words, method=method)
    assert str(error.value).rpartition(": ")[2] == "discrete_sac, es, ppo, sac"


def test_a_contrast_with_fresh_skills_is_accepted() -> None:
    make("agent.reward_contrast=true", "agent.negatives=fresh")


@pytest.mark.parametrize("words", [(), ("encoder=shared",)])
@pytest.mark.parametrize("backbone", ["es", "pets"])
@pytest.mark.parametrize("spec", [IMAGE, BOTH])
def test_images_are_refused(spec: EnvSpec, backbone: str, words: tuple[str, ...]) -> None:
    message = rf"^env=test has image observations .*; agent/backbone={backbone} accepts vectors"
    cfg = configure("agent=csf", f"agent/backbone={backbone}", *words)
    with pytest.raises(ConfigError, match=message):
        Agent(cfg.agent, cfg.backbone, spec, cfg.encoder)


def test_it_refuses_more_elites_than_candidates() -> None:
    with pytest.raises(ConfigError, match=r"elites is 8; accepted: at most agent.backbone.candidates \(7\)$"):
        make("agent.backbone.candidates=7")


# ---- learning


def test_it_reaches_places_from_few_episodes() -> None:
    """The reward is the negative distance to a place that the skill names."""
    torch.manual_seed(0)
    task = Reaching("pets", 8, *SMALL, "agent.backbone.candidates=48", min_replay_size=81)
    before = task.distance()
    for _ in range(6):
        task.epoch()
    assert task.distance() < 0.3 < 0.7 < before


def test_its_first_episodes_are_random() -> None:
    torch.manual_seed(0)
    task = Reaching("pets", 8, *SMALL, min_replay_size=81)
    collected: list[Any] = []
    for _ in range(3):
        collected.append(task.learner.collect(task.sampler, task.agent.sample_skills(8)))
        task.learner.learn(collected[-1])
    means = [episodes.action.abs().mean().item() for episodes in collected]
    assert means[:2] == pytest.approx([0.5, 0.5], abs=0.05)  # uniform in [-1, 1]
    assert (collected[0].action.abs() > 0.9).float().mean() == pytest.approx(0.1, abs=0.06)
    assert not torch.equal(collected[0].action, collected[1].action)
    assert abs(means[2] - 0.5) > 0.05


@pytest.mark.long
@pytest.mark.parametrize("method", ["csf", "diayn"])
def test_it_trains_skills_that_reach_goals(method: str, tmp_path: Path) -> None:
    small = ["agent.hidden=[64,64]", "agent.lr=1e-3", *SMALL, "agent.backbone.candidates=32"]
    budget = ["task.updates_per_epoch=50", "task.batch_size=128", "task.replay_size=10000", "task.min_replay_size=320"]
    few = ["agent.skill_dim=8"] if method == "diayn" else []
    words = [*small, *few, *budget, "task.epochs=20", "task.eval_every=20", "task.coverage_skills=24", "task.goals=24"]
    folder = train(tmp_path / "run", f"agent={method}", "agent/backbone=pets", "env=point", *words)
    first, *_, last = read(folder)
    assert last["eval/goal/distance"] < 0.5 * first["eval/goal/distance"]
    if method == "csf":
        assert last["eval/goal/hit_0.3"] > 2 * first["eval/goal/hit_0.3"] + 0.3


# ---- files


def test_a_policy_file_plans(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = dataclasses.replace(SPEC, id="point")
    cfg = configure("agent=diayn", "agent/backbone=pets", "agent.hidden=[16]", *SMALL)
    agent = Agent(cfg.agent, cfg.backbone, spec)
    for _ in range(3):
        agent.backbone.update(transitions(32)._replace(skill=agent.sample_skills(32)), agent.objective)
    path = tmp_path / "policy_000001.safetensors"
    policy.save(path, agent, {"epoch": 1, "results": {}, "config": cfg.tree, "spec": dataclasses.asdict(spec)})
    loaded = csf.load(path)
    obs, skill = torch.randn(3, 3), agent.sample_skills(3)
    assert torch.equal(loaded.act(obs, skill, True), agent.eval().act(obs, skill, True))
