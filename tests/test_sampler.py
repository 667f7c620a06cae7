"""Collection of whole episodes: equal to a plain loop, seeded, resumable, and honest about worlds that fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import envs
from csf.errors import ConfigError, SamplerError
from csf.sampler import RolloutSampler
from csf.types import Episodes, Worlds
from csf.worlds import describe, make_worlds
from envs import WorldError

WORLDS, STEPS = 3, 6


class FakeWorlds:
    """Worlds that do as they are told: `diverge`, `terminate`, `truncate` map a world to the step at which it does.

    An observation is a number drawn from the world's seed, and the count of steps.
    """

    num_envs, max_steps, coord_dim = WORLDS, STEPS, 1
    metadata: dict[str, Any] = {}  # noqa: RUF012
    version, coverage_cell = "0", 1.0
    success_radii: tuple[float, ...] = ()
    goal_names: tuple[str, ...] = ()
    has_goals = False
    obs_mean: np.ndarray | None = None
    obs_std: np.ndarray | None = None
    single_observation_space = single_action_space = envs.make_vec("point", 1).single_action_space

    def __init__(
        self,
        diverge: Mapping[int, int] | None = None,
        terminate: Mapping[int, int] | None = None,
        truncate: Mapping[int, int] | None = None,
        error: Exception | None = None,
        fails_in: str = "",
    ) -> None:
        self.diverge, self.terminate, self.truncate = diverge or {}, terminate or {}, truncate or {}
        self.error, self.fails_in = error, fails_in
        self.seeds: list[list[int]] = []
        self.steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._fail("reset")
        self.seeds.append(seed)
        self.origin = np.array([np.random.default_rng(each).random() for each in seed])
        self.t = 0
        return self._obs(), {"coord": self._obs()[:, 1:]}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self._fail("step")
        assert actions.shape == (WORLDS, 2)
        now = {kind: self._now(getattr(self, kind)) for kind in ("diverge", "terminate", "truncate")}
        self.t, self.steps = self.t + 1, self.steps + 1
        truncated = now["truncate"] | (self.t >= STEPS)
        info = {"coord": self._obs()[:, 1:], "diverged": now["diverge"]}
        return self._obs(), np.full(WORLDS, float(self.t)), now["terminate"], truncated, info

    def goals(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def goal_at(self, goal: Any) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def measure(self, coord: np.ndarray, length: np.ndarray) -> dict[str, float]:
        return {}

    def success(self, coord: np.ndarray, length: np.ndarray, place: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def render(self) -> tuple[np.ndarray, ...]:
        raise NotImplementedError

    def close(self) -> None:
        self._fail("close")

    def _obs(self) -> np.ndarray:
        return np.stack([self.origin, np.full(WORLDS, self.t)], axis=1).astype(np.float32)

    def _now(self, when: Mapping[int, int]) -> np.ndarray:
        return np.array([when.get(world) == self.t for world in range(WORLDS)])

    def _fail(self, where: str) -> None:
        if where == self.fails_in and self.error is not None:
            raise self.error


def sampler_of(worlds: Worlds, seed: int = 0) -> RolloutSampler:
    return RolloutSampler(worlds, describe(worlds, "fake"), seed, "cpu")


def real_sampler(name: str, worlds: int = WORLDS, seed: int = 0, **settings: Any) -> RolloutSampler:
    env = cast(Worlds, envs.make_vec(name, worlds, **settings))
    return RolloutSampler(env, describe(env, name), seed, "cpu")


def noisy(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
    """A policy that depends on all it gets, and on PyTorch's random numbers."""
    action = torch.full((len(obs), 2), 0.3) + skill + obs[:, :2].sin()
    return torch.tanh(action if mode else action + torch.randn(len(obs), 2))


