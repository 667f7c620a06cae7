"""Tasks show, pay and count what they say, on worlds that stay what they are, as in the paper's released program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from env_rules import assert_gymnasium_accepts, assert_same_step
from gymnasium.error import ClosedEnvironmentError, DependencyNotInstalled, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs
from envs.half_cheetah import half_cheetah_model
from envs.observations import Array
from envs.tasks.half_cheetah_hurdle import HURDLES

GOLDEN = Path(__file__).parent / "golden"
BASES = {
    "ant_multi_goal": "ant",
    "half_cheetah_goal": "half_cheetah",
    "half_cheetah_hurdle": "half_cheetah",
    "point_two_goals": "point",
}
IDS = {
    "ant_multi_goal": "csf/AntMultiGoal-v0",
    "half_cheetah_goal": "csf/HalfCheetahGoal-v0",
    "half_cheetah_hurdle": "csf/HalfCheetahHurdle-v0",
    "point_two_goals": "csf/PointTwoGoals-v0",
}
GOAL_TASKS = ["ant_multi_goal", "half_cheetah_goal", "point_two_goals"]
# Every task, and every way in which its goals can come.
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in BASES]
CASES += [("ant_multi_goal", {"goal_mode": mode}) for mode in ("resample", "reference")]


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log of diverged worlds into the working directory."""
    monkeypatch.chdir(tmp_path)


def make_vec(name: str, num_envs: int, **settings: Any) -> Any:
    """As `envs.make_vec`, without a type, because the tests look inside; one thread where there are threads."""
    threads = {} if BASES.get(name, name) == "point" else {"threads": 1}
    return envs.make_vec(name, num_envs, **threads, **settings)


