"""A vector, a picture or both: every part of an environment handles the three kinds of observation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from env_rules import assert_gymnasium_accepts
from gymnasium.spaces import Box, Dict, Discrete, Space
from gymnasium.vector.utils import batch_space

import envs
from envs.base import WorldsEnv
from envs.errors import WorldError
from envs.observations import Array, Obs, vectors
from envs.plane import Canvas
from envs.single import OneWorldEnv, one_world
from envs.tasks.base import GoalTask

PICTURE = Box(0, 255, (64, 64, 3), np.uint8)
SPACES: dict[str, Space[Any]] = {
    "vector": vectors(2),
    "image": PICTURE,
    "both": Dict({"image": PICTURE, "vector": vectors(2)}),
}
KINDS = list(SPACES)


class Plane(WorldsEnv):
    """A point in the plane that is seen as its position, in a picture of 64 x 64 pixels, or both."""

    coord_dim, success_radii, coverage_cell = 2, (0.3,), 0.25
    named_goals = {"corner": (1.0, 1.0), "left": (-1.0, 0.0)}  # noqa: RUF012

    def __init__(
        self, num_envs: int = 1, kind: str = "image", max_steps: int = 5, render_mode: str | None = None
    ) -> None:
        bounds = np.array([[-1.0, 1.0]] * 2)
        super().__init__(num_envs, max_steps, 1.5, SPACES[kind], bounds, render_mode, render_size=32)
        self.kind, self._position = kind, np.zeros((num_envs, 2))

    def goals(self, n: int, rng: np.random.Generator) -> tuple[Obs, Array]:
        place = rng.uniform(-self.goal_range, self.goal_range, (n, 2))
        return self._goal_obs(place), place

    def _goal_obs(self, place: Array) -> Obs:
        vector = place.astype(np.float32)
        if self.kind == "vector":
            return vector
        image = np.stack([Canvas(64, 2.0).draw(each, 0.1) for each in place])
        return image if self.kind == "image" else {"image": image, "vector": vector}

    def _restart(self, ids: Array) -> None:
        self._position[ids] = [self.generators[i].uniform(-1, 1, 2) for i in ids]

    def _put(self, ids: Array, state: tuple[Array, ...]) -> None:
        (self._position[ids],) = state

    def _advance(self, action: Array) -> Array:
        self._position += 0.1 * action
        return np.zeros(self.num_envs, bool)

    def _pictures(self, goal: Array | None) -> Iterator[Array]:
        return (Canvas(self.render_size, 2.0).draw(each, 0.1) for each in self._position)

    def _obs(self) -> Obs:
        return self._goal_obs(self._position)

    def _coord(self) -> Array:
        return self._position.copy()


class PlaneGoals(GoalTask):
    """Two goals, one after another."""

    base, goal_dim, unpaid_steps = "plane", 2, 0
    coord_dim, success_radii, coverage_cell = 2, (0.3,), 0.25
    named_goals = Plane.named_goals

    def __init__(self, num_envs: int = 1, kind: str = "image", render_mode: str | None = None) -> None:
        super().__init__(Plane(num_envs, kind, render_mode=render_mode), num_goals=2, num_goal_steps=2)


make_Plane, make_PlaneGoals = one_world(Plane), one_world(PlaneGoals)


def parts(obs: Obs) -> dict[str, Array]:
    """An observation as a dictionary, whichever kind it is."""
    if isinstance(obs, dict):
        return obs
    return {"image" if obs.dtype == np.uint8 else "vector": obs}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [Plane, PlaneGoals])
def test_observations_lie_in_their_space(make: Any, kind: str) -> None:
    env = make(3, kind)
    obs, _ = env.reset(seed=0)
    after, *_ = env.step(np.full((3, 2), 0.5))
    for each in (obs, after):
        assert each in env.observation_space
    assert env.observation_space == batch_space(env.single_observation_space, 3)
    pairs = [(value, parts(after)[name]) for name, value in parts(obs).items()]
    assert not any(np.shares_memory(*pair) for pair in pairs)
    assert not all(np.array_equal(*pair) for pair in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_of_a_task_end_the_vector(kind: str) -> None:
    env, below = PlaneGoals(3, kind), Plane(3, kind)
    obs, infos = env.reset(seed=0)
    plain, _ = below.reset(seed=0)
    vector = parts(obs)["vector"]
    seen = parts(plain).get("vector", np.zeros((3, 0), np.float32))
    np.testing.assert_array_equal(vector, np.concatenate((seen, infos["goal"].astype(np.float32)), axis=1))
    assert vector.dtype == np.float32
    if kind == "vector":
        assert isinstance(obs, np.ndarray)
    else:
        assert list(obs) == ["image", "vector"]
        np.testing.assert_array_equal(parts(obs)["image"], parts(plain)["image"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [Plane, PlaneGoals])
def test_one_world_is_an_ordinary_environment(make: Any, kind: str) -> None:
    gymnasium.register("csf_test/Seen-v0", "test_observations:make_" + make.__name__)
    try:
        assert_gymnasium_accepts("csf_test/Seen-v0", kind=kind)
    finally:
        del gymnasium.registry["csf_test/Seen-v0"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_world_sees_what_a_batch_of_it_sees(kind: str) -> None:
    one, batch = OneWorldEnv(PlaneGoals(1, kind)), PlaneGoals(1, kind)
    (obs, _), (rows, _) = one.reset(seed=3), batch.reset(seed=3)
    for _ in range(3):
        for name, value in parts(obs).items():
            np.testing.assert_array_equal(value, parts(rows)[name][0])
        obs, *_ = one.step(np.ones(2))
        rows, *_ = batch.step(np.ones((1, 2)))


@pytest.mark.parametrize("size", [16, 200])
def test_the_film_camera_is_not_the_camera_of_observations(size: int) -> None:
    env = Plane(2, "image", render_mode="rgb_array")
    env.render_size = size
    obs, _ = env.reset(seed=0)
    assert parts(obs)["image"].shape == (2, 64, 64, 3)
    assert [each.shape for each in env.render()] == [(size, size, 3)] * 2
    np.testing.assert_array_equal(parts(Plane(2, "image").reset(seed=0)[0])["image"], parts(obs)["image"])


@pytest.mark.parametrize(
    "space",
    [
        Box(-1, 1, (3,), np.float64),
        Box(0, 255, (64, 64), np.uint8),
        Box(0, 1, (64, 64, 3), np.float32),
        Dict({"image": PICTURE}),
        Dict({"image": PICTURE, "state": vectors(2)}),
        Discrete(3),
    ],
)
def test_other_observations_are_refused(monkeypatch: pytest.MonkeyPatch, space: Space[Any]) -> None:
    monkeypatch.setitem(SPACES, "other", space)
    with pytest.raises(WorldError, match=r"observation space is .*; accepted: Box float32 \[O\] \(vector\), Box uint8"):
        Plane(1, "other")


# Goals that are asked for


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [Plane, PlaneGoals])
def test_a_goal_is_found_by_name_and_by_place(make: Any, kind: str) -> None:
    env = make(2, kind)
    obs, place = env.goal_at("corner")
    assert place.tolist() == [1, 1]
    assert obs in env.single_observation_space
    several, places = env.goal_at([[1.0, 1.0], [-1.0, 0.0]])
    assert places.tolist() == [[1, 1], [-1, 0]]
    for name, value in parts(obs).items():
        np.testing.assert_array_equal(value, parts(env.goal_at(np.ones(2))[0])[name])
        np.testing.assert_array_equal(value, parts(several)[name][0])
        np.testing.assert_array_equal(parts(env.goal_at("left")[0])[name], parts(several)[name][1])
    assert env.goal_names == ("corner", "left")
    assert env.has_goals


# Worlds of other libraries


class Looking(gymnasium.Env[Any, Array]):
    """Shows a picture, alone or with a vector of float64."""

    action_space = Box(-1, 1, (2,), np.float32)

    def __init__(self, both: bool = False) -> None:
        self.both = both
        vector = Box(-9, 9, (2,), np.float64)
        self.observation_space = Dict({"image": PICTURE, "vector": vector}) if both else PICTURE

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._show(), {}

    def step(self, action: Array) -> Any:
        self.steps += 1
        return self._show(), 1.0, False, False, {}

    def _show(self) -> Any:
        image = np.full((64, 64, 3), self.steps, np.uint8)
        return {"image": image, "vector": np.full(2, float(self.steps))} if self.both else image


@pytest.mark.parametrize("both", [False, True])
def test_pictures_of_other_libraries_are_not_flattened(both: bool) -> None:
    gymnasium.register("csf_test/Looking-v0", lambda **settings: Looking(**settings), max_episode_steps=4)
    try:
        env = envs.make_vec("csf_test/Looking-v0", 2, both=both)
    finally:
        del gymnasium.registry["csf_test/Looking-v0"]
    assert env.single_observation_space == (SPACES["both"] if both else PICTURE)
    first, _ = env.reset(seed=0)
    obs, *_ = env.step(np.zeros((2, 2)))
    for each, steps in ((first, 0), (obs, 1)):
        assert each in env.observation_space
        assert all((value == steps).all() for value in parts(each).values())
