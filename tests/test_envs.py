"""Worlds equal a plain MuJoCo loop and each other, keep to their presets, and fail with clear messages."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import gymnasium
import mujoco
import numpy as np
import pytest
from env_rules import assert_gymnasium_accepts, assert_same_step
from gymnasium.error import ClosedEnvironmentError, DependencyNotInstalled, ResetNeeded
from gymnasium.vector import AutoresetMode
from image_rules import need
from mujoco.batch import SimulationError

import envs
from envs.ant import ant_model
from envs.base import map_action
from envs.half_cheetah import half_cheetah_model
from envs.observations import Array
from envs.single import OneWorldEnv
from envs.vector import gymnasium_asset

GOLDEN = Path(__file__).parent / "golden"
OWN = tuple(envs._IDS)
IDS = {"ant": "csf/Ant-v0", "half_cheetah": "csf/HalfCheetah-v0", "point": "csf/Point-v0"}
MODELS: dict[str, Callable[[], mujoco.MjModel]] = {"ant": ant_model, "half_cheetah": half_cheetah_model}
DISABLED = {"autoreset_mode": AutoresetMode.DISABLED}


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log of diverged worlds into the working directory."""
    monkeypatch.chdir(tmp_path)


def make_vec(name: str, num_envs: int, **settings: Any) -> Any:
    """As `envs.make_vec`, without a type, because the tests look inside."""
    return envs.make_vec(name, num_envs, **settings)


def actions_for(env: Any, steps: int, seed: int = 0) -> Array:
    """[T, N, A] float32, a little beyond [-1, 1] so that clipping is exercised."""
    shape = (steps, *env.action_space.shape)
    return np.random.default_rng(seed).uniform(-1.2, 1.2, shape).astype(np.float32)


def state_of(env: Any) -> tuple[Array, Array]:
    """Copies of qpos [N, nq] and qvel [N, nv]."""
    return env._qpos.copy(), env._qvel.copy()


# Models


def test_ant_model_is_the_reference() -> None:
    model = ant_model()
    assert (model.nq, model.nv, model.nu, model.nbody, model.ngeom) == (15, 14, 8, 14, 14)
    assert model.opt.timestep == 0.01
    assert int(model.opt.integrator) == int(mujoco.mjtIntegrator.mjINT_RK4)
    np.testing.assert_array_equal(model.geom_margin, 0.005)
    np.testing.assert_array_equal(ant_model("as_is").geom_margin, 0.01)
    assert model.body_mass.sum() == pytest.approx(0.91088, abs=1e-5)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 150)


def test_half_cheetah_model_is_the_reference(capfd: pytest.CaptureFixture[str]) -> None:
    model = half_cheetah_model()
    assert (model.nq, model.nv, model.nu, model.nbody, model.ngeom) == (9, 9, 6, 8, 9)
    assert model.opt.timestep == 0.01
    assert int(model.opt.integrator) == int(mujoco.mjtIntegrator.mjINT_EULER)
    assert model.body_mass.sum() == pytest.approx(14.0, abs=1e-12)
    np.testing.assert_array_equal(model.geom_margin, 0)
    assert capfd.readouterr().err == ""  # the file's own settotalmass would warn here
    plain = mujoco.MjModel.from_xml_path(gymnasium_asset("half_cheetah.xml"))
    for field in (
        "body_mass",
        "body_inertia",
        "body_invweight0",
        "dof_invweight0",
        "dof_M0",
        "actuator_acc0",
    ):
        np.testing.assert_array_equal(getattr(model, field), getattr(plain, field), err_msg=field)


# Physics


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["ant", "half_cheetah"])
def test_worlds_equal_a_plain_loop_bit_for_bit(name: str, threads: int) -> None:
    env = make_vec(name, 3, threads=threads, normalizer="off")
    model = MODELS[name]()
    worlds = [mujoco.MjData(model) for _ in range(3)]

    def start(ids: Iterable[int]) -> None:
        for i in ids:
            mujoco.mj_resetData(model, worlds[i])
            worlds[i].qpos[:], worlds[i].qvel[:] = (part[i] for part in state_of(env))
            mujoco.mj_forward(model, worlds[i])

    env.reset(seed=7)
    start(range(3))
    xpos = env._batch.bind("xpos")
    for t, action in enumerate(actions_for(env, 100)):
        if t == 40:
            env.reset(options={"reset_mask": np.array([False, True, False])})
            start([1])
            if name == "ant":  # what a task reads is current after a reset, and after a step
                np.testing.assert_allclose(xpos[1, 1], env._qpos[1, :3], atol=1e-12)
        obs, *_, infos = env.step(action)
        for world, row in zip(worlds, map_action(action, 3, *env.bounds.T), strict=True):
            world.ctrl[:] = row
            mujoco.mj_step(model, world, nstep=5)
        qpos, qvel = (np.stack([getattr(w, part) for w in worlds]) for part in ("qpos", "qvel"))
        np.testing.assert_array_equal(np.concatenate(state_of(env), 1), np.concatenate((qpos, qvel), 1))
        np.testing.assert_array_equal(obs, np.concatenate((qpos, qvel), 1).astype(np.float32))
        np.testing.assert_array_equal(infos["coord"], qpos[:, : env.coord_dim])
        if name == "ant":
            np.testing.assert_allclose(xpos[:, 1], qpos[:, :3], atol=1e-12)
    assert not infos["diverged"].any()


