"""Worlds whose actions are skills: against a loop by hand, the released program, Gymnasium's rules, other trainers."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from conftest import SMALL, configure
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env
from test_tasks import Released, released_ant
from torch import nn

from csf.agents import Agent
from csf.hierarchy import SkillEnv, SkillVectorEnv, skills
from csf.sampler import RolloutSampler
from csf.worlds import describe
from envs import make_vec

# An agent of each law of skills, and of each size.
LAWS = {"sphere": "csf", "box": "dads", "gaussian": "cic", "one_hot": "diayn"}
SIZES = {"sphere": 2, "box": 3, "gaussian": 4, "one_hot": 5}


def child(prior: str, env: str = "point", **spec: Any) -> Agent:
    """A small agent of the law, made for an environment, with actions that depend much on the skill."""
    torch.manual_seed(0)
    cfg = configure(f"agent={LAWS[prior]}", f"agent.skill_dim={SIZES[prior]}", *SMALL)
    worlds: Any = make_vec(env, 1)
    agent = Agent(cfg.agent, cfg.backbone, dataclasses.replace(describe(worlds, env), **spec))
    assert agent.objective.prior == prior
    actor: Any = agent.backbone.actor
    nn.init.normal_(actor.heads.weight)
    return agent


def worlds_of(prior: str, num_envs: int = 3, hold: int = 5, **settings: Any) -> tuple[Any, SkillVectorEnv]:
    """The task below, and skills as its actions."""
    below: Any = make_vec("point_two_goals", num_envs, **settings)
    return below, SkillVectorEnv(below, child(prior), hold)


def choose(env: SkillVectorEnv, seed: int = 0) -> Any:
    env.action_space.seed(seed)
    return env.action_space.sample()


# ---- what an action means


@pytest.mark.parametrize("prior", LAWS)
def test_the_law_of_the_skills_decides_the_actions(prior: str) -> None:
    _, env = worlds_of(prior)
    size = SIZES[prior]
    want: Any = Discrete(size) if prior == "one_hot" else Box(-1, 1, (size,), np.float32)
    assert env.single_action_space == want
    assert env.action_space.shape == ((3,) if prior == "one_hot" else (3, size))


def test_skills_of_choices() -> None:
    rows = np.array([[3.0, -4.0], [0.0, 0.5]], np.float32)
    np.testing.assert_allclose(skills(rows, "sphere"), np.array([[0.6, -0.8], [0, 1]]), rtol=1e-6)
    np.testing.assert_allclose(skills(rows, "box"), 1.5 * rows)
    np.testing.assert_allclose(skills(rows, "gaussian"), 1.5 * rows)
    np.testing.assert_array_equal(skills(rows, "one_hot"), [[1, 0], [0, 1]])
    assert np.isfinite(skills(np.zeros((1, 2), np.float32), "sphere")).all()


@pytest.mark.parametrize(
    ("prior", "actions", "message"),
    [
        ("sphere", np.zeros((2, 2)), r"actions have shape \(2, 2\); accepted: a row of 2 for each of 3 worlds"),
        ("sphere", np.zeros(3, int), r"actions have shape \(3,\)"),
        ("sphere", np.full((3, 2), np.nan), r"actions of worlds \[0, 1, 2\] are not finite"),
        ("one_hot", np.array([0, 1, 5]), r"actions are \[0, 1, 5\]; accepted: skills 0 to 4"),
        ("one_hot", np.array([0, 1, -1]), r"accepted: skills 0 to 4"),
        ("one_hot", np.zeros((3, 4)), r"accepted: an index or a one-hot row of 5 for each of 3 worlds"),
        ("one_hot", np.zeros(3), r"actions have shape \(3,\)"),
    ],
)
def test_actions_that_are_refused(prior: str, actions: Any, message: str) -> None:
    _, env = worlds_of(prior)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


def test_a_step_needs_a_reset() -> None:
    _, env = worlds_of("sphere")
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.zeros((3, 2), np.float32))


# ---- against a loop by hand


@pytest.mark.parametrize("prior", LAWS)
@pytest.mark.parametrize("hold", [1, 15, 100])
def test_a_step_is_a_loop_of_steps_with_the_skill_held(prior: str, hold: int) -> None:
    """40 steps below; the last step above is as short as they leave it."""
    below, env = worlds_of(prior, hold=hold)
    by_hand: Any = make_vec("point_two_goals", 3)
    obs, infos = env.reset(seed=5)
    same, _ = by_hand.reset(seed=5)
    np.testing.assert_array_equal(obs, same)
    assert (env.max_steps, env.coord_dim) == (-(-40 // hold), 2)
    assert set(infos) == set(by_hand.reset(seed=5)[1])
    steps = 0
    for number in range(env.max_steps):
        action = choose(env, number)
        obs, reward, terminated, truncated, infos = env.step(action)
        rows = np.eye(5, dtype=np.float32)[action] if prior == "one_hot" else action
        total = np.zeros(3)
        for _ in range(min(hold, 40 - steps)):
            z = torch.from_numpy(skills(rows, env.prior))
            same, r, _, over, more = by_hand.step(env.agent.act(torch.from_numpy(same[:, :2]), z, True).numpy())
            total, steps = total + r, steps + 1
        np.testing.assert_array_equal(obs, same)
        np.testing.assert_array_equal(reward, total)
        np.testing.assert_array_equal(truncated, over)
        assert not terminated.any()
        np.testing.assert_allclose(infos.pop("action_norm"), np.linalg.norm(rows, axis=1), rtol=1e-6)
        assert infos.pop("_action_norm").all()
        assert infos.pop("world_steps").max() <= env.hold
        assert infos.pop("_world_steps").all()
        assert infos.keys() == more.keys()
        for name, rows_below in more.items():
            np.testing.assert_array_equal(infos[name], rows_below)
    assert steps == 40
    assert truncated.all()
    assert below._steps.tolist() == [40] * 3


def test_rows_and_indices_of_one_hot_skills_are_the_same() -> None:
    found = []
    for action in (np.array([4, 0, 2]), np.eye(5)[[4, 0, 2]]):
        _, env = worlds_of("one_hot")
        env.reset(seed=0)
        found.append(env.step(action)[0])
    np.testing.assert_array_equal(found[0], found[1])


def test_the_agent_sees_no_column_of_the_task_and_takes_its_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    _, env = worlds_of("sphere")
    seen: list[Any] = []

    def act(_: Any, obs: Any, skill: Any, mode: bool = False, /) -> Any:
        seen.append((obs.shape, tuple(skill.shape), mode))
        return torch.zeros(3, 2)

    monkeypatch.setattr(Agent, "act", act)
    env.reset(seed=0)
    env.step(choose(env))
    assert seen == [((3, 2), (3, 2), True)] * 5  # one call for all worlds, one for each step


def test_the_agent_does_not_change() -> None:
    agent = child("sphere").train()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    env = SkillVectorEnv(make_vec("point", 2), agent, 3)  # type: ignore[arg-type]
    env.reset(seed=0)
    for _ in range(3):
        env.step(choose(env))
    assert not agent.training
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert all(param.grad is None for param in agent.parameters())


# ---- episodes that end at different times


class Ending:
    """Worlds that terminate, diverge or are truncated after so many steps; what they show is the count of steps."""

    num_envs, version, max_steps, coord_dim, success_radii, coverage_cell = 4, "v0", 20, 1, (), 1.0
    single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    single_action_space = Box(-1, 1, (2,), np.float32)
    obs_mean = obs_std = None
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 7}

    def reset(self, **_: Any) -> Any:
        self.steps = 0
        return self.show(), {"coord": np.zeros((4, 1))}

    def show(self) -> Any:
        return np.full((4, 2), self.steps, np.float32)

    def step(self, actions: Any) -> Any:
        self.steps += 1
        at = np.array([self.steps] * 4)
        terminated, diverged, truncated = at == (3, 99, 99, 99), at == (99, 2, 99, 99), at >= (99, 99, 4, 99)
        infos = {"coord": at[:, None].astype(float), "diverged": diverged}
        return self.show(), np.ones(4), terminated, truncated, infos

    def close(self) -> None:
        self.closed = True


def test_a_world_whose_episode_ends_waits_as_it_ended() -> None:
    below: Any = Ending()
    env = SkillVectorEnv(below, child("sphere"), 6)
    env.reset(seed=0)
    obs, reward, terminated, truncated, infos = env.step(choose_rows(4))
    assert obs[:, 0].tolist() == [3, 2, 4, 6]
    assert reward.tolist() == [3, 2, 4, 6]
    assert terminated.tolist() == [True, False, False, False]
    assert truncated.tolist() == [False, False, True, False]
    assert infos["diverged"].tolist() == [False, True, False, False]
    assert infos["coord"][:, 0].tolist() == [3, 2, 4, 6]
    assert infos["world_steps"].tolist() == [3, 2, 4, 6]
    env.close()
    assert below.closed


def choose_rows(n: int) -> Any:
    return np.ones((n, 2), np.float32)


def test_some_worlds_may_start_anew_while_others_go_on() -> None:
    below, env = worlds_of("sphere", hold=30)
    env.reset(seed=0)
    env.step(choose_rows(3))
    env.reset(options={"reset_mask": np.array([True, False, False])})
    _, _, _, truncated, _ = env.step(choose_rows(3))
    assert truncated.tolist() == [False, True, True]
    assert below._steps[0] == 30  # the others, at their limit after ten steps, did not cut its step short


# ---- what does not fit


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"id": "ant"}, r"skills of environment 'ant' cannot be used here; accepted: skills of 'point'"),
        ({"obs_shape": (3,)}, r"observations of shape \(3,\); here they have \(2,\)"),
        ({"action_dim": 3}, r"trained with 3 actions; here is Box"),
        (
            {"obs_mean": (0.0, 0.0), "obs_std": (1.0, 1.0)},
            r"another normalization of observations; set normalizer as in their run",
        ),
    ],
)
def test_skills_of_another_world_are_refused(spec: dict[str, Any], message: str) -> None:
    below: Any = make_vec("point_two_goals", 2)
    with pytest.raises(ValueError, match=message):
        SkillVectorEnv(below, child("sphere", **spec))


def test_another_normalizer_is_refused() -> None:
    plain: Any = make_vec("ant_multi_goal", 1, normalizer="off")
    with pytest.raises(ValueError, match="another normalization of observations"):
        SkillVectorEnv(plain, child("sphere", env="ant"))
    fits: Any = make_vec("ant_multi_goal", 1)
    assert SkillVectorEnv(fits, child("sphere", env="ant")).max_steps == 8


def test_an_agent_without_skills_and_a_senseless_hold_are_refused() -> None:
    below: Any = make_vec("point_two_goals", 2)
    cfg = configure("agent=task", *SMALL[1:])
    plain = Agent(cfg.agent, cfg.backbone, describe(make_vec("point", 1), "point"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="agent=task has no skills to use as actions"):
        SkillVectorEnv(below, plain)
    for hold in (0, 2.0, True):
        with pytest.raises(ValueError, match=f"hold is {hold!r}; accepted: an integer of at least 1"):
            SkillVectorEnv(below, child("sphere"), hold)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_envs is 2; accepted: 1"):
        SkillEnv(below, child("sphere"))


# ---- the released program


def released_child(golden: Released, unit: str) -> Agent:
    """An agent with the weights of the released program's child, on the sphere or not."""
    agent_name = "csf" if unit == "unit1" else "cic"
    cfg = configure(f"agent={agent_name}", "agent.skill_dim=2", "agent.hidden=[8]", "agent.backbone.hidden=[32,32]")
    ant: Any = make_vec("ant", 1)
    agent = Agent(cfg.agent, cfg.backbone, describe(ant, "ant"))
    actor: Any = agent.backbone.actor
    linear = [layer for layer in actor.trunk if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, golden.layers[:2], strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        for whole, part in zip((actor.heads.weight, actor.heads.bias), golden.layers[2], strict=True):
            whole[:8] = torch.from_numpy(part)  # the mean's half; the mode needs no more
    return agent


@pytest.mark.parametrize("unit", ["unit1", "unit0"])
def test_golden_decisions(unit: str) -> None:
    """Each of the eight from the state in which the released program took it; as in test_tasks.py, by its own loop."""
    golden, below = Released(unit), released_ant(8)
    rows = golden.rows
    env = SkillVectorEnv(below, released_child(golden, unit), 25)
    raw = rows["obs"][:8] * (below.obs_std + 1e-8) + below.obs_mean
    raw[0, :29] = *rows["qpos0"], *rows["qvel0"]
    env.reset(options={"state": (raw[:, :15], raw[:, 15:29]), "goals": golden.goals})
    below._steps[:] = 25 * np.arange(8)
    below._aim(np.arange(8), below._number(below._steps))
    env._obs = below._obs()
    obs, reward, _, truncated, infos = env.step(rows["cp_action"])
    np.testing.assert_array_equal(reward, rows["rewards"])
    np.testing.assert_array_equal(truncated, rows["dones"])
    np.testing.assert_allclose(infos["action_norm"], rows["cp_action_norm"], rtol=1e-6)
    np.testing.assert_array_equal(infos["goal"], rows["goal"])
    np.testing.assert_array_equal(obs[:, 29:], rows["obs"][1:, 29:].astype(np.float32))
    if unit == "unit1":  # those in which no foot met the ground anew
        calm = [1, 2, 3, 4, 7]
        np.testing.assert_allclose(infos["coord"][calm], rows["next_coordinates"][calm], atol=1e-5)


# ---- one framework: the sampler and every controller


@pytest.mark.parametrize(("prior", "backbone"), [("sphere", "sac"), ("box", "ppo"), ("one_hot", "discrete_sac")])
def test_the_sampler_collects_decisions(prior: str, backbone: str) -> None:
    _, env = worlds_of(prior, hold=10)
    worlds: Any = env
    spec = describe(worlds, "point_two_goals")
    assert (spec.discrete, spec.action_dim, spec.max_steps) == (prior == "one_hot", SIZES[prior], 4)
    cfg = configure("agent=task", f"agent/backbone={backbone}", "agent.backbone.hidden=[8]")
    agent = Agent(cfg.agent, cfg.backbone, spec)
    sampler = RolloutSampler(worlds, spec, 0, "cpu", terminal_at_limit=True)
    episodes = sampler.collect(agent.act, agent.objective.sample_skills(5))
    assert episodes.obs.shape == (5, 5, 4)
    assert episodes.action.shape == (5, 4, SIZES[prior])
    assert episodes.length.tolist() == [4] * 5
    assert episodes.terminal.tolist() == [[0, 0, 0, 1]] * 5
    if prior == "one_hot":
        assert torch.equal(episodes.action.sum(-1), torch.ones(5, 4))


def test_one_world_takes_pictures_if_its_worlds_do() -> None:
    worlds: Any = make_vec("point_two_goals", 1, render_mode="rgb_array", render_size=32)
    env = SkillEnv(worlds, child("sphere"), 5)
    env.reset(seed=0)
    assert env.render_mode == "rgb_array"
    assert env.render().shape == (32, 32, 3)
    assert "rgb_array" in env.metadata["render_modes"]


# ---- other people's trainers


@pytest.mark.parametrize("prior", LAWS)
def test_one_world_keeps_gymnasiums_rules(prior: str) -> None:
    env = SkillEnv(make_vec("point_two_goals", 1), child(prior), 5)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*spec.*")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("trainer", "prior", "settings"),
    [
        ("SAC", "sphere", {"learning_starts": 50, "batch_size": 32}),
        ("PPO", "gaussian", {"n_steps": 64, "batch_size": 32}),
        ("PPO", "one_hot", {"n_steps": 64, "batch_size": 32}),
    ],
)
def test_stable_baselines_trains_a_controller(trainer: str, prior: str, settings: dict[str, Any]) -> None:
    env: gymnasium.Env[Any, Any] = SkillEnv(make_vec("point_two_goals", 1), child(prior), 5)  # type: ignore[arg-type]
    import stable_baselines3  # here, since the tests of a GPU use this file where it is not installed

    kind: Any = getattr(stable_baselines3, trainer)
    model = kind("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [16]}, **settings)
    before = [param.detach().clone() for param in model.policy.parameters()]
    model.learn(256)
    assert model.num_timesteps >= 256
    moved = [not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True)]
    assert all(torch.isfinite(param).all() for param in model.policy.parameters())
    assert any(moved)
    action, _ = model.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(action if prior != "one_hot" else np.int64(action))


# ---- what is measured


@pytest.mark.parametrize("hold", [1, 3])
def test_goals_and_measures_are_those_of_the_worlds(hold: int) -> None:
    below, env = worlds_of("sphere", hold=hold)
    assert env.has_goals
    assert env.goal_names == below.goal_names == ()
    for mine, theirs in zip(env.goal_at([1.0, 0.5]), below.goal_at([1.0, 0.5]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    coord, length = np.array([[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]]), np.array([2])
    found, want = (each.success(coord, length, coord[:, 2]) for each in (env, below))
    assert found == want
    assert found["distance"].tolist() == [0.0]
    # Where skills are held, the coordinates in between are not known.
    assert env.measure(coord, length) == ({"coverage": 3.0} if hold == 1 else {})


@pytest.mark.parametrize("method", [copy.copy, copy.deepcopy, pickle.dumps])
def test_they_say_that_they_cannot_be_copied(method: Any) -> None:
    kinds: list[Any] = [SkillVectorEnv, SkillEnv]
    for env in (kind(make_vec("point", 1), child("sphere"), 3) for kind in kinds):
        with pytest.raises(TypeError, match=f"^{type(env).__name__} cannot be copied or pickled; create another one"):
            method(env)