def actions_for(env: Any, steps: int, seed: int = 0) -> Array:
    """[T, N, A] float32."""
    shape = (steps, *env.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def play(env: Any, actions: Array, **reset: Any) -> dict[str, Array]:
    """One episode: obs [T + 1, N, O], reward [T, N], and every info stacked over its steps."""
    obs, infos = env.reset(**reset)
    rows: dict[str, list[Array]] = {"obs": [obs], "reward": []}
    rows |= {key: [value] for key, value in infos.items()}
    for action in actions:
        obs, reward, terminated, truncated, infos = env.step(action)
        assert not terminated.any()
        for key, value in {"obs": obs, "reward": reward, "truncated": truncated, **infos}.items():
            rows.setdefault(key, []).append(value)
    return {key: np.array(value) for key, value in rows.items()}


# What a task is


@pytest.mark.parametrize(("name", "base"), BASES.items())
def test_facts(name: str, base: str) -> None:
    env, below = make_vec(name, 2), make_vec(base, 2)
    dim = {"ant_multi_goal": 2, "half_cheetah_goal": 1, "half_cheetah_hurdle": 2, "point_two_goals": 2}[name]
    radii = {"ant_multi_goal": (3.0,), "half_cheetah_goal": (3.0,), "point_two_goals": (0.3,)}.get(name, ())
    assert (env.base, env.goal_dim, env.success_radii) == (base, dim, radii)
    (seen,) = below.single_observation_space.shape
    assert env.observation_space.shape == (2, seen + dim)
    assert env.observation_space.dtype == np.float32
    assert env.action_space == below.action_space
    assert (env.coord_dim, env.coverage_cell, env.version) == (below.coord_dim, below.coverage_cell, below.version)
    assert env.max_steps == (40 if base == "point" else 200)
    if base == "point":
        assert env.obs_mean is None
        assert env.obs_std is None
    else:
        np.testing.assert_array_equal(env.obs_mean, [*below.obs_mean, *[0] * dim])
        np.testing.assert_array_equal(env.obs_std, [*below.obs_std, *[1] * dim])
        assert make_vec(name, 1, normalizer="off").obs_mean is None
    assert envs.make_vec(IDS[name], 1).__class__ is env.__class__


def test_defaults_are_the_papers() -> None:
    ant, cheetah, point = (make_vec(name, 1) for name in GOAL_TASKS)
    assert (ant.goal_range, ant.goal_mode, ant.num_goals, ant.num_goal_steps) == (7.5, "chain", 5, 50)
    assert (cheetah.goal_range, cheetah.num_goals) == (100.0, 1)
    assert (point.goal_range, point.num_goals, point.num_goal_steps) == (1.5, 2, 20)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_worlds_are_those_of_the_environment_below(name: str, settings: dict[str, Any]) -> None:
    """From the same seeds, bit for bit: the task draws after its world, and adds nothing but columns."""
    env, below = make_vec(name, 3, **settings), make_vec(BASES[name], 3)
    if name == "half_cheetah_hurdle":  # no hurdle is near
        for worlds in (env._worlds, below):
            worlds.model.qpos0[0] = 1.0
    found, want = (play(each, actions_for(below, 20), seed=4) for each in (env, below))
    np.testing.assert_array_equal(found["obs"][..., : -env.goal_dim], want["obs"])
    np.testing.assert_array_equal(found["coord"], want["coord"])
    assert {"success", "staying"} <= set(found)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_worlds_equal_gymnasiums_loop_over_single_ones(name: str, settings: dict[str, Any]) -> None:
    ours = make_vec(name, 3, max_steps=12, **settings)

    def single(seed: int) -> gymnasium.Env[Any, Any]:
        own: dict[str, Any] = {"goal_seed": seed} if "goal_mode" in settings else {}
        return gymnasium.make(IDS[name], max_steps=12, **settings, **own)

    theirs = SyncVectorEnv([lambda i=i: single(i) for i in range(3)], autoreset_mode=AutoresetMode.DISABLED)  # type: ignore[misc]
    for env in (ours, *(each.unwrapped.worlds for each in theirs.envs)):  # type: ignore[attr-defined]
        env.num_goal_steps = 4  # several goals in a short test
    assert ours.observation_space == theirs.observation_space

    def reset(seed: Any, mask: Sequence[bool] | None) -> None:
        options = [None if mask is None else {"reset_mask": np.array(mask)} for _ in range(2)]
        obs, infos = ours.reset(seed=seed, options=options[0])
        their_obs, their_infos = theirs.reset(seed=seed, options=options[1])
        np.testing.assert_array_equal(obs, their_obs)
        for key in {*infos, *their_infos}:
            rows = slice(None) if mask is None else np.flatnonzero(mask)
            np.testing.assert_array_equal(infos[key][rows], their_infos[key][rows])

    reset(11, None)
    for t, action in enumerate(actions_for(ours, 24)):
        if t == 5:
            reset(None, [True, False, True])
        if t == 12:
            reset([5, None, 9], None)
        assert_same_step(ours.step(action), theirs.step(action))
    theirs.close()


@pytest.mark.parametrize("identifier", IDS.values())
def test_gymnasiums_checker(identifier: str) -> None:
    assert_gymnasium_accepts(identifier)


# Goals


def test_points_goals_rewards_and_counts_by_hand() -> None:
    """Three points that go right by 0.1 a step, stand still, and go up, so that every number is plain."""
    env = make_vec("point_two_goals", 3)
    goals = np.array([[[1.05, 0], [2.45, 0]], [[0.3, 0], [0, 0.31]], [[0, 9], [0, 2.05]]])
    actions = np.tile([[1.0, 0], [0, 0], [0, 1]], (40, 1, 1))
    found = play(env, actions, options={"goals": goals})
    x = np.arange(1, 41)
    want = np.zeros((40, 3))
    want[(x >= 8) & (x <= 13), 0] = 1  # 0.8 to 1.3 are within 0.3 of 1.05
    want[(x >= 22) & (x <= 27), 0] = 1
    want[:20, 1] = 1  # the first step too, and the circle itself; then the goal is 0.31 away
    want[(x >= 21) & (x <= 23), 2] = 1  # 1.8 to 2.0 pay nothing, for their goal is another
    np.testing.assert_array_equal(found["reward"], want)
    shown = goals[:, [0] * 20 + [1] * 21].swapaxes(0, 1)  # after 20 steps the next goal is seen, then for good
    np.testing.assert_array_equal(found["goal"], shown)
    np.testing.assert_array_equal(found["obs"][..., 2:], shown.astype(np.float32))
    np.testing.assert_array_equal(found["staying"][-1], [[6, 6], [20, 0], [0, 3]])
    np.testing.assert_array_equal(found["success"][-1], [[True, True], [True, False], [False, True]])
    np.testing.assert_array_equal(found["staying"][[0, 7, 8, 21, 22], 0], [[0, 0], [0, 0], [1, 0], [6, 0], [6, 1]])
    np.testing.assert_array_equal(found["staying"].sum(2)[1:], want.cumsum(0))
    assert found["truncated"].sum() == 3
    assert found["truncated"][-1].all()


def rewards_by_loop(coord: Array, goal: Array, radius: float) -> Array:
    """Plain Python over steps and worlds: coordinates after, goals before; the first step is never paid."""
    reward = np.zeros(coord[1:, :, 0].shape)
    for t, n in np.ndindex(reward.shape):
        delta = sum((a - b) ** 2 for a, b in zip(goal[t, n], coord[t + 1, n], strict=True)) ** 0.5
        reward[t, n] = float(delta <= radius and t + 1 != 1)
    return reward


def test_ants_rewards_and_switches() -> None:
    """Goals a little nearer and farther than 3 m, so that the ants' own walk decides what is paid."""
    env = make_vec("ant_multi_goal", 6)
    actions = actions_for(env, 200)
    goals = np.random.default_rng(1).normal(size=(6, 5, 2))
    goals *= np.random.default_rng(2).uniform(2.7, 3.3, (6, 5, 1)) / np.linalg.norm(goals, axis=2, keepdims=True)
    goals[0, 0] = 0.0  # within from the start
    found = play(env, actions, seed=0, options={"goals": goals})
    want = rewards_by_loop(found["coord"], found["goal"], 3.0)
    np.testing.assert_array_equal(found["reward"], want)
    assert found["reward"][:50, 0].sum() == 49
    assert 0.2 < want.mean() < 0.8
    for t in range(201):  # a change with every fiftieth step, whatever was reached; the fifth comes with the last
        np.testing.assert_array_equal(found["goal"][t], goals[:, t // 50])
    np.testing.assert_array_equal(found["obs"][..., 29:], found["goal"].astype(np.float32))
    for k in range(4):
        paid = want[50 * k : 50 * k + 50].sum(0)
        np.testing.assert_array_equal(found["staying"][-1, :, k], paid)
        np.testing.assert_array_equal(found["success"][-1, :, k], paid > 0)
    assert found["success"].shape == (201, 6, 4)
    assert [found["truncated"][t].tolist() for t in (198, 199)] == [[False] * 6, [True] * 6]
    again = [env.step(actions[0]) for _ in range(60)]  # worlds that wait for others count nothing more
    np.testing.assert_array_equal(again[-1][4]["staying"], found["staying"][-1])
    np.testing.assert_array_equal(again[-1][4]["goal"], goals[:, 4])


def goals_of(env: Any, seed: int | None = None) -> Array:
    """[N, K, C]: the goals that a fresh episode shows one after another; nobody moves but by noise."""
    env.num_goal_steps = 1
    found = play(env, np.zeros((env.num_goals - 1, *env.action_space.shape)), seed=seed)
    return found["goal"].swapaxes(0, 1)


def test_a_chain_of_goals() -> None:
    env = make_vec("ant_multi_goal", 500)
    goals = goals_of(env, 0)
    assert goals.shape == (500, 5, 2)
    steps = np.diff(goals, axis=1, prepend=0)
    assert (np.abs(steps) <= 7.5).all()
    np.testing.assert_allclose(np.abs(steps).max((0, 2)), 7.5, rtol=0.02)
    np.testing.assert_allclose(steps.std((0, 2)), 15 / np.sqrt(12), rtol=0.06)
    assert np.abs(np.corrcoef(steps[..., 0].T) - np.eye(5)).max() < 0.15
    assert np.abs(goals[:, 4]).max() > 12
    other = goals_of(env)
    assert (other != goals).all()  # every episode has its own
    near = goals_of(make_vec("ant_multi_goal", 50, goal_range=0.5), 0)
    np.testing.assert_allclose(near, goals[:50] / 15)


def test_the_released_programs_goals() -> None:
    """Goals 2 to 4 stay for good, are a chain from a goal of their own, and the last step shows that one."""
    env = make_vec("ant_multi_goal", 200, goal_mode="reference", goal_seed=3)
    first, second, third = goals_of(env, 0), goals_of(env), goals_of(env, 8)
    for other in (second, third):
        assert (first[:, 0] != other[:, 0]).all()
        np.testing.assert_array_equal(first[:, 1:], other[:, 1:])
    chain = first[:, [4, 1, 2, 3]]  # as the world was given it
    assert (np.abs(np.diff(chain, axis=1, prepend=0)) <= 7.5).all()
    assert np.abs(first[:, 0]).max() <= 7.5
    assert np.abs(first[:, 1] - first[:, 0]).max() > 7.5  # the chain does not know the episode's first goal
    np.testing.assert_allclose(first[:, 0].std(0), 15 / np.sqrt(12), rtol=0.1)
    apart = goals_of(make_vec("ant_multi_goal", 3, goal_mode="reference", goal_seed=5), 0)
    np.testing.assert_array_equal(apart[0, 1:], first[2, 1:])  # world i of seed s is world 0 of s + i
    assert (apart[0, 1:] != first[0, 1:]).all()
    masked = make_vec("ant_multi_goal", 3, goal_mode="reference", goal_seed=3)
    masked.reset(seed=0)
    masked.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(masked._goals[:, 1:], first[:3, 1:])


def test_goals_around_the_ant() -> None:
    env = make_vec("ant_multi_goal", 300, goal_mode="resample", num_goal_steps=2, max_steps=6)
    found = play(env, np.zeros((6, 300, 8)), seed=0)
    np.testing.assert_array_equal(found["goal"][0], env._goals[:, 0])
    for t in (2, 4, 6):
        offset = found["goal"][t] - found["coord"][t]
        np.testing.assert_allclose(offset, env._goals[:, t // 2], atol=1e-12)
        assert np.abs(offset).max() <= 7.5
        np.testing.assert_allclose(offset.std(0), 15 / np.sqrt(12), rtol=0.1)
        np.testing.assert_array_equal(found["goal"][t - 1], found["goal"][t - 2])  # it does not follow the ant
    far = np.zeros((300, 15))
    far[:, 0], far[:, 2:4] = 40.0, 1.0
    offsets = np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    found = play(env, np.zeros((2, 300, 8)), options={"state": (far, np.zeros((300, 14))), "goals": offsets})
    np.testing.assert_array_equal(found["goal"][0], [[1.0, 2]] * 300)
    np.testing.assert_allclose(found["goal"][2], found["coord"][2] + [3, 4])


def test_half_cheetahs_goal() -> None:
    env = make_vec("half_cheetah_goal", 400)
    goal = env.reset(seed=0)[1]["goal"]
    assert goal.shape == (400, 1)
    assert np.abs(goal).max() <= 100
    np.testing.assert_allclose([goal.mean(), goal.std()], [0, 200 / np.sqrt(12)], rtol=0.1, atol=8)
    assert (env.reset()[1]["goal"] != goal).all()
    env = make_vec("half_cheetah_goal", 4)
    found = play(
        env, actions_for(env, 200), seed=0, options={"goals": np.array([[[3.0]], [[-3.2]], [[0.0]], [[50.0]]])}
    )
    np.testing.assert_array_equal(found["reward"], rewards_by_loop(found["coord"], found["goal"], 3.0))
    assert (found["reward"].sum(0) > 0).tolist() == [True, True, True, False]
    assert found["reward"][:5, 2].tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(found["goal"], [[[3.0], [-3.2], [0.0], [50.0]]] * 201)  # one goal, to the end
    np.testing.assert_array_equal(found["obs"][..., 18:], found["goal"].astype(np.float32))
    np.testing.assert_array_equal(found["staying"][-1, :, 0], found["reward"].sum(0))
    assert found["truncated"][199].all()


def test_points_goals_are_independent() -> None:
    env = make_vec("point_two_goals", 500)
    goals = goals_of(env, 0)
    assert goals.shape == (500, 2, 2)
    assert np.abs(goals).max() <= 1.5
    np.testing.assert_allclose(goals.std(0), 3 / np.sqrt(12), rtol=0.07)
    assert np.abs(np.corrcoef(goals.reshape(500, 4).T) - np.eye(4)).max() < 0.15


@pytest.mark.parametrize("name", GOAL_TASKS)
def test_goals_for_evaluation_are_where_they_say(name: str) -> None:
    env, below = make_vec(name, 2), make_vec(BASES[name], 2, goal_range=make_vec(name, 1).goal_range)
    env.reset(seed=0)
    obs, place = env.goals(30, np.random.default_rng(0))
    want, there = below.goals(30, np.random.default_rng(0))
    assert obs.dtype == np.float32
    np.testing.assert_array_equal(obs, np.concatenate((want, there.astype(np.float32)), axis=1))
    np.testing.assert_array_equal(place, there)


def test_one_world_takes_goals() -> None:
    env = gymnasium.make(IDS["point_two_goals"])
    obs, info = env.reset(options={"goals": [[1, 2], [3, 4]], "state": (np.array([0.5, 0]),)})
    np.testing.assert_array_equal(obs, [0.5, 0, 1, 2])
    assert set(info) == {"coord", "goal", "success", "staying"}
    np.testing.assert_array_equal(info["goal"], [1, 2])
    for _ in range(20):
        obs, reward, *_, info = env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(obs, [0.5, 0, 3, 4])
    assert reward == 0


def test_goals_are_given_to_those_that_restart() -> None:
    env = make_vec("point_two_goals", 3)
    _, before = env.reset(seed=0)
    given = np.arange(12.0).reshape(3, 2, 2)
    obs, infos = env.reset(options={"goals": given, "reset_mask": np.array([False, True, True])})
    np.testing.assert_array_equal(infos["goal"], [before["goal"][0], [4, 5], [8, 9]])
    np.testing.assert_array_equal(obs[1:, 2:], [[4, 5], [8, 9]])
    given[:] = 0  # the caller's array stays the caller's
    for _ in range(20):
        _, *_, infos = env.step(np.zeros((3, 2)))
    np.testing.assert_array_equal(infos["goal"][1:], [[6, 7], [10, 11]])
    drawn = env.reset()[1]["goal"]
    assert (np.abs(drawn) <= 1.5).all()


# Hurdles


def test_hurdles_leave_the_cheetah_as_it_is() -> None:
    plain, track = half_cheetah_model(), half_cheetah_model(HURDLES)
    for field in ("body_mass", "body_inertia", "body_invweight0", "dof_M0", "actuator_acc0", "body_ipos"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(track, field), err_msg=field)
    boxes = np.flatnonzero(track.geom_type == int(mujoco.mjtGeom.mjGEOM_BOX))
    assert len(boxes) == track.ngeom - plain.ngeom == 12
    np.testing.assert_array_equal(track.geom_pos[boxes], [[x, 0, 0.2] for x in HURDLES])
    np.testing.assert_array_equal(track.geom_size[boxes], [[0.05, 1, 0.03]] * 12)
    assert (track.geom_conaffinity[boxes] == 1).all()
    assert (track.geom_condim[boxes] == 3).all()
    legs = mujoco.mj_name2id(track, int(mujoco.mjtObj.mjOBJ_GEOM), "bfoot")
    for field in ("geom_friction", "geom_solref", "geom_solimp", "geom_margin"):
        np.testing.assert_array_equal(getattr(track, field)[boxes], [getattr(track, field)[legs]] * 12)


def first_touch(qpos: Array, actions: Array) -> int:
    """Step [T] in which a cheetah that starts at rest at `qpos` first touches a hurdle, in a loop of our own; or T."""
    model = half_cheetah_model(HURDLES)
    boxes, data = np.flatnonzero(model.geom_type == int(mujoco.mjtGeom.mjGEOM_BOX)), mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_forward(model, data)
    for t, action in enumerate(actions):
        data.ctrl[:] = action
        for _ in range(5):
            mujoco.mj_step(model, data)  # contacts are those of the state before
            if np.isin(data.contact.geom, boxes).any():
                return t
    return len(actions)


def test_hurdles_matter_only_when_they_are_touched() -> None:
    env, plain = make_vec("half_cheetah_hurdle", 6, normalizer="off"), make_vec("half_cheetah", 6, normalizer="off")
    qpos = np.zeros((6, 9))
    qpos[:, 0] = np.linspace(0.9, 3.1, 6)
    actions, state = actions_for(env, 60), (qpos, np.zeros((6, 9)))
    found, want = (play(each, actions, options={"state": state})["obs"] for each in (env, plain))
    touch = [first_touch(qpos[n], actions[:, n].astype(float)) for n in range(6)]
    assert min(touch) < 20
    assert max(touch) == 60
    for n, t in enumerate(touch):
        np.testing.assert_array_equal(found[: t + 1, n, :18], want[: t + 1, n])
        assert t == 60 or (found[t + 2 :, n, :18] != want[t + 2 :, n]).any(1).all()


def test_the_back_foot_is_where_the_body_is() -> None:
    """Of the present state after a step, a reset and a partial reset; the released program lags a substep."""
    env = make_vec("half_cheetah_hurdle", 3)
    model = env._cheetahs.model
    data, body = mujoco.MjData(model), mujoco.mj_name2id(model, int(mujoco.mjtObj.mjOBJ_BODY), "bfoot")

    def check(obs: Array) -> None:
        for n, qpos in enumerate(env._cheetahs._qpos):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            foot = data.xpos[body, 0]
            assert env._cheetahs.back_foot()[n] == foot
            ahead = min(x for x in HURDLES if x >= foot)
            np.testing.assert_array_equal(obs[n, 18:], np.array([ahead, abs(ahead - foot)], np.float32))

    check(env.reset(seed=0)[0])
    for action in actions_for(env, 10):
        check(env.step(action)[0])
    check(env.reset(options={"reset_mask": np.array([False, True, True])})[0])
    assert env._cheetahs.back_foot() is not env._cheetahs.back_foot()


def on_track(env: Any, foot: Array) -> None:
    """Lets the task believe that the back feet [N] are there."""
    env._cheetahs.back_foot = lambda: np.asarray(foot, float)


def test_the_next_hurdle_by_hand() -> None:
    feet = [-20.0, -15.0, -14.99, -0.5, 2.9, 3.0, 3.01, 26.0, 27.0, 27.5, 40.0]
    env = make_vec("half_cheetah_hurdle", len(feet))
    on_track(env, np.array(feet))
    obs, _ = env.reset(seed=0)
    ahead = [-15.0, -15.0, -13.0, 3.0, 3.0, 3.0, 7.0, 27.0, 27.0, 15.0, 15.0]
    far = [5.0, 0.0, 1.99, 3.5, 0.1, 0.0, 3.99, 1.0, 0.0, 12.5, 25.0]
    np.testing.assert_allclose(obs[:, 18:], np.array([ahead, far]).T, atol=1e-6)


def test_hurdles_rewards_by_hand() -> None:
    env = make_vec("half_cheetah_hurdle", 2)
    walks = np.array([[-0.6, 2.9, 3.0, 3.1, 12.0, 12.5, 2.0, 30.0], [-6.0, -4.0, -20.0, 0.0, 7.5, 6.5, 3.0, -1.0]])
    on_track(env, walks[:, 0])
    _, infos = env.reset(seed=0)
    assert not infos["success"].any()
    rewards, counts = [], []
    for foot in walks.T[1:]:
        on_track(env, foot)
        _, reward, *_, infos = env.step(np.zeros((2, 6)))
        rewards.append(reward)
        counts.append(infos["staying"])
    np.testing.assert_array_equal(np.transpose(rewards), [[0, 0, 1, 2, 0, -3, 7], [0, 0, 0, 2, -1, -1, 0]])
    np.testing.assert_array_equal(counts[-1], [[4, 3, 3, 1, 1, 1, 1], [2, 1, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(infos["success"], counts[-1] > 0)
    on_track(env, np.array([8.0, 8.0]))  # who starts beyond hurdles is not paid for them
    env.reset(seed=0, options={"reset_mask": np.array([True, False])})
    on_track(env, np.array([8.1, 12.0]))
    _, reward, *_, infos = env.step(np.zeros((2, 6)))
    np.testing.assert_array_equal(reward, [0, 3])
    np.testing.assert_array_equal(infos["staying"], [[1, 1, 0, 0, 0, 0, 0], [3, 2, 1, 0, 0, 0, 0]])


def test_a_cheetah_is_paid_for_hurdles_that_it_passes() -> None:
    env = make_vec("half_cheetah_hurdle", 3)
    qpos, qvel = np.zeros((3, 9)), np.zeros((3, 9))
    qpos[:, 0], qvel[:, 0] = [3.0, 7.0, 4.5], [6.0, 5.0, -8.0]
    qpos[:, 1] = 1.0  # thrown above the hurdles
    found = play(env, np.zeros((8, 3, 6)), options={"state": (qpos, qvel)})
    assert found["reward"].sum(0).tolist() == [1, 1, -1]
    with pytest.raises(NotImplementedError, match="HalfCheetahHurdleVectorEnv defines no goals"):
        env.goals(1, np.random.default_rng(0))


# Episodes


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_seed_decides_everything(name: str, settings: dict[str, Any]) -> None:
    env = make_vec(name, 2, **settings)
    actions = actions_for(env, 30)
    first, again, other = play(env, actions, seed=5), play(env, actions, seed=5), play(env, actions, seed=7)
    fresh = play(make_vec(name, 2, **settings), actions, seed=5)
    for key, rows in first.items():
        np.testing.assert_array_equal(rows, again[key])
        np.testing.assert_array_equal(rows, fresh[key])
    assert (first["obs"][0, :, -1] != other["obs"][0, :, -1]).all()
    assert (first["obs"][0, 0, -1] != first["obs"][0, 1, -1]).all()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_world_that_restarts_leaves_the_others_alone(name: str, settings: dict[str, Any]) -> None:
    """The restarted one runs as if its episode were the only one, its clock at zero; the others notice nothing."""
    actions = actions_for(make_vec(name, 3), 14)

    def run(restart: bool) -> tuple[dict[str, Array], dict[str, Array]]:
        env = make_vec(name, 3, max_steps=12, **settings)
        env.num_goal_steps = 5
        play(env, actions[:7], seed=2)
        options = {"reset_mask": np.array([False, True, False])}
        obs, infos = env.reset(seed=40, options=options) if restart else (env._obs(), {})
        rows = {"obs": [obs]}
        for action in actions[:5]:
            obs, reward, _, truncated, infos = env.step(action)
            for key, value in {"obs": obs, "reward": reward, "truncated": truncated, **infos}.items():
                rows.setdefault(key, []).append(value)
        fresh = make_vec(name, 3, max_steps=12, **settings)
        fresh.num_goal_steps = 5
        return {key: np.array(value) for key, value in rows.items()}, play(fresh, actions[:5], seed=40)

    (with_restart, alone), (without, _) = run(True), run(False)
    for key in with_restart:
        np.testing.assert_array_equal(with_restart[key][:, [0, 2]], without[key][:, [0, 2]])
        np.testing.assert_array_equal(with_restart[key][-5:, 1], alone[key][-5:, 1], err_msg=key)
    assert with_restart["truncated"][-1].tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["ant_multi_goal", "half_cheetah_goal", "half_cheetah_hurdle"])
def test_a_diverged_world_is_flagged_and_earns_nothing(name: str) -> None:
    goals = {} if name == "half_cheetah_hurdle" else {"goals": np.zeros(make_vec(name, 1)._goals.shape[1:])}

    def run(disturb: float | None) -> dict[str, Array]:
        env = make_vec(name, 3)
        actions = actions_for(env, 12)
        rows = [play(env, actions[:6], seed=3, options=goals)]
        if disturb is not None:
            env._worlds._qvel[1, 0] = disturb
        steps = [env.step(action) for action in actions[6:]]
        rows.append({key: np.array([step[4][key] for step in steps]) for key in ("diverged", "staying", "coord")})
        rows[1] |= {key: np.array([step[i] for step in steps]) for i, key in enumerate(("obs", "reward"))}
        return rows[1]

    healthy = run(None)
    assert not healthy["diverged"].any()
    if goals:  # the steps before, but the first, and those since
        np.testing.assert_array_equal(healthy["staying"][..., 0], 5 + np.tile(np.arange(1, 7)[:, None], 3))
    for disturb in (np.nan, 1e12):
        found = run(disturb)
        assert [tuple(index) for index in np.argwhere(found["diverged"])] == [(0, 1)]
        assert found["reward"][0, 1] == 0
        assert np.isfinite(found["obs"]).all()
        for key in found:
            np.testing.assert_array_equal(found[key][:, [0, 2]], healthy[key][:, [0, 2]])
        if goals:
            assert found["staying"][0, 1, 0] == 5


@pytest.mark.parametrize("name", BASES)
def test_returned_arrays_are_copies(name: str) -> None:
    env = make_vec(name, 2)
    actions = actions_for(env, 6)
    want = play(env, actions, seed=0)
    obs, infos = env.reset(seed=0)
    for t, action in enumerate(actions):
        for value in (obs, *infos.values()):
            value[...] = 1
        obs, reward, *_, infos = env.step(action)
        np.testing.assert_array_equal(obs, want["obs"][t + 1])
        np.testing.assert_array_equal(reward, want["reward"][t])
        for key in infos.keys() & want.keys() - {"_diverged", "diverged"}:
            np.testing.assert_array_equal(infos[key], want[key][t + 1])


# Errors


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ant_multi_goal", {"goal_mode": "loop"}, r"goal_mode is 'loop'; accepted: 'chain', 'reference', 'resample'"),
        ("ant_multi_goal", {"num_goal_steps": 0}, r"num_goal_steps is 0; accepted: an integer of at least 1"),
        ("ant_multi_goal", {"goal_seed": -1}, r"goal_seed is -1; accepted: an integer of at least 0"),
        ("ant_multi_goal", {"goal_range": -7.5}, r"goal_range is -7.5; accepted: a positive finite number"),
        ("ant_multi_goal", {"contact_margin": "half"}, r"contact_margin is 'half'; accepted: 'reference', 'as_is'"),
        ("ant_multi_goal", {"max_steps": 0}, r"max_steps is 0; accepted: an integer of at least 1"),
        ("ant_multi_goal", {"radius": 2}, r"'ant_multi_goal' has no setting 'radius'; accepted: threads, .*goal_mode"),
        ("half_cheetah_goal", {"goal_mode": "chain"}, r"'half_cheetah_goal' has no setting 'goal_mode'; accepted: "),
        ("half_cheetah_goal", {"normalizer": "on"}, r"normalizer is 'on'; accepted: 'preset', 'off'"),
        (
            "half_cheetah_hurdle",
            {"goal_range": 5},
            r"no setting 'goal_range'; accepted: threads, normalizer, max_steps",
        ),
        ("point_two_goals", {"max_steps": 1.5}, r"max_steps is 1.5; accepted: an integer of at least 1"),
        ("ant_multi_gaol", {}, r"unknown environment 'ant_multi_gaol' \(did you mean 'ant_multi_goal'\?\)"),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envs.make_vec(name, 2, **settings)


def test_wrong_calls() -> None:
    env = make_vec("ant_multi_goal", 3)
    for options, message in [
        ({"goal": 1}, r"unknown reset options \['goal'\]; accepted: 'reset_mask', 'state', 'goals'"),
        ({"goals": np.zeros((3, 4, 2))}, r"goals have shape \(3, 4, 2\); accepted: \(3, 5, 2\) or \(5, 2\)"),
        ({"goals": np.full((5, 2), np.nan)}, "goals are not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros((3, 8)))
    with pytest.raises(ValueError, match=r"accepted: 'reset_mask', 'state'$"):
        make_vec("half_cheetah_hurdle", 1).reset(options={"goals": 1})
    for name in BASES:
        env = make_vec(name, 1)
        env.reset(seed=0)
        env.close()
        env.close()
        assert env._worlds.closed
        with pytest.raises(ClosedEnvironmentError):
            env.reset(seed=0)


def test_only_tasks_of_mujoco_need_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("envs.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    assert gymnasium.make_vec(IDS["point_two_goals"], 1, vectorization_mode="vector_entry_point")
    with pytest.raises(DependencyNotInstalled, match=r"'ant_multi_goal' needs 'mujoco', .*: pip install mujoco=="):
        make_vec("ant_multi_goal", 2)


# Against the paper's released program: its controller held eight skills of a frozen policy for 25 steps each.


class Released:
    """What the released program did in one episode, and its child policy."""

    def __init__(self, unit: str) -> None:
        file = np.load(GOLDEN / "hier_ant_nav_prime.npz")
        self.chain = file["goals_at_construction"]
        names = [key for key in file.files if key.startswith(f"{unit}/")]
        self.rows = {key.removeprefix(f"{unit}/"): file[key] for key in names}
        network = "policy/_module._shared_mean_log_std_network."
        layers = ("_layers.0.linear", "_layers.1.linear", "_output_layers.0.linear")
        self.layers = [[self.rows[f"{network}{each}.{part}"] for part in ("weight", "bias")] for each in layers]
        choice = self.rows["cp_action"]
        self.norm = np.linalg.norm(choice, axis=1)
        self.skill = choice / self.norm[:, None] if unit == "unit1" else choice * np.float32(1.5)
        # What the world was given for this episode, then the frozen chain and its beginning.
        self.goals = np.concatenate((self.rows["goal"][:1], self.chain[1:], self.chain[:1]))

    def act(self, obs: Array, skill: Array) -> Array:
        """[N, 31], [N, 2] -> [N, 8]: the child's mode; it must not see the goal."""
        hidden = np.concatenate((obs[:, :-2], skill), axis=1)
        for weight, bias in self.layers:
            hidden = np.tanh(hidden @ weight.T + bias)  # the mode is the tanh of the mean
        return hidden


def released_ant(num_envs: int) -> Any:
    return make_vec("ant_multi_goal", num_envs, goal_mode="reference", contact_margin="as_is")


@pytest.mark.parametrize("unit", ["unit1", "unit0"])
def test_golden_controller(unit: str) -> None:
    """From the stored start. The file's MuJoCo is 4: its steps differ by about 1e-6, and contacts amplify that.

    Rewards are compared where they survive a disturbance of the start by 1e-9: not in unit1's seventh step and
    unit0's last four. The next test compares these too.
    """
    golden, env = Released(unit), released_ant(1)
    rows = golden.rows
    state = rows["qpos0"][None], rows["qvel0"][None]
    obs, _ = env.reset(options={"state": state, "goals": golden.goals})
    np.testing.assert_array_equal(obs[0], rows["obs"][0].astype(np.float32))
    np.testing.assert_array_equal(golden.norm, rows["cp_action_norm"])
    stable = [0, 1, 2, 3, 4, 5, 7] if unit == "unit1" else [0, 1, 2, 3]
    for t in range(8):
        total = 0.0
        for _ in range(25):
            obs, reward, _, truncated, infos = env.step(golden.act(obs, golden.skill[t, None]))
            total += reward[0]
        np.testing.assert_array_equal(infos["goal"][0], rows["goal"][t])
        np.testing.assert_array_equal(obs[0, 29:], rows["obs"][t + 1, 29:].astype(np.float32))
        assert truncated[0] == rows["dones"][t]
        if t in stable:
            assert total == rows["rewards"][t], t
        if t == 0:
            np.testing.assert_allclose(infos["coord"][0], rows["next_coordinates"][0], atol=0.02)


@pytest.mark.parametrize("unit", ["unit1", "unit0"])
def test_golden_controller_step_by_step(unit: str) -> None:
    """Each of the eight decisions from the state in which the released program took it, as eight worlds at once."""
    golden, env = Released(unit), released_ant(8)
    rows = golden.rows
    raw = rows["obs"][:8] * (env.obs_std + 1e-8) + env.obs_mean
    raw[0, :29] = *rows["qpos0"], *rows["qvel0"]  # its quaternion was not normalized yet
    env.reset(options={"state": (raw[:, :15], raw[:, 15:29]), "goals": golden.goals})
    env._steps[:] = 25 * np.arange(8)
    env._aim(np.arange(8), env._number(env._steps))
    obs, total = env._obs(), np.zeros(8)
    np.testing.assert_allclose(obs, rows["obs"][:8], atol=1e-5)
    for _ in range(25):
        obs, reward, _, truncated, infos = env.step(golden.act(obs, golden.skill))
        total += reward
    np.testing.assert_array_equal(total, rows["rewards"])
    np.testing.assert_array_equal(truncated, rows["dones"])
    np.testing.assert_array_equal(infos["goal"], rows["goal"])
    np.testing.assert_array_equal(obs[:, 29:], rows["obs"][1:, 29:].astype(np.float32))
    if unit == "unit1":  # those in which no foot met the ground anew
        calm = [1, 2, 3, 4, 7]
        np.testing.assert_allclose(infos["coord"][calm], rows["next_coordinates"][calm], atol=1e-5)


def test_golden_goals_wrap() -> None:
    """The released program's goals again, now from the chain that a world keeps."""
    golden, env = Released("unit1"), released_ant(2)
    env._kept[1] = golden.chain
    goals = goals_of(env, 0)
    np.testing.assert_array_equal(goals[1, 1:], golden.goals[1:])