def test_rewards() -> None:
    env = make_vec("ant", 2)
    _, infos = env.reset(seed=0)
    action = np.full((2, 8), 0.5, np.float32)
    _, reward, _, _, after = env.step(action)
    np.testing.assert_allclose(reward, (after["coord"] - infos["coord"])[:, 0] / 0.05 - 0.5 * 2.0 + 1.0)
    env = make_vec("half_cheetah", 2)
    _, infos = env.reset(seed=0)
    _, reward, _, _, after = env.step(np.full((2, 6), 0.5, np.float32))
    np.testing.assert_allclose(reward, (after["coord"] - infos["coord"])[:, 0] / 0.05 - 0.1 * 1.5)


@pytest.mark.parametrize("name", ["ant", "half_cheetah"])
def test_reset_noise(name: str) -> None:
    env = make_vec(name, 400, threads=1)
    env.reset(seed=0)
    qpos, qvel = state_of(env)
    noise = qpos - MODELS[name]().qpos0
    if name == "ant":
        np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, atol=1e-12)
        noise = np.delete(noise, range(3, 7), axis=1)
    assert np.abs(noise).max() <= 0.1
    np.testing.assert_allclose(noise.std(0), 0.2 / np.sqrt(12), rtol=0.1)
    np.testing.assert_allclose(qvel.std(0), 0.1, rtol=0.15)
    np.testing.assert_allclose(qvel.mean(0), 0.0, atol=0.02)


def test_diverged_world_is_flagged_once_and_leaves_the_others_alone() -> None:
    def run(disturb: float | None) -> tuple[Array, Array]:
        env = make_vec("ant", 4, threads=2)
        env.reset(seed=3)
        rows, flags = [], []
        for t, action in enumerate(actions_for(env, 30)):
            if disturb is not None and t == 10:
                env._qvel[2, 3] = disturb
            obs, reward, *_, infos = env.step(action)
            assert np.isfinite(obs).all()
            assert (np.abs(reward) < 100).all()
            assert (reward[infos["diverged"]] == 0).all()
            rows.append(obs)
            flags.append(infos["diverged"])
        return np.array(rows), np.array(flags)

    healthy, flags = run(None)
    assert not flags.any()
    for disturb in (np.nan, np.inf, 1e12, 1e8):
        rows, flags = run(disturb)
        assert [tuple(index) for index in np.argwhere(flags)] == [(10, 2)]
        np.testing.assert_array_equal(rows[:, [0, 1, 3]], healthy[:, [0, 1, 3]])
        assert np.abs(rows[10:, 2]).max() < 100


def test_a_state_that_is_bad_only_after_the_last_substep_is_flagged() -> None:
    env = make_vec("half_cheetah", 2, threads=1)
    env.reset(seed=0)
    step = env._batch.step

    def broken_step(**settings: Any) -> None:
        step(**settings)
        env._qpos[1, 0] = 1e11

    env._batch.step = broken_step
    obs, *_, infos = env.step(np.zeros((2, 6), np.float32))
    assert infos["diverged"].tolist() == [False, True]
    assert np.abs(obs).max() < 100


# The interface


@pytest.mark.parametrize("name", IDS)
def test_worlds_equal_gymnasiums_loop_over_single_ones(name: str) -> None:
    ours = make_vec(name, 3)
    theirs = gymnasium.make_vec(IDS[name], 3, vectorization_mode="sync", vector_kwargs=DISABLED)

    def reset(**settings: Any) -> None:
        (obs, infos), (their_obs, their_infos) = ours.reset(**settings), theirs.reset(**settings)
        np.testing.assert_array_equal(obs, their_obs)
        rows = their_infos["_coord"]
        np.testing.assert_array_equal(infos["coord"][rows], their_infos["coord"][rows])

    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    reset(seed=11)
    for t, action in enumerate(actions_for(ours, 15)):
        if t == 5:  # a mask is popped from the options, hence built anew for each
            (obs, _), (their_obs, _) = (
                env.reset(options={"reset_mask": np.array([True, False, True])}) for env in (ours, theirs)
            )
            np.testing.assert_array_equal(obs, their_obs)
        if t == 10:
            reset(seed=[5, None, 9])
        assert_same_step(ours.step(action), theirs.step(action))
    theirs.close()


@pytest.mark.parametrize("identifier", IDS.values())
def test_gymnasiums_checker(identifier: str) -> None:
    assert_gymnasium_accepts(identifier)


