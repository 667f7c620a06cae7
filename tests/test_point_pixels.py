"""The plane observed as images: where the point is drawn, how images are stacked, and what is as in `point`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from env_rules import assert_gymnasium_accepts, assert_same_step

import envs
from envs.observations import Array
from envs.plane import BODY
from envs.stack import FrameStack, still

ID = "csf/PointPixels-v0"


def make(count: int = 3, **settings: Any) -> Any:
    return envs.make_vec("point_pixels", count, **settings)


def actions(count: int, steps: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, count, 2))


def places(images: Array) -> Array:
    """Centers of the bodies in images [n, 64, 64, 3] of the square [-2, 2]^2, [n, 2]."""
    found = np.abs(images.astype(float) - 255 * np.array(BODY)).max(-1) < 30
    line = (np.arange(64) + 0.5) / 16 - 2
    return np.stack([[line[mask.any(0)].mean(), -line[mask.any(1)].mean()] for mask in found])


def test_gymnasiums_checker() -> None:
    assert_gymnasium_accepts(ID)


def test_one_world_equals_a_row_of_several() -> None:
    many, single = make(3), gymnasium.make(ID)
    obs, _ = many.reset(seed=[4, 5, 6])
    mine, _ = single.reset(seed=5)
    np.testing.assert_array_equal(obs[1], mine)
    for action in actions(3, 20):
        ours, theirs = many.step(action), single.step(action[1].astype(np.float64))
        np.testing.assert_array_equal(ours[0][1], theirs[0])
        np.testing.assert_array_equal(ours[4]["coord"][1], theirs[4]["coord"])
        assert ours[3][1] == theirs[3]
    assert theirs[3]


def test_it_moves_as_a_point_does() -> None:
    seen, plain = make(2), envs.make_vec("point", 2)
    (_, mine), (_, theirs) = seen.reset(seed=0), plain.reset(seed=0)
    np.testing.assert_array_equal(mine["coord"], theirs["coord"])
    for action in actions(2, 20):
        ours, other = seen.step(action), plain.step(action)
        assert_same_step((mine["coord"], *ours[1:]), (mine["coord"], *other[1:]))
    for name in ("coord_dim", "success_radii", "coverage_cell", "max_steps", "goal_range"):
        assert getattr(seen, name) == getattr(plain, name)


def test_the_point_is_drawn_where_it_is() -> None:
    env = make(4)
    obs, infos = env.reset(seed=0)
    for action in [None, *actions(4, 12)]:
        if action is not None:
            obs, *_, infos = env.step(action)
        np.testing.assert_allclose(places(obs[..., -3:]), infos["coord"], atol=0.05)
    assert np.abs(infos["coord"]).max() > 0.3


def test_images_show_all_that_an_episode_can_reach() -> None:
    for steps in (5, 40):
        env = make(1, max_steps=steps)
        env.reset(seed=0)
        for _ in range(steps):
            obs, *_ = env.step(np.ones((1, 2)))
        assert (np.abs(obs[0, :8, -8:, -3:] - 255 * np.array(BODY)).max(-1) < 30).any()


def test_a_stack_holds_the_last_three_images_the_oldest_first() -> None:
    env = make(2)
    obs, _ = env.reset(seed=0)
    assert (obs.shape, obs.dtype) == ((2, 64, 64, 9), np.uint8)
    images = [obs[..., -3:]] * 3
    np.testing.assert_array_equal(obs, np.concatenate(images, -1))
    for t, action in enumerate(actions(2, 6)):
        if t == 4:  # one world begins anew
            first, _ = env.reset(options={"reset_mask": np.array([True, False])})
            images = [np.stack([first[0, ..., -3:], image[1]]) for image in images]
            np.testing.assert_array_equal(first, np.concatenate(images, -1))
        obs, *_ = env.step(action)
        images = [*images[1:], obs[..., -3:]]
        np.testing.assert_array_equal(obs, np.concatenate(images, -1))
        assert not np.array_equal(images[1], images[2])


def test_a_diverged_world_begins_a_new_stack() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), np.uint8)
    stack = FrameStack(2)
    stack.restart(np.arange(2), images[0])
    stack.push(images[1], np.zeros(2, bool))
    stack.push(images[2], np.array([True, False]))
    found = stack.read()
    np.testing.assert_array_equal(found[0], still(images[2][:1])[0])
    np.testing.assert_array_equal(found[1], np.concatenate(images[:, 1], -1))


def test_a_given_state_is_shown_at_once() -> None:
    env = make(2)
    where = np.array([[1.0, -1.5], [-0.5, 0.25]])
    obs, infos = env.reset(options={"state": (where,)})
    np.testing.assert_array_equal(infos["coord"], where)
    np.testing.assert_array_equal(obs, still(obs[..., -3:]))
    np.testing.assert_allclose(places(obs[..., :3]), where, atol=0.05)


def test_goals_are_images_of_the_point_at_the_goal() -> None:
    env = make(2)
    obs, place = env.goals(40, np.random.default_rng(0))
    plain, same = envs.make_vec("point", 1).goals(40, np.random.default_rng(0))
    np.testing.assert_array_equal(place, same)
    np.testing.assert_array_equal(plain, place.astype(np.float32))
    np.testing.assert_array_equal(obs, still(obs[..., -3:]))
    np.testing.assert_allclose(places(obs[..., -3:]), place, atol=0.05)
    there, _ = env.reset(options={"state": (place[:2],)})
    np.testing.assert_array_equal(there, obs[:2])
    one, _ = env.goal_at([0.5, -0.5])
    assert one in env.single_observation_space


def test_returned_observations_are_copies() -> None:
    env = make(2)
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.ones((2, 2)))
    np.testing.assert_array_equal(first, kept)


def test_render_shows_the_world_in_any_size() -> None:
    env = make(2, render_mode="rgb_array", render_size=100)
    env.reset(seed=0)
    assert [image.shape for image in env.render()] == [(100, 100, 3)] * 2


def test_it_says_how_many_images_it_stacks() -> None:
    plain: Any = envs.make_vec("point", 1)
    assert (make(1).frames, plain.frames) == (3, 1)


@pytest.mark.parametrize("value", [0, True, 2.5])
def test_values_that_are_not_accepted(value: Any) -> None:
    with pytest.raises(envs.WorldError, match=r"^max_steps is .*; accepted: an integer of at least 1$"):
        make(1, max_steps=value)