def still(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
    return torch.zeros(len(obs), 2)


def assert_equal(a: Episodes, b: Episodes, rows: slice | list[int] = slice(None)) -> None:
    for name, x, y in zip(Episodes._fields, a, b, strict=True):
        assert x is not None, name
        assert y is not None, name
        assert torch.equal(x[rows], y[rows]), name


# ---- what is collected


@pytest.mark.parametrize("name", ["point", "ant"])
def test_it_is_a_plain_loop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"max_steps": STEPS} | ({"threads": 1} if name == "ant" else {})
    sampler, twin = real_sampler(name, seed=7, **settings), cast(Worlds, envs.make_vec(name, WORLDS, **settings))
    action_dim = sampler.spec.action_dim

    def policy(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
        return torch.tanh(obs[:, :1] + skill.sum(-1, keepdim=True) + torch.randn(len(obs), action_dim))

    seeds, reset = [], sampler.env.reset

    def remember(*, seed: list[int]) -> tuple[np.ndarray, dict[str, Any]]:
        seeds.append(seed)
        return reset(seed=seed)

    monkeypatch.setattr(sampler.env, "reset", remember)
    skills = torch.randn(WORLDS, 2)
    torch.manual_seed(1)
    found = sampler.collect(policy, skills)

    torch.manual_seed(1)
    obs, info = twin.reset(seed=seeds[0])
    for t in range(STEPS):
        assert np.array_equal(found.obs[:, t], obs)
        assert np.array_equal(found.coord[:, t], info["coord"])
        action = policy(torch.from_numpy(obs), skills).numpy()
        obs, reward, terminated, _, info = twin.step(action)
        assert np.array_equal(found.action[:, t], action)
        assert np.array_equal(found.reward[:, t], reward.astype(np.float32))
        assert np.array_equal(found.terminal[:, t], terminated.astype(np.float32))
    assert np.array_equal(found.obs[:, STEPS], obs)
    assert np.array_equal(found.coord[:, STEPS], info["coord"])
    assert found.length.tolist() == [STEPS] * WORLDS
    assert torch.equal(found.skill, skills)
    sampler.close()
    twin.close()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7])
def test_any_number_of_episodes(n: int) -> None:
    skills = torch.randn(n, 2)
    found = sampler_of(FakeWorlds()).collect(noisy, skills, True)
    assert torch.equal(found.skill, skills)
    assert found.length.tolist() == [STEPS] * n
    shapes = {name: tuple(column.shape) for name, column in found._asdict().items()}
    per_step = {"obs": (STEPS + 1, 2), "action": (STEPS, 2), "reward": (STEPS,), "terminal": (STEPS,)}
    per_row = {**per_step, "skill": (2,), "length": (), "coord": (STEPS + 1, 1), "world_steps": ()}
    assert shapes == {name: (n, *shape) for name, shape in per_row.items()}
    starts = found.obs[:, 0, 0]
    assert len(starts.unique()) == n, "every episode has a start of its own"
    for row in range(n):
        for t in range(STEPS):
            action = noisy(found.obs[row : row + 1, t], skills[row : row + 1], True)
            assert torch.equal(found.action[row, t], action[0])


def test_the_policy_is_told_whether_it_takes_its_mode() -> None:
    told = []

    def policy(obs: Tensor, skill: Tensor, mode: bool = False, /) -> Tensor:
        told.append(mode)
        return still(obs, skill)

    sampler = sampler_of(FakeWorlds())
    sampler.collect(policy, torch.zeros(1, 2), True)
    sampler.collect(policy, torch.zeros(1, 2))
    assert told == [True] * STEPS + [False] * STEPS


def test_the_policy_leaves_no_graph() -> None:
    weight = torch.ones(2, requires_grad=True)
    found = sampler_of(FakeWorlds()).collect(lambda obs, *_: obs * weight, torch.zeros(2, 2))
    assert not any(column is not None and column.requires_grad for column in found)


