"""Exogenous entries of observations, and tasks on Gymnasium's bodies, which studies use."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

import envs.body_tasks
import envs.exogenous
from csf.config.compose import check
from csf.evaluation.entropy import random_policy
from csf.sampler import RolloutSampler
from csf.worlds import describe, make_worlds
from envs.errors import WorldError

CAR = "MountainCarContinuous-v0"


def test_exogenous_entries_are_stationary_and_the_environment_is_unchanged() -> None:
    env, plain = envs.exogenous.make(CAR, exogenous=200, persistence=0.9), gymnasium.make(CAR)
    obs, _ = env.reset(seed=3)
    other, _ = plain.reset(seed=3)
    rows = [obs]
    for _ in range(60):
        action = plain.action_space.sample()
        obs, reward, *_ = env.step(action)
        other, reward_there, *_ = plain.step(action)
        assert (obs[:2] == other).all()
        assert reward == reward_there
        rows.append(obs)
    entries = np.array(rows)[:, 2:]
    assert entries.shape == (61, 200)
    assert entries.std(1) == pytest.approx(np.ones(61), abs=0.2)  # from the first step on
    following = np.mean([np.corrcoef(entries[t], entries[t + 1])[0, 1] for t in range(60)])
    assert following == pytest.approx(0.9, abs=0.02)


def test_exogenous_entries_differ_between_worlds_and_repeat_with_the_seed() -> None:
    words = ["env=gym", "env.id=envs.exogenous:csf/Exogenous-v0", f"env.of={CAR}", "env.exogenous=3", "env.max_steps=4"]
    cfg = check(words)
    worlds = make_worlds(cfg.env, 2)
    spec = describe(worlds, cfg.env["name"])
    assert (spec.obs_dim, spec.max_steps) == (5, 4)
    sampler = RolloutSampler(worlds, spec, 0, "cpu")
    first, second = (sampler.collect(random_policy(spec, 0), torch.zeros(2, 0), False, 1) for _ in range(2))
    sampler.close()
    assert (first.obs == second.obs).all()
    assert (first.obs[0, :, 2:] != first.obs[1, :, 2:]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exogenous": 0}, "exogenous is 0; accepted: an integer of at least 1"),
        ({"persistence": 1.0}, "persistence is 1.0; accepted: a number of at least 0 and below 1"),
    ],
)
def test_wrong_exogenous_entries(settings: dict[str, float], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        envs.exogenous.make(CAR, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "height"), [("HalfCheetah-v5", 1), ("Walker2d-v5", 1), ("Ant-v5", 2)])
def test_rewards_are_those_of_the_formulas(body: str, height: int) -> None:
    """Along the same steps, which differ from the body's own task only in the part for moving forward."""
    tasks = {task: envs.body_tasks.make(body, task) for task in envs.body_tasks.TASKS}
    plain = gymnasium.make(body)
    for env in (*tasks.values(), plain):
        env.reset(seed=0)
    data = plain.unwrapped.data  # type: ignore[attr-defined]
    start = data.qpos[height]
    for _ in range(5):
        action = plain.action_space.sample()
        reward, info = plain.step(action)[1::3]
        found = {task: env.step(action)[1] for task, env in tasks.items()}
        rest, v = float(reward) - info["reward_forward"], info["x_velocity"]
        rise = data.qpos[height] - start
        jump = 15 * rise if body.startswith("HalfCheetah") else 10 * rise - abs(v)
        assert found["forward"] == reward
        assert found["backward"] == pytest.approx(rest - v)
        assert found["jump"] == pytest.approx(rest + jump)


def test_wrong_tasks() -> None:
    with pytest.raises(WorldError, match="task is 'fly'; accepted: forward, backward, jump"):
        envs.body_tasks.make("Ant-v5", "fly")
    with pytest.raises(WorldError, match="the body is 'Pendulum'; accepted: HalfCheetah, Walker2d, Ant"):
        envs.body_tasks.make("Pendulum-v1", "jump")