@pytest.mark.parametrize("name", IDS)
def test_episodes_are_truncated_once_at_max_steps(name: str) -> None:
    env = make_vec(name, 2)
    limit = 20 if name == "point" else 200
    assert env.max_steps == limit
    env = make_vec(name, 2, max_steps=6)
    env.reset(seed=0)
    truncated = []
    for t, action in enumerate(actions_for(env, 9)):
        if t == 4:
            env.reset(options={"reset_mask": np.array([False, True])})
        _, _, terminal, cut, _ = env.step(action)
        assert not terminal.any()
        truncated.append(cut.tolist())
    assert truncated == [[False] * 2] * 5 + [[True, False]] * 4
    single = gymnasium.make(IDS[name], max_steps=6)
    single.reset(seed=0)
    assert [single.step(single.action_space.sample())[3] for _ in range(6)] == [False] * 5 + [True]
    assert "TimeLimit" not in str(single)
    assert single.unwrapped.np_random is cast(OneWorldEnv, single.unwrapped).worlds.generators[0]


@pytest.mark.parametrize("name", ["ant", "half_cheetah"])
def test_seeds(name: str) -> None:
    def episode(seed: int | None, first: int | None = None) -> Array:
        env = make_vec(name, 2)
        if first is not None:
            env.reset(seed=first)
        rows = [env.reset(seed=seed)[0]]
        rows += [env.step(action)[0] for action in actions_for(env, 5)]
        rows.append(env.reset()[0])
        return np.array(rows)

    same = episode(5)
    np.testing.assert_array_equal(same, episode(5, first=1))
    np.testing.assert_array_equal(same[0, 1], episode(6)[0, 0])  # world i of seed s is world 0 of s + i
    assert (same[0] != episode(4)[0]).any(1).all()
    assert (same[0, 0] != same[0, 1]).any()
    assert (same[-1] != same[0]).any(1).all()  # a reset without a seed goes on with the generator
    assert (episode(None)[0] != episode(None)[0]).any(1).all()


def test_returned_arrays_are_copies() -> None:
    for name in IDS:
        env = make_vec(name, 2)
        first, infos = env.reset(seed=0)
        kept = first.copy(), infos["coord"].copy()
        second, *_, later = env.step(np.ones(env.action_space.shape, np.float32))
        np.testing.assert_array_equal(first, kept[0])
        np.testing.assert_array_equal(infos["coord"], kept[1])
        assert not np.array_equal(first, second)
        later["coord"][:], second[:] = np.nan, np.nan
        assert np.isfinite(env.step(np.ones(env.action_space.shape, np.float32))[0]).all()


def test_point_moves_by_a_tenth_of_its_action() -> None:
    env = make_vec("point", 2)
    obs, infos = env.reset(seed=0)
    np.testing.assert_array_equal(obs, np.zeros((2, 2)))
    assert obs.dtype == np.float32
    assert infos["coord"].dtype == np.float64
    env.step(np.array([[1.0, -0.5], [3.0, -7.0]]))
    obs, reward, *_, infos = env.step(np.array([[1.0, -0.5], [3.0, -7.0]]))
    np.testing.assert_allclose(infos["coord"], [[0.2, -0.1], [0.2, -0.2]])
    np.testing.assert_array_equal(obs, infos["coord"].astype(np.float32))
    np.testing.assert_array_equal(reward, 0)
    obs, _ = env.reset(options={"state": (np.array([[1.0, 2.0], [3.0, 4.0]]),)})
    np.testing.assert_array_equal(obs, [[1, 2], [3, 4]])


@pytest.mark.parametrize(("name", "reach", "dim"), [("ant", 50, 2), ("half_cheetah", 100, 1), ("point", 1.5, 2)])
def test_goals_are_where_they_say(name: str, reach: float, dim: int) -> None:
    env = make_vec(name, 2)
    env.reset(seed=0)
    before = env._coord()
    obs, place = env.goals(300, np.random.default_rng(0))
    assert obs.shape == (300, *env.single_observation_space.shape)
    assert obs.dtype == np.float32
    assert place.shape == (300, dim)
    assert place.dtype == np.float64
    assert np.abs(place).max() <= reach
    assert np.abs(place).max(0).min() > 0.95 * reach
    np.testing.assert_allclose(place.std(0), 2 * reach / np.sqrt(12), rtol=0.1)
    seen = obs.astype(np.float64)
    if env.obs_mean is not None:
        seen = seen * env.obs_std + env.obs_mean
    np.testing.assert_allclose(seen[:, :dim], place, rtol=1e-6, atol=1e-5)
    if name != "point":
        assert (seen[:, dim:].std(0) > 1e-3).all()  # fresh noise, not one state
    np.testing.assert_array_equal(env._coord(), before)
    again, _ = env.goals(300, np.random.default_rng(0))
    np.testing.assert_array_equal(obs, again)
    near = make_vec(name, 1, goal_range=0.5).goals(50, np.random.default_rng(0))[1]
    assert np.abs(near).max() <= 0.5