def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sampler_of(FakeWorlds()).collect(still, torch.zeros(1, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ---- seeds


def test_a_given_seed_is_repeatable_and_leaves_no_trace() -> None:
    plain, other = FakeWorlds(), FakeWorlds()
    a, b = sampler_of(plain), sampler_of(other)
    skills = torch.zeros(5, 2)
    first = a.collect(still, skills)
    assert_equal(first, b.collect(still, skills))
    once = b.collect(still, skills, seed=11)
    assert_equal(a.collect(still, skills), b.collect(still, skills))
    assert_equal(once, b.collect(still, skills, seed=11))
    assert not torch.equal(once.obs, b.collect(still, skills, seed=12).obs)
    assert not torch.equal(once.obs, first.obs)


def test_no_two_rounds_share_a_seed() -> None:
    worlds = FakeWorlds()
    sampler = sampler_of(worlds)
    for _ in range(3):
        sampler.collect(still, torch.zeros(7, 2))  # three rounds each
    seeds = [seed for each in worlds.seeds for seed in each]
    assert len(set(seeds)) == len(seeds) == 9 * WORLDS


def test_another_seed_gives_other_worlds() -> None:
    a, b = FakeWorlds(), FakeWorlds()
    sampler_of(a, 0).collect(still, torch.zeros(3, 2))
    sampler_of(b, 1).collect(still, torch.zeros(3, 2))
    assert not set(a.seeds[0]) & set(b.seeds[0])


def test_it_resumes_where_it_was() -> None:
    whole, part = sampler_of(FakeWorlds()), sampler_of(FakeWorlds())
    skills = torch.zeros(4, 2)
    for sampler in (whole, part):
        sampler.collect(still, skills)
    resumed = sampler_of(FakeWorlds())
    resumed.load_full_state(part.full_state())
    assert_equal(whole.collect(still, skills), resumed.collect(still, skills))


# ---- worlds that end early


def test_a_terminal_ends_an_episode_and_a_time_limit_is_none() -> None:
    worlds = FakeWorlds(terminate={0: 1, 2: STEPS - 1}, truncate={1: 3})
    found = sampler_of(worlds).collect(still, torch.zeros(3, 2))
    assert found.length.tolist() == [2, 4, STEPS]
    assert found.terminal.tolist() == [[0, 1, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1]]
    batch = found.transitions()
    assert batch.next_obs[:, 1].tolist() == [1, 2, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert batch.terminal.sum() == 2


def test_a_time_limit_is_terminal_where_the_task_says_so() -> None:
    worlds = FakeWorlds(terminate={0: 1}, truncate={1: 3})
    found = RolloutSampler(worlds, describe(worlds, "fake"), 0, "cpu", True).collect(still, torch.zeros(3, 2))
    assert found.terminal.tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1]]


def test_nothing_is_written_behind_the_end_of_an_episode() -> None:
    worlds = FakeWorlds(terminate={0: 1})
    found = sampler_of(worlds).collect(noisy, torch.zeros(3, 2))
    for name in ("obs", "coord"):
        assert not getattr(found, name)[0, 3:].any(), name
    for name in ("action", "reward", "terminal"):
        assert not getattr(found, name)[0, 2:].any(), name


def test_a_round_ends_with_its_last_episode() -> None:
    worlds = FakeWorlds(terminate={0: 1, 1: 2})
    sampler_of(worlds).collect(still, torch.zeros(2, 2))  # the third world is idle
    assert worlds.steps == 3


# ---- worlds that fail


def test_a_world_that_diverges_is_named_and_discarded(caplog: pytest.LogCaptureFixture) -> None:
    skills = torch.randn(3, 2)
    with caplog.at_level(logging.WARNING):
        found = sampler_of(FakeWorlds(diverge={1: 3})).collect(noisy, skills, True)
    assert [record.getMessage() for record in caplog.records] == [
        "world 1 diverged at step 3; its episode is discarded"
    ]
    assert found.length.tolist() == [STEPS, 0, STEPS]
    assert_equal(found, sampler_of(FakeWorlds()).collect(noisy, skills, True), [0, 2])
    assert len(found.transitions().obs) == 2 * STEPS
    assert torch.equal(found.skill, skills)


def test_a_world_diverges_once(caplog: pytest.LogCaptureFixture) -> None:
    class Again(FakeWorlds):
        def _now(self, when: Mapping[int, int]) -> np.ndarray:
            return np.array([when.get(world, STEPS) <= self.t for world in range(WORLDS)])

    found = sampler_of(Again(diverge={0: 2})).collect(still, torch.zeros(3, 2))
    assert len(caplog.records) == 1
    assert found.length.tolist() == [0, STEPS, STEPS]


def test_what_a_finished_or_idle_world_does_is_nobodys_business(caplog: pytest.LogCaptureFixture) -> None:
    worlds = FakeWorlds(terminate={0: 1}, diverge={0: 3, 2: 2})
    found = sampler_of(worlds).collect(still, torch.zeros(2, 2))
    assert found.length.tolist() == [2, STEPS]
    assert not caplog.records


def test_a_lost_world_is_back_in_the_next_round() -> None:
    worlds = FakeWorlds(diverge={1: 3})
    sampler = sampler_of(worlds)
    sampler.collect(still, torch.zeros(3, 2))
    worlds.diverge = {}
    assert sampler.collect(still, torch.zeros(3, 2)).length.tolist() == [STEPS] * 3


@pytest.mark.parametrize("n", [3, 2])  # with all worlds, and with one idle
def test_a_round_that_is_lost_whole_is_an_error(n: int) -> None:
    worlds = FakeWorlds(diverge={0: 0, 1: 4, 2: 2} if n == 3 else {0: 0, 1: 4})
    with pytest.raises(SamplerError, match=rf"^all {n} worlds of a round diverged; no episode is left$"):
        sampler_of(worlds).collect(still, torch.zeros(n, 2))


@pytest.mark.parametrize("where", ["reset", "step"])
def test_what_an_environment_refuses_is_told_in_one_line(where: str) -> None:
    worlds = FakeWorlds(error=WorldError("the floor is gone"), fails_in=where)
    with pytest.raises(SamplerError, match=r"^the environment fake failed: the floor is gone$"):
        sampler_of(worlds).collect(still, torch.zeros(3, 2))


@pytest.mark.parametrize("where", ["reset", "step"])
@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError])
def test_a_bug_of_the_environment_keeps_its_traceback(where: str, kind: type[Exception]) -> None:
    worlds = FakeWorlds(error=kind("the floor is gone"), fails_in=where)
    with pytest.raises(kind, match=r"^the floor is gone$") as raised:
        sampler_of(worlds).collect(still, torch.zeros(3, 2))
    assert raised.type is kind
    assert raised.traceback[-1].name == "_fail"


