"""Learning from the newest episodes alone: advantages, what is kept of them, and that a task's reward is learned."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import golden_map
import numpy as np
import pytest
import torch
from conftest import SMALL, SPEC, configure
from runs import different
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from csf.agents import Agent
from csf.errors import NonFiniteError
from csf.learners import EpochBudget, Learner
from csf.learners.replay import ReplayLearner
from csf.learners.rewards import chunks
from csf.learners.rollout import FreshEpisodes, RolloutLearner, advantages, discounted_sums
from csf.types import Batch, Episodes

STEPS = 6


def make(backbone: str, discrete: bool, *overrides: str, agent: str = "task") -> Agent:
    cfg = configure(f"agent={agent}", f"agent/backbone={backbone}", *SMALL, *overrides)
    return Agent(cfg.agent, cfg.backbone, dataclasses.replace(SPEC, discrete=discrete, max_steps=STEPS))


def run(agent: Agent, lengths: list[int], terminal: bool = False) -> Episodes:
    """Random episodes in which the agent acts; beyond their ends the rows are not zero, so that they would be seen."""
    n = len(lengths)
    obs, skill = torch.randn(n, STEPS + 1, *SPEC.obs_shape), agent.objective.sample_skills(n)
    action = torch.stack([agent.act(obs[:, t], skill) for t in range(STEPS)], 1)
    ends, length = torch.zeros(n, STEPS), torch.tensor(lengths)
    if terminal:
        ends[torch.arange(n), (length - 1).clamp(min=0)] = 1
    return Episodes(obs, action, torch.randn(n, STEPS), ends, skill, length, torch.zeros(n, STEPS + 1, 0))


# ---- sums and advantages


def test_sums_and_advantages_are_the_released_programs() -> None:
    arrays = {name: torch.from_numpy(value) for name, value in golden_map.read("pieces_evaluation").items()}
    found = discounted_sums(arrays["discount_cumsum/in"][None], 0.9)[0]
    torch.testing.assert_close(found, arrays["discount_cumsum/out_0.9"], rtol=1e-12, atol=0)
    found = advantages(arrays["gae/rewards"], arrays["gae/values"], 0.99, 0.95)
    torch.testing.assert_close(found.float(), arrays["gae/advantages_g0.99_l0.95"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_sums_are_those_of_a_loop(rate: float) -> None:
    rows = torch.randn(3, 7, dtype=torch.double)
    want = [[sum(row[k] * rate ** (k - t) for k in range(t, 7)) for t in range(7)] for row in rows.tolist()]
    torch.testing.assert_close(discounted_sums(rows, rate), torch.tensor(want, dtype=torch.double))


def test_a_long_sum_is_exact_to_single_precision() -> None:
    rows = torch.randn(2, 1000)
    want = discounted_sums(rows.double(), 0.99).float()
    torch.testing.assert_close(discounted_sums(rows, 0.99), want, rtol=1e-4, atol=1e-5)


def gae(rewards: list[float], values: list[float], discount: float, smooth: float) -> list[float]:
    """One episode, backwards, with nothing beyond its last step."""
    found: list[float] = []
    following = later = 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        later = reward + discount * following - value + discount * smooth * later
        following = value
        found.insert(0, later)
    return found


@pytest.mark.parametrize(("smooth", "close"), [(0.0, "one step"), (1.0, "all rewards"), (0.95, "between")])
def test_advantages_of_one_episode(smooth: float, close: str) -> None:
    reward, value = torch.randn(2, 1, 5, dtype=torch.double)
    found = advantages(reward, value, 0.9, smooth)[0]
    want = gae(reward[0].tolist(), value[0].tolist(), 0.9, smooth)
    torch.testing.assert_close(found, torch.tensor(want, dtype=torch.double))
    if close == "one step":
        ahead = torch.cat([value[0, 1:], torch.zeros(1)])
        torch.testing.assert_close(found, reward[0] + 0.9 * ahead - value[0])
    if close == "all rewards":
        torch.testing.assert_close(found, discounted_sums(reward, 0.9)[0] - value[0])


# ---- what is kept of episodes


@pytest.mark.parametrize("terminal", [False, True])
def test_episodes_of_any_length_are_appraised_each_by_itself(terminal: bool) -> None:
    torch.manual_seed(0)
    agent = make("ppo", False, "agent.backbone.discount=0.9", "agent.backbone.gae_lambda=0.8")
    backbone: Any = agent.backbone
    episodes = run(agent, [3, 0, STEPS, 1], terminal)
    fresh = FreshEpisodes(agent)
    fresh.add(episodes)
    assert len(fresh) == 3 + STEPS + 1
    found = fresh.gather(torch.arange(len(fresh)))
    batch = episodes.transitions()
    for name, rows in batch._asdict().items():
        assert torch.equal(getattr(found, name), rows), name
    log_prob, value = backbone.appraise(batch)
    torch.testing.assert_close(found.log_prob, log_prob)
    advantage: list[float] = []
    returns: list[float] = []
    for rewards, values in zip(batch.reward.split([3, 6, 1]), value.detach().split([3, 6, 1]), strict=True):
        advantage += gae(rewards.tolist(), values.tolist(), 0.9, 0.8)
        returns += gae(rewards.tolist(), [0.0] * len(rewards), 0.9, 1.0)
    torch.testing.assert_close(found.advantage, torch.tensor(advantage), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.return_to_go, torch.tensor(returns), rtol=1e-4, atol=1e-5)
    assert not any(rows.requires_grad for rows in found)


@pytest.mark.parametrize("discrete", [False, True])
def test_before_the_first_step_old_and_new_densities_are_the_same(discrete: bool) -> None:
    """Also of saturated actions, where the density of the u that was drawn is another than that of the u estimated."""
    agent = make("ppo", discrete)
    backbone: Any = agent.backbone
    if not discrete:
        with torch.no_grad():
            backbone.actor.heads.bias[:2] = 9.0
    fresh = FreshEpisodes(agent)
    fresh.add(episodes := run(agent, [STEPS] * 4))
    assert discrete or episodes.action.max() == 1
    _, metrics = backbone.actor_loss(fresh.gather(torch.arange(len(fresh))))
    assert metrics["policy/divergence"].item() == 0
    assert metrics["policy/clipped"].item() == 0
    _, metrics = backbone.actor_loss(fresh.gather(fresh.sample_index(7)))  # products of another size round differently
    assert metrics["policy/divergence"].item() == pytest.approx(0, abs=1e-5)


def test_older_episodes_are_forgotten() -> None:
    agent = make("ppo", False)
    fresh = FreshEpisodes(agent)
    assert len(fresh) == 0
    with pytest.raises(ValueError, match="there are no episodes"):
        fresh.gather(torch.zeros(1, dtype=torch.long))
    for lengths in ([STEPS] * 5, [2, 3]):
        fresh.add(newest := run(agent, lengths))
    assert torch.equal(fresh.gather(torch.arange(5)).obs, newest.transitions().obs)
    assert len(fresh) == 5


def test_rows_are_drawn_uniformly_with_replacement() -> None:
    torch.manual_seed(0)
    fresh = FreshEpisodes(agent := make("ppo", False))
    fresh.add(run(agent, [3, 1]))
    count = fresh.sample_index(40_000).bincount()
    assert len(count) == 4
    assert (count - 10_000).abs().max() < 5 * 10_000**0.5


def test_a_methods_own_reward_is_what_is_learned() -> None:
    torch.manual_seed(0)
    agent = make("ppo", False, "agent.backbone.discount=0", agent="metra")
    fresh = FreshEpisodes(agent)
    fresh.add(episodes := run(agent, [STEPS, 2]))
    found = fresh.gather(torch.arange(len(fresh)))
    with torch.no_grad():
        torch.testing.assert_close(found.return_to_go, agent.objective.reward(episodes.transitions()))
    metrics = learner(agent, 3, 8).learn(episodes)
    assert {"loss/representation", "loss/multiplier", "loss/actor", "loss/critic"} <= set(metrics)


# ---- rewards in chunks


@pytest.mark.parametrize("size", [1, 5, 16, 17, 32, 47, 100])
@pytest.mark.parametrize("least", [1, 7])
def test_chunks_have_one_size_and_every_row_is_new_once(size: int, least: int) -> None:
    found = list(chunks(size, 16, least))
    assert [rows.tolist() for rows, _ in found] == [rows.tolist() for rows, _ in chunks(size, 16, least)]
    assert {len(rows) for rows, _ in found} == {16 if size >= 16 else max(size, least)}
    new = [row for rows, fresh in found for row in rows[:fresh].tolist()]
    assert sorted(new) == list(range(size))
    for rows, _ in found:
        assert len(rows.unique()) == min(len(rows), size)  # nothing is repeated unless there is too little


def test_a_chunk_has_steps_of_all_episodes() -> None:
    """Of 8 episodes of 200 steps: a step must not be compared with its own episode's alone."""
    before = torch.get_rng_state()
    for rows, _ in chunks(1600, 256, 1):
        assert len((rows // 200).unique()) == 8
    assert torch.equal(torch.get_rng_state(), before)  # training draws the same numbers, however many chunks there are


def cic(*overrides: str) -> Agent:
    return make("ppo", False, "agent.neighbors=3", "agent.backbone.discount=0", *overrides, agent="cic")


def test_a_reward_is_that_of_its_chunk() -> None:
    torch.manual_seed(0)
    agent = cic().eval()  # so that the scale of the reward stands still
    episodes = run(agent, [STEPS, 4, STEPS, 1])  # 17 steps, in chunks of 8, 8 and 1 filled up
    kept = FreshEpisodes(agent, 8)
    kept.add(episodes)
    batch = episodes.transitions()
    want = torch.full((17,), math.nan)
    for index, fresh in chunks(17, 8, 3):
        reward = agent.objective.reward(Batch(*(each[index] for each in batch)))
        want[index[:fresh]] = reward[:fresh].detach()
    found = kept.gather(torch.arange(17)).return_to_go
    torch.testing.assert_close(found, want)
    whole = FreshEpisodes(agent)
    whole.add(episodes)
    assert not torch.allclose(whole.gather(torch.arange(17)).return_to_go, want)  # it is another reward


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            self.numbers = max(self.numbers, tensor.numel() if isinstance(tensor, Tensor) else 0)
        return found


def test_a_reward_that_compares_all_pairs_takes_no_more_memory_for_a_longer_rollout() -> None:
    agent = cic("agent.skill_dim=4")
    episodes = run(agent, [STEPS] * 50)
    with Largest() as seen:  # type: ignore[no-untyped-call]
        learner(agent, 1, 40).rollouts.add(episodes)
    assert seen.numbers == 40 * 40 * 4
    with Largest() as seen:  # type: ignore[no-untyped-call]
        FreshEpisodes(agent).add(episodes)
    assert seen.numbers == 300 * 300 * 4


def test_a_rollout_that_is_shorter_than_a_reward_needs_is_repeated() -> None:
    agent = make("ppo", False, agent="cic")  # 16 neighbors
    metrics = learner(agent, 2, 16).learn(run(agent, [5]))
    assert all(math.isfinite(value) for value in metrics.values())


# ---- the learner


def budget(updates: int, batch_size: int) -> EpochBudget:
    return EpochBudget(4, updates, batch_size, replay_size=3000, min_replay_size=1)


def learner(agent: Agent, updates: int = 10, batch_size: int = 16) -> RolloutLearner:
    return RolloutLearner(agent, budget(updates, batch_size), "cpu")


def test_every_collection_is_learned_from_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make("ppo", False)
    calls: list[Any] = []
    update = agent.update

    def noted(batch: Any) -> dict[str, Tensor]:
        calls.append(batch)
        return update(batch)

    monkeypatch.setattr(agent, "update", noted)
    one = learner(agent)
    metrics = one.learn(run(agent, [1]))  # however few they are
    assert one.gradient_steps == len(calls) == 10
    assert {len(batch.obs) for batch in calls} == {16}
    assert metrics.keys() >= {"loss/actor", "loss/critic", "policy/entropy", "critic/target"}
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_policy_that_collected_is_appraised_once_however_many_updates_follow() -> None:
    torch.manual_seed(0)
    agent = make("ppo", False, "agent.backbone.lr=0.01")
    backbone: Any = agent.backbone
    episodes = run(agent, [STEPS] * 4)
    want, _ = backbone.appraise(episodes.transitions())
    one = learner(agent)
    metrics = one.learn(episodes)
    kept: Any = one.rollouts
    torch.testing.assert_close(kept.rollout.log_prob, want.detach())
    assert metrics["policy/divergence"] != 0


def test_a_number_that_is_not_finite_is_an_error_with_its_name() -> None:
    agent = make("ppo", False)
    episodes = run(agent, [STEPS] * 2)
    episodes.reward[0, 0] = math.nan
    with pytest.raises(NonFiniteError, match=r"loss/\w+ is nan at update 0|critic/target is nan") as caught:
        learner(agent, batch_size=64).learn(episodes)
    assert "advantage" in caught.value.evidence["batch"]


@pytest.mark.parametrize("discrete", [False, True])
def test_a_resumed_run_goes_on_bit_for_bit(discrete: bool) -> None:
    torch.manual_seed(0)
    agent = make("ppo", discrete)
    one = learner(agent)
    one.learn(run(agent, [STEPS, 4]))
    file = io.BytesIO()
    torch.save({"agent": agent.full_state(), "learner": one.full_state(), "rng": torch.get_rng_state()}, file)
    want = one.learn(run(agent, [2, 5]))

    other = make("ppo", discrete)
    another = learner(other)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_full_state(state["agent"])
    another.load_full_state(state["learner"])
    torch.set_rng_state(state["rng"])
    assert another.learn(run(other, [2, 5])) == want
    assert not different(other.full_state(), agent.full_state())
    assert another.gradient_steps == one.gradient_steps == 20


# ---- a task is learned

CONTEXTS, EPOCHS = 64, 25


def pull(action: Tensor, context: Tensor) -> Tensor:
    """Two-armed bandit: the first arm is right where the context's first number is positive. [N, A], [N, O] -> [N]."""
    right = context[:, 0].sign()
    return right * (action[:, 0] - action[:, 1]).clamp(-1, 1)


def play(agent: Agent, n: int, mode: bool = False) -> Episodes:
    """Episodes of `STEPS` pulls with a new context each."""
    obs, skill = torch.randn(n, STEPS + 1, *SPEC.obs_shape), agent.objective.sample_skills(n)
    action = torch.stack([agent.act(obs[:, t], skill, mode) for t in range(STEPS)], 1)
    reward = torch.stack([pull(action[:, t], obs[:, t]) for t in range(STEPS)], 1)
    length = torch.full((n,), STEPS)
    return Episodes(obs, action, reward, torch.zeros(n, STEPS), skill, length, torch.zeros(n, STEPS + 1, 0))


def score(agent: Agent) -> float:
    """Mean reward of sampled actions on contexts of their own; 0 for a coin, 1 for one who knows."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return play(agent, 100).reward.mean().item()


def on_policy(agent: Agent) -> Learner:
    return RolloutLearner(agent, budget(10, 64), "cpu")


def off_policy(agent: Agent) -> Learner:
    return ReplayLearner(agent, budget(10, 64), "cpu")


BANDITS: list[tuple[str, bool, Callable[[Agent], Learner]]] = [
    ("ppo", False, on_policy),
    ("ppo", True, on_policy),
    ("sac", False, off_policy),
    ("discrete_sac", True, off_policy),
]


@pytest.mark.parametrize(("backbone", "discrete", "learner_of"), BANDITS)
def test_a_bandit_is_learned(backbone: str, discrete: bool, learner_of: Callable[[Agent], Learner]) -> None:
    torch.manual_seed(0)
    held = [] if backbone == "ppo" else ["agent.backbone.alpha_lr=1e-4"]  # alpha must not outgrow the reward
    agent = make(backbone, discrete, "agent.backbone.lr=0.01", "agent.backbone.discount=0.5", *held)
    one = learner_of(agent)
    assert abs(score(agent)) < 0.4
    for _ in range(EPOCHS):
        metrics = one.learn(play(agent, 16))
    assert score(agent) > 0.8
    assert one.gradient_steps == 10 * EPOCHS
    assert np.isfinite(list(metrics.values())).all()