def test_facts_that_the_trainer_reads() -> None:
    facts = {name: make_vec(name, 1) for name in IDS}
    assert {name: env.success_radii for name, env in facts.items()} == {
        "ant": (3.0, 1.0),
        "half_cheetah": (3.0, 1.0),
        "point": (0.3,),
    }
    assert [env.coverage_cell for env in facts.values()] == [1.0, 1.0, 0.25]
    assert [env.coord_dim for env in facts.values()] == [2, 1, 2]
    assert mujoco.__version__ in facts["ant"].version
    assert facts["point"].obs_mean is None
    assert make_vec("ant", 1, normalizer="off").obs_std is None
    assert make_vec("csf/Ant-v0", 1).__class__ is facts["ant"].__class__
    assert facts["ant"].metadata["autoreset_mode"] is AutoresetMode.DISABLED


# Against the paper's released program


def test_golden_normalizer_and_action_map() -> None:
    golden = np.load(GOLDEN / "pieces_normalizer.npz")
    for name in MODELS:
        env = make_vec(name, 1)
        np.testing.assert_array_equal(env.obs_mean, golden[f"{name}_mean"])
        np.testing.assert_allclose(env.obs_std, golden[f"{name}_std"], rtol=1e-15)
    env = make_vec("ant", 1, threads=1)
    raw = golden["raw_obs"][None]
    obs, _ = env.reset(options={"state": (raw[:, :15], raw[:, 15:])})
    np.testing.assert_array_equal(obs[0], golden["normalized_obs"])
    low, high = (golden[key].astype(np.float64) for key in ("env_low", "env_high"))
    np.testing.assert_array_equal(map_action(golden["action_in"], 8, low, high), golden["action_seen_by_env"])
    assert env.single_action_space == gymnasium.spaces.Box(
        golden["wrapper_action_low"], golden["wrapper_action_high"], dtype=np.float32
    )


def test_golden_rollout() -> None:
    golden = np.load(GOLDEN / "rollout_ant_mode.npz")
    state = golden["qpos0"][None], golden["qvel0"][None]

    def errors(margin: str) -> tuple[Array, Array]:
        """Largest differences after each of ten steps, of normalized and of raw observations."""
        env = make_vec("ant", 1, contact_margin=margin, threads=1)
        obs, infos = env.reset(options={"state": state})
        np.testing.assert_array_equal(obs[0], golden["observations"][0])
        normalized, raw = [], []
        for t in range(10):
            obs, reward, *_, infos = env.step(golden["actions"][t][None])
            normalized.append(np.abs(obs[0] - golden["next_observations"][t]).max())
            now = np.concatenate(state_of(env), 1)[0]
            raw.append(np.abs(now - golden["env_infos/next_ori_obs"][t]).max())
            if margin == "as_is":
                place = golden["env_infos/next_coordinates"][t]
                np.testing.assert_allclose(infos["coord"][0], place, atol=2e-3)
                np.testing.assert_allclose(reward[0], golden["rewards"][t], atol=2e-2)
        return np.array(normalized), np.array(raw)

    # The file comes from MuJoCo 4, whose integrator differs by about 1e-6 in a step, and contacts amplify it.
    normalized, raw = errors("as_is")
    assert raw[0] <= 7.1e-7
    assert normalized[0] <= 5e-6
    assert max(raw.max(), normalized.max()) <= 2e-3
    assert errors("reference")[0][9] > 0.1  # halved margins leave this trajectory at the first contact


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contact_margin": "half"}, r"contact_margin is 'half'; accepted: 'reference', 'as_is'"),
        ({"normalizer": "running"}, r"normalizer is 'running'; accepted: 'preset', 'off'"),
        ({"threads": -1}, r"threads is -1; accepted: an integer of at least 0"),
        ({"max_steps": 0}, r"max_steps is 0; accepted: an integer of at least 1"),
        ({"goal_range": 0.0}, r"goal_range is 0.0; accepted: a positive finite number"),
        ({"goal_range": "far"}, r"goal_range is 'far'; accepted: a positive finite number"),
        ({"thread": 2}, r"'ant' has no setting 'thread'; accepted: threads, normalizer"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_vec("ant", 2, **settings)


def test_wrong_number_of_worlds() -> None:
    with pytest.raises(ValueError, match="num_envs is 0; accepted: an integer of at least 1"):
        make_vec("ant", 0)
    with pytest.raises(ValueError, match="num_envs is 2; accepted: 1"):
        OneWorldEnv(make_vec("point", 2))


def test_unknown_names() -> None:
    hint = r"'half_cheeta' \(did you mean 'half_cheetah' or 'half_cheetah_goal' or .*\?\); accepted: ant, .*any"
    with pytest.raises(ValueError, match=hint):
        make_vec("half_cheeta", 2)
    with pytest.raises(ValueError, match="did you mean 'Pendulum-v1'"):
        make_vec("Pendulum-v7", 2)
    with pytest.raises(ValueError, match=r"did you mean 'Walker2d-v5' or 'Walker2d-v4' or "):
        make_vec("Walker2d-v9", 2)


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DependencyNotInstalled, match=r"needs 'no_such', .*: pip install no_such"):
        make_vec("no_such.module:World-v0", 2)
    monkeypatch.setitem(sys.modules, "mujoco", None)
    for module in ("envs.ant", "envs.vector"):
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(DependencyNotInstalled, match=r"'ant' needs 'mujoco', .*: pip install mujoco==3.17.0"):
        make_vec("ant", 2)