def test_a_bug_in_an_environments_constructor_keeps_its_traceback() -> None:
    def broken(**_: Any) -> Any:
        raise ValueError("two is not three")

    gymnasium.register("csf_test/Broken-v0", broken)
    try:
        with pytest.raises(ValueError, match=r"^two is not three$") as raised:
            make_worlds({"name": "csf_test/Broken-v0", "max_steps": 5}, 2)
        assert raised.traceback[-1].name == "broken"
    finally:
        del gymnasium.registry["csf_test/Broken-v0"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "ant", "max_steps": 0}, "env.max_steps is 0; accepted: an integer of at least 1"),
        ({"name": "Pendulum-v1", "length": 3}, "env: environment 'Pendulum-v1' has no setting 'length'; accepted: "),
        ({"name": "Pendulum-v1", "max_steps": "few"}, "env.max_steps is 'few'; accepted: an integer of at least 1"),
        ({"name": "no_such"}, "env: unknown environment 'no_such'"),
        ({"name": ":Pendulum-v1"}, "env: unknown environment ':Pendulum-v1'"),
    ],
)
def test_a_section_env_that_is_not_accepted_is_told_in_one_line(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        make_worlds(section, 2)


def test_an_action_that_is_not_finite_is_told_with_its_worlds() -> None:
    sampler = real_sampler("point")
    with pytest.raises(SamplerError, match=r"environment point failed: actions of worlds \[0, 1, 2\] are not finite"):
        sampler.collect(lambda obs, *_: torch.full((len(obs), 2), torch.nan), torch.zeros(3, 2))


def test_a_bug_of_the_policy_is_not_blamed_on_the_environment() -> None:
    with pytest.raises(RuntimeError) as raised:
        sampler_of(FakeWorlds()).collect(lambda obs, *_: obs @ obs, torch.zeros(3, 2))
    assert not isinstance(raised.value, SamplerError)


def test_closing_is_idempotent_and_never_raises() -> None:
    sampler = real_sampler("ant", 1, threads=1)
    sampler.close()
    sampler.close()
    sampler_of(FakeWorlds(error=OSError("late"), fails_in="close")).close()