def test_wrong_calls() -> None:
    env = make_vec("ant", 3)
    with pytest.raises(ResetNeeded, match=r"worlds \[0, 1, 2\]"):
        env.step(np.zeros((3, 8)))
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(ResetNeeded, match=r"worlds \[1\]"):
        env.step(np.zeros((3, 8)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3, 7\); accepted: \(3, 8\)"):
        env.step(np.zeros((3, 7)))
    action = np.zeros((3, 8))
    action[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"actions of worlds \[1\] are not finite"):
        env.step(action)
    for options, message in [
        ({"mask": 1}, "accepted: 'reset_mask', 'state'"),
        ({"reset_mask": np.zeros(3, bool)}, "at least one"),
        ({"reset_mask": np.ones(2, bool)}, "3 booleans"),
        ({"reset_mask": np.ones(3)}, "3 booleans"),
        ({"state": (np.zeros((2, 15)), np.zeros((2, 14)))}, r"shape \(2, 15\); accepted: \(3, ...\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)
    with pytest.raises(ValueError, match="length 2; accepted: an int, or 3"):
        env.reset(seed=[1, 2])
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.step(np.zeros((3, 8)))


# Gymnasium's own environments


def test_a_gymnasium_id_works() -> None:
    env = make_vec("Pendulum-v1", 3)
    plain = gymnasium.make_vec("Pendulum-v1", 3, vectorization_mode="sync", vector_kwargs=DISABLED)
    assert (env.max_steps, env.coord_dim, env.success_radii, env.obs_mean) == (200, 0, (), None)
    assert env.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    obs, infos = env.reset(seed=4)
    np.testing.assert_array_equal(obs, plain.reset(seed=4)[0])
    assert infos["coord"].shape == (3, 0)
    for action in actions_for(env, 200):
        obs, _, _, truncated, infos = env.step(action)
        want = plain.step(np.clip(2.0 * action, -2.0, 2.0))
        np.testing.assert_allclose(obs, want[0], atol=1e-3)
    assert obs.dtype == np.float32
    assert truncated.all()
    assert infos["coord"].shape == (3, 0)
    assert not infos["diverged"].any()
    with pytest.raises(NotImplementedError, match="defines no goals"):
        env.goals(1, np.random.default_rng(0))
    assert make_vec("Pendulum-v1", 1, max_steps=7).max_steps == 7


def test_finished_worlds_wait_for_the_others() -> None:
    env = make_vec("Pendulum-v1", 2, max_steps=5)
    env.reset(seed=0)
    seen = []
    for t, action in enumerate(actions_for(env, 8)):
        if t == 3:
            env.reset(options={"reset_mask": np.array([False, True])})
        seen.append(env.step(action)[3].tolist())
    assert seen == [[False] * 2] * 4 + [[True, False]] * 3 + [[True, True]]
    env.reset(options={"reset_mask": np.array([True, False])})
    assert env.step(actions_for(env, 1)[0])[3].tolist() == [False, True]


class Falling(gymnasium.Env[Any, Array]):
    """Terminates after a number of steps that its seed decides."""

    observation_space = gymnasium.spaces.Dict({"height": gymnasium.spaces.Box(0, 99, (2,), np.float64)})
    action_space = gymnasium.spaces.Box(-3, 1, (2, 2), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.height = float(self.np_random.integers(1, 6))
        return {"height": np.full(2, self.height)}, {}

    def step(self, action: Array) -> Any:
        self.height -= 1
        return {"height": np.full(2, self.height)}, action.sum(), self.height == 0, False, {}


@pytest.fixture
def _falling() -> Iterator[None]:
    gymnasium.register("csf_test/Falling-v0", lambda **_: Falling())
    yield
    del gymnasium.registry["csf_test/Falling-v0"]


@pytest.mark.usefixtures("_falling")
def test_a_world_of_gymnasium_terminates_once() -> None:
    env = make_vec("csf_test/Falling-v0", 3, max_steps=50)
    first, _ = env.reset(seed=0)
    assert first.shape == (3, 2)
    steps = [env.step(np.zeros((3, 4))) for _ in range(40)]
    np.testing.assert_array_equal(steps[0][1], -4.0)  # 0 is the middle of [-3, 1]
    ends, cuts = (np.array([step[i] for step in steps]) for i in (2, 3))
    np.testing.assert_array_equal(ends.sum(0), 1)
    np.testing.assert_array_equal(ends.argmax(0) + 1, first[:, 0])
    np.testing.assert_array_equal(cuts.sum(0), 40 - first[:, 0])
    with pytest.raises(ValueError, match="'csf_test/Falling-v0' has no time limit; set max_steps"):
        make_vec("csf_test/Falling-v0", 2)


class Choosing(gymnasium.Env[Any, Any]):
    """Observes and is rewarded with the action it was given."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)

    def __init__(self, action_space: gymnasium.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return np.full(1, action, np.float32), float(action), False, False, {}


@pytest.fixture
def _choosing() -> Iterator[None]:
    gymnasium.register("csf_test/Choosing-v0", lambda **settings: Choosing(settings["space"]), max_episode_steps=5)
    yield
    del gymnasium.registry["csf_test/Choosing-v0"]


@pytest.mark.usefixtures("_choosing")
def test_discrete_actions_are_one_hot_rows_or_indices() -> None:
    env = make_vec("csf_test/Choosing-v0", 2, space=gymnasium.spaces.Discrete(3, start=-1))
    assert env.single_action_space == gymnasium.spaces.Discrete(3)
    env.reset(seed=0)
    assert env.step(np.eye(3, dtype=np.float32)[[2, 0]])[1].tolist() == [1.0, -1.0]
    assert env.step(np.array([1, 2]))[1].tolist() == [0.0, 1.0]
    for wrong in (np.array([0, 3]), np.array([-1, 0]), np.array([0.0, 1.0]), np.zeros((2, 2)), np.zeros((1, 3))):
        with pytest.raises(ValueError, match="accepted: a one-hot row or an index below 3 for each of 2 worlds"):
            env.step(wrong)


class Passing(Choosing):
    """Passes its arguments on, as Gymnasium's MuJoCo environments do."""

    def __init__(self, length: int = 1, **more: Any) -> None:
        super().__init__(**more)


def test_a_misspelt_setting_that_a_constructor_passes_on_is_refused_in_one_line() -> None:
    gymnasium.register("csf_test/PassingClass-v0", "test_envs:Passing", max_episode_steps=5)
    try:
        with pytest.raises(
            envs.WorldError, match=r"'csf_test/PassingClass-v0' has no setting 'lenght'; accepted: length, max_"
        ):
            make_vec("csf_test/PassingClass-v0", 2, lenght=3, action_space=gymnasium.spaces.Discrete(2))
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            make_vec("csf_test/PassingClass-v0", 2)
    finally:
        del gymnasium.registry["csf_test/PassingClass-v0"]


@pytest.mark.usefixtures("_choosing")
def test_gymnasium_ids_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"has actions MultiBinary\(2\); accepted: Discrete, or a Box with finite bounds"
    ):
        make_vec("csf_test/Choosing-v0", 2, space=gymnasium.spaces.MultiBinary(2))
    with pytest.raises(ValueError, match="accepted: Discrete, or a Box with finite bounds"):
        make_vec("csf_test/Choosing-v0", 2, space=gymnasium.spaces.Box(-np.inf, 1, (1,), np.float32))
    with pytest.raises(ValueError, match=r"'Walker2d-v2' cannot be used: .*gymnasium-robotics"):
        make_vec("Walker2d-v2", 2)


class Counted(gymnasium.Env[Any, Array]):
    """Terminates after `length` steps, one more for every world made before it; counts resets and steps."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    made: ClassVar[list[Counted]] = []

    def __init__(self, lengths: tuple[int, ...], error: Exception | None = None) -> None:
        self.length, self.error, self.resets, self.steps = lengths[len(self.made)], error, 0, 0
        self.made.append(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.resets, self.t = self.resets + 1, 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Array) -> Any:
        if self.error is not None:
            raise self.error
        self.steps, self.t = self.steps + 1, self.t + 1
        return np.full(1, self.t / 100, np.float32), 1.0, self.t == self.length, False, {"t": self.t}


@pytest.fixture
def counted() -> Iterator[list[Counted]]:
    Counted.made = []
    gymnasium.register("csf_test/Counted-v0", lambda **settings: Counted(**settings), max_episode_steps=300)
    yield Counted.made
    del gymnasium.registry["csf_test/Counted-v0"]


def test_a_finished_world_of_gymnasium_is_neither_reset_nor_stepped_until_the_caller_resets_it(
    counted: list[Counted],
) -> None:
    env = make_vec("csf_test/Counted-v0", 2, lengths=(5, 200))
    env.reset(seed=0)
    rows = [env.step(np.zeros((2, 1))) for _ in range(200)]
    assert [(each.resets, each.steps) for each in counted] == [(1, 5), (1, 200)]
    obs, reward, terminated, truncated, infos = (np.array([row[i] for row in rows]) for i in range(5))
    np.testing.assert_allclose(obs[:, 0, 0], np.minimum(np.arange(1, 201), 5) / 100, rtol=1e-6)
    assert reward.sum(0).tolist() == [5, 200]
    assert [np.flatnonzero(column).tolist() for column in terminated.T] == [[4], [199]]
    assert [np.flatnonzero(column).tolist() for column in truncated.T] == [list(range(5, 200)), []]
    assert infos[0]["_t"].tolist() == [True, True]
    assert infos[100]["_t"].tolist() == [False, True]
    assert "ended" not in infos[0]
    env.reset(options={"reset_mask": np.array([True, False])})
    assert [each.resets for each in counted] == [2, 1]
    assert not env.step(np.zeros((2, 1)))[3][0]


def test_errors_of_a_world_of_gymnasium_are_passed_on_but_for_those_of_mujoco(counted: list[Counted]) -> None:
    for error, kind, message in [
        (ValueError("a bug"), ValueError, "^a bug$"),
        (mujoco.FatalError("no memory"), envs.WorldError, "^MuJoCo cannot continue: no memory$"),
    ]:
        counted.clear()
        env = make_vec("csf_test/Counted-v0", 1, lengths=(5,), error=error)
        env.reset(seed=0)
        with pytest.raises(kind, match=message) as raised:
            env.step(np.zeros((1, 1)))
        assert raised.type is kind


def test_a_simulation_that_cannot_continue_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_vec("half_cheetah", 1)
    env.reset(seed=0)
    broken = SimulationError.__new__(SimulationError)
    broken.args = ("stack overflow",)

    def step(**_: Any) -> None:
        raise broken

    env._batch.step = step
    with pytest.raises(envs.WorldError, match=r"^MuJoCo cannot continue: stack overflow$"):
        env.step(np.zeros((1, 6)))


def test_a_runtime_error_of_a_users_environment_is_not_blamed_on_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)

    def broken(**_: Any) -> Any:
        raise RuntimeError("a bug")

    gymnasium.register("csf_test/Broken-v0", broken)
    try:
        with pytest.raises(RuntimeError, match=r"^a bug$"):
            make_vec("csf_test/Broken-v0", 1, max_steps=3)
    finally:
        del gymnasium.registry["csf_test/Broken-v0"]


# Goals and what is measured


@pytest.mark.parametrize("name", [*IDS, "ant_multi_goal", "half_cheetah_goal", "point_two_goals"])
def test_a_goal_that_is_asked_for_is_where_it_says(name: str) -> None:
    env = make_vec(name, 2)
    place = np.array([3.0, -2.0])[: env.coord_dim]
    obs, found = env.goal_at(place)
    np.testing.assert_array_equal(found, place)
    assert obs in env.single_observation_space
    seen = obs.astype(np.float64) if env.obs_mean is None else obs * env.obs_std + env.obs_mean
    np.testing.assert_allclose(seen[: env.coord_dim], place, atol=1e-6)
    if name in MODELS:
        resting = np.append(MODELS[name]().qpos0, np.zeros(env.model.nv))
        np.testing.assert_allclose(seen[env.coord_dim :], resting[env.coord_dim :], atol=1e-6)
    several, places = env.goal_at([place, -place])
    assert places.tolist() == [place.tolist(), (-place).tolist()]
    np.testing.assert_array_equal(several[0], obs)
    assert env.has_goals
    assert env.goal_names == ()


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("door", r"goal 'door' is unknown; accepted: a position of shape \(2,\), or several of shape \(n, 2\)"),
        ([1.0], r"goal has shape \(1,\); accepted: a position of shape \(2,\)"),
        (3.0, r"goal has shape \(\); accepted: a position"),
        ([1.0, np.nan], r"goal is \[1.0, nan\]; accepted: finite numbers"),
        ([[1.0], "far"], r"goal is \[\[1.0\], 'far'\]; accepted: a position"),
    ],
)
def test_goals_that_are_not_accepted(goal: Any, message: str) -> None:
    with pytest.raises(envs.WorldError, match=message):
        make_vec("point", 1).goal_at(goal)


def test_who_has_no_goals_says_so() -> None:
    for name in ("half_cheetah_hurdle", "Pendulum-v1"):
        env = make_vec(name, 1)
        assert not env.has_goals
        with pytest.raises(NotImplementedError, match="defines no goals; evaluate its reward instead"):
            env.goal_at([1.0])
    assert make_vec("Pendulum-v1", 1).measure(np.zeros((1, 3, 0)), np.array([2])) == {}


def scatter(change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [n, 4, C] and lengths [n] of episodes of two steps that change position by `change` [n, C]."""
    path = np.cumsum([np.ones_like(change), change / 2, change / 2, 1000 * np.ones_like(change)], 0)
    return path.swapaxes(0, 1), np.full(len(change), 2)


def around(angle: np.ndarray, radius: float) -> np.ndarray:
    return radius * np.stack([np.cos(angle), np.sin(angle)], 1)


CIRCLE = (np.arange(48) + 0.5) * 2 * np.pi / 48
SIDES = np.where(np.arange(48) % 2, 0.3, 0.3 + np.pi)
NOISE = np.random.default_rng(0).standard_normal((48, 2))


@pytest.mark.parametrize(
    ("change", "least", "most"),
    [
        (around(CIRCLE, 25.0), 16, 16),
        (around(CIRCLE, 10.001), 16, 16),
        (around(CIRCLE, 9.999), 0, 0),
        (around(SIDES, 25.0), 2, 2),
        (around(SIDES, 25.0) + NOISE, 2, 4),
        (around(0 * SIDES, 25.0) + NOISE, 1, 2),
        (2.0 * NOISE, 0, 0),
        (np.zeros((48, 2)), 0, 0),
        (around(CIRCLE[::3], 25.0), 16, 16),
        (around(CIRCLE[:12], 25.0), 4, 4),
    ],
    ids=["circle", "edge", "inside", "line", "band", "cluster", "small scatter", "still", "16 skills", "quarter"],
)
def test_directions_are_sectors_with_an_end_far_from_the_start(change: np.ndarray, least: int, most: int) -> None:
    assert least <= make_vec("ant", 1).measure(*scatter(change))["directions"] <= most


def test_directions_on_a_line_are_its_sides() -> None:
    cheetah = make_vec("half_cheetah", 1)
    found = [cheetah.measure(*scatter(np.array([ends]).T))["directions"] for ends in ([19.0, -19], [30, 21], [20, -99])]
    assert found == [0, 1, 2]


def test_directions_need_a_radius() -> None:
    """Of a task, they would be those of its goals; where goals are not positions, there are none."""
    radii = {name: make_vec(name, 1).direction_radius for name in ("ant", "half_cheetah", "point", "ant_multi_goal")}
    assert radii == {"ant": 10, "half_cheetah": 20, "point": 1, "ant_multi_goal": None}
    assert "directions" not in make_vec("ant_multi_goal", 1).measure(*scatter(around(CIRCLE, 25.0)))


def test_what_worlds_measure() -> None:
    """Worked by hand: cells of 1, episodes of two and one steps, radii of 3 and 1."""
    env = make_vec("ant", 1)
    coord = np.array([[[0.5, 0.5], [1.5, 0.5], [-0.0, 4.5]], [[0.0, 4.0], [9.5, 9.5], [7.5, 7.5]]])
    length, place = np.array([2, 1]), np.array([[0.0, 2.0], [9.5, 9.0]])
    assert env.measure(coord, length) == {"coverage": 4.0, "directions": 1.0}
    found = env.success(coord, length, place)
    np.testing.assert_allclose(found.pop("distance"), [2.5, 0.5])
    assert {name: row.tolist() for name, row in found.items()} == {
        "hit_3": [True, True],
        "end_3": [True, True],
        "staying_3": [1.0, 1.0],
        "hit_1": [False, True],
        "end_1": [False, True],
        "staying_1": [0.0, 1.0],
    }


# Settings and copies


def test_settings_are_listed_with_type_default_and_description() -> None:
    found = envs.settings_of("ant_multi_goal")
    assert list(found) == [
        "threads",
        "normalizer",
        "goal_range",
        "goal_mode",
        "goal_seed",
        "num_goal_steps",
        "contact_margin",
        "max_steps",
        "render_size",
    ]
    assert found["max_steps"] == envs.Setting("max_steps", int, 200, "Number of steps per episode.")
    assert found["goal_range"] == envs.Setting("goal_range", float, 7.5, "R in meters, the range of goals.")
    assert found["goal_mode"].type == Literal["chain", "resample", "reference"]
    assert (
        found["goal_mode"].help
        == "Distribution of the goals of an episode, of which the first is drawn from U(-R, R)^2."
    )
    with pytest.raises(envs.WorldError, match="environment 'antt' is unknown; accepted: ant, half_cheetah"):
        envs.settings_of("antt")


@pytest.mark.parametrize("name", OWN)
def test_every_setting_is_accepted_at_its_default(name: str) -> None:
    need(name)
    found = envs.settings_of(name)
    assert all(setting.help.endswith(".") for setting in found.values())
    env = make_vec(name, 1, **{key: setting.default for key, setting in found.items()})
    assert env.max_steps == found["max_steps"].default


@pytest.mark.parametrize("method", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("name", [*OWN, "Pendulum-v1"])
def test_environments_say_that_they_cannot_be_copied(name: str, method: Callable[[Any], Any]) -> None:
    need(name)
    several: Any = make_vec(name, 2)
    made = [several] if name not in OWN else [several, gymnasium.make(envs._IDS[name]).unwrapped]
    for env in made:
        message = rf"^{type(env).__name__} cannot be copied or pickled; create another one from its name and settings"
        with pytest.raises(TypeError, match=message):
            method(env)
