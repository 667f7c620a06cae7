"""The replay buffer against the released program's, and against a plain list of transitions."""

from __future__ import annotations

import dataclasses
import io
import random
from collections import deque

import golden_map
import numpy as np
import pytest
import torch
from conftest import SPEC
from runs import different

from csf.replay import ReplayBuffer
from csf.types import Batch, EnvSpec, Episodes

STEPS = 8
SMALL = dataclasses.replace(SPEC, obs_shape=(2,), max_steps=STEPS)


class Source:
    """Episodes in which every number tells where it belongs; what is not a real step is NaN."""

    def __init__(self) -> None:
        self.episode = self.step = 0

    def episodes(self, lengths: list[int], steps: int = STEPS) -> Episodes:
        n = len(lengths)
        obs, action = torch.full((n, steps + 1, 2), torch.nan), torch.full((n, steps, 2), torch.nan)
        reward, terminal = torch.full((n, steps), torch.nan), torch.full((n, steps), torch.nan)
        skill = torch.zeros(n, 2)
        for i, length in enumerate(lengths):
            self.episode += 1
            skill[i] = torch.tensor([self.episode, -self.episode])
            obs[i, : length + 1, 0] = self.episode
            obs[i, : length + 1, 1] = torch.arange(length + 1)
            action[i, :length] = 0.5 * obs[i, :length]
            reward[i, :length] = torch.arange(self.step, self.step + length)  # no two transitions have the same
            terminal[i, :length] = (torch.arange(length) == length - 1).float() * (self.episode % 2)
            self.step += length
        coord = torch.zeros(n, steps + 1, 2, dtype=torch.float64)
        return Episodes(obs, action, reward, terminal, skill, torch.tensor(lengths), coord)


class Model:
    """What the buffer should hold: the newest transitions, in a list."""

    def __init__(self, capacity: int) -> None:
        self.rows: deque[tuple[torch.Tensor, ...]] = deque(maxlen=capacity)

    def add(self, new: Episodes) -> None:
        for n, length in enumerate(new.length.tolist()):
            for t in range(length):
                before, after = new.obs[n, t], new.obs[n, t + 1]
                self.rows.append((before, new.action[n, t], after, new.reward[n, t], new.terminal[n, t], new.skill[n]))

    def all(self) -> Batch:
        return Batch(*(torch.stack(column) for column in zip(*self.rows, strict=True)))


def stored(buffer: ReplayBuffer) -> Batch:
    """Every transition of the buffer, oldest first."""
    found = buffer.gather(torch.arange(len(buffer)))
    order = found.reward.argsort()
    return Batch(*(column[order] for column in found))


def assert_equal(a: Batch, b: Batch) -> None:
    for name, x, y in zip(Batch._fields, a, b, strict=True):
        assert x.dtype == y.dtype, name
        assert torch.equal(x, y), name


def lengths(rng: random.Random, capacity: int) -> list[int]:
    """Of up to seven episodes that fit, some of them empty, most of them short."""
    found = [rng.choice([0, 1, 1, 2, 3, STEPS - 1, STEPS]) for _ in range(rng.randrange(1, 8))]
    while sum(found) > capacity:
        found.pop()
    return found


# ---- contents


def test_it_holds_the_released_programs_transitions() -> None:
    arrays = golden_map.read("pieces_replay_buffer")
    meta = golden_map.meta_of(arrays)
    spec = dataclasses.replace(SMALL, obs_shape=(1,), max_steps=6)
    buffer = ReplayBuffer(meta["capacity"], spec, 2, "cpu")
    for path, length in enumerate(meta["path_lengths"]):
        obs = 100.0 * path + torch.arange(length + 1)[None, :, None]
        nothing = torch.zeros(1, length)
        new = (obs, torch.zeros(1, length, 2), nothing, nothing, torch.zeros(1, 2), torch.tensor([length]))
        buffer.add(Episodes(*new, torch.zeros(1, length + 1, 2)))
        count = int(arrays[f"after_add{path}/stored_first_next"][0])
        want = arrays[f"after_add{path}/obs"][:count]
        assert len(buffer) == count
        found = buffer.gather(torch.arange(count))
        assert sorted(found.obs.ravel().tolist()) == sorted(want.tolist())
        assert torch.equal(found.next_obs, found.obs + 1)
    pairs = set(zip(found.obs.ravel().tolist(), found.next_obs.ravel().tolist(), strict=True))
    for i in range(3):  # what it drew from its own
        sample = zip(arrays[f"sample{i}/obs"].ravel(), arrays[f"sample{i}/next_obs"].ravel(), strict=True)
        assert set(sample) <= pairs


@pytest.mark.parametrize("capacity", [STEPS, 20, 33])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_a_list_that_forgets_its_head(capacity: int, seed: int) -> None:
    rng, source = random.Random(seed), Source()
    buffer, model = ReplayBuffer(capacity, SMALL, 2, "cpu"), Model(capacity)
    for _ in range(60):
        new = source.episodes(lengths(rng, capacity))
        buffer.add(new)
        model.add(new)
        assert len(buffer) == len(model.rows)
        if model.rows:
            assert_equal(stored(buffer), model.all())


def test_episodes_of_one_step_make_the_slots_grow() -> None:
    source = Source()
    buffer, model = ReplayBuffer(40, SMALL, 2, "cpu"), Model(40)
    before = buffer.slots
    for count in (3, 9, 30, 40, 7):  # 40 live episodes where whole ones would be 5
        new = source.episodes([1] * count)
        buffer.add(new)
        model.add(new)
        assert_equal(stored(buffer), model.all())
    assert before < 40 <= buffer.slots


def test_whole_episodes_never_need_more_slots() -> None:
    source = Source()
    buffer = ReplayBuffer(20, SMALL, 2, "cpu")
    before = buffer.slots
    for _ in range(50):
        buffer.add(source.episodes([STEPS, STEPS]))
    assert buffer.slots == before


def test_an_episode_may_fill_the_whole_buffer() -> None:
    source = Source()
    buffer, model = ReplayBuffer(STEPS, SMALL, 2, "cpu"), Model(STEPS)
    for count in (3, STEPS, STEPS, 5, STEPS):
        new = source.episodes([count])
        buffer.add(new)
        model.add(new)
        assert_equal(stored(buffer), model.all())


def test_next_observations_and_skills_stay_within_their_episode() -> None:
    rng, source = random.Random(0), Source()
    buffer = ReplayBuffer(50, SMALL, 2, "cpu")
    for _ in range(40):
        buffer.add(source.episodes(lengths(rng, 50)))
        batch = buffer.gather(torch.arange(len(buffer)))
        assert torch.equal(batch.next_obs[:, 0], batch.obs[:, 0])
        assert torch.equal(batch.next_obs[:, 1], batch.obs[:, 1] + 1)
        assert torch.equal(batch.skill[:, 0], batch.obs[:, 0])


def test_a_batch_is_a_copy() -> None:
    buffer = ReplayBuffer(20, SMALL, 2, "cpu")
    buffer.add(Source().episodes([5]))
    before = stored(buffer)
    for column in buffer.gather(torch.arange(5)):
        column.zero_()
    assert_equal(stored(buffer), before)


def test_images_are_stored_as_bytes() -> None:
    spec = dataclasses.replace(SMALL, obs_shape=(4, 4, 3), obs_dtype="uint8")
    buffer = ReplayBuffer(20, spec, 2, "cpu")
    new = Source().episodes([5])
    obs = torch.randint(0, 256, (1, STEPS + 1, 4, 4, 3), dtype=torch.uint8)
    buffer.add(new._replace(obs=obs))
    assert torch.equal(stored(buffer).obs, obs[0, :5])
    assert torch.equal(stored(buffer).next_obs, obs[0, 1:6])


def test_too_many_steps_are_refused_and_change_nothing() -> None:
    source = Source()
    buffer = ReplayBuffer(20, SMALL, 2, "cpu")
    buffer.add(source.episodes([6]))
    before = stored(buffer)
    with pytest.raises(ValueError, match=r"^24 transitions do not fit in a replay buffer of 20$"):
        buffer.add(source.episodes([8, 8, 8]))
    assert_equal(stored(buffer), before)


# ---- sampling


@pytest.mark.parametrize("added", [[7, 5, 1], [8, 8, 3, 8, 8, 2, 8]], ids=["filling", "wrapped"])
def test_transitions_are_drawn_uniformly(added: list[int]) -> None:
    source = Source()
    buffer = ReplayBuffer(30, SMALL, 2, "cpu")
    for length in added:
        buffer.add(source.episodes([length]))
    torch.manual_seed(0)
    draws = 60_000
    batch = buffer.sample(draws)
    known = stored(buffer).reward
    counts = (batch.reward[:, None] == known).sum(0).double()
    assert counts.sum() == draws, "a transition was drawn that is not stored"
    expected = draws / len(known)
    chi = float(((counts - expected).square() / expected).sum())
    freedom = len(known) - 1
    assert chi < freedom + 5 * (2 * freedom) ** 0.5


def test_successive_draws_differ() -> None:
    buffer = ReplayBuffer(30, SMALL, 2, "cpu")
    buffer.add(Source().episodes([8, 8, 8]))
    assert not torch.equal(buffer.sample_index(64), buffer.sample_index(64))


def test_an_empty_buffer_has_nothing_to_draw() -> None:
    buffer = ReplayBuffer(30, SMALL, 2, "cpu")
    buffer.add(Source().episodes([0, 0]))
    assert len(buffer) == 0
    with pytest.raises(ValueError, match="the replay buffer is empty"):
        buffer.sample(1)


# ---- size


def test_a_million_transitions_of_ant_take_less_than_350_megabytes() -> None:
    spec = EnvSpec("ant", "", (29,), "float32", 8, False, 200, 2, (), 1.0, None, None)
    buffer = ReplayBuffer(1_000_000, spec, 2, "meta")  # shapes without memory
    tensors = [value for value in vars(buffer).values() if isinstance(value, torch.Tensor)]
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert 1_000_000 * (29 + 8) * 4 < total < 350e6


# ---- state


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    found: dict[str, object] = torch.load(file, weights_only=True)
    return found


HISTORIES = {
    "empty": [],
    "filling": [[3, 8], [2]],
    "wrapped": [[8, 8], [8, 5], [8], [3, 3]],
    "grown": [[1] * 13, [1] * 9],
    "grown and wrapped": [[1] * 25, [2] * 10, [1, 3, 1], [8, 8, 8], [1] * 20],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_restored_buffer_goes_on_bit_for_bit(history: list[list[int]], used: bool) -> None:
    source, rng = Source(), random.Random(0)
    buffer, other = ReplayBuffer(30, SMALL, 2, "cpu"), ReplayBuffer(30, SMALL, 2, "cpu")
    for each in history:
        buffer.add(source.episodes(each))
    if used:
        other.add(Source().episodes([1] * 30))
        other.add(Source().episodes([5, 1, 1]))
    other.load_full_state(through_a_file(buffer.full_state()))
    for _ in range(12):
        assert len(buffer) == len(other)
        if len(buffer):
            assert_equal(buffer.gather(torch.arange(len(buffer))), other.gather(torch.arange(len(buffer))))
            torch.manual_seed(1)
            mine = buffer.sample(50)
            torch.manual_seed(1)
            assert_equal(mine, other.sample(50))
        new = source.episodes(lengths(rng, 30))
        buffer.add(new)
        other.add(new)


def test_a_state_is_a_copy() -> None:
    source = Source()
    buffer = ReplayBuffer(10, SMALL, 2, "cpu")
    buffer.add(source.episodes([6]))
    state = buffer.full_state()
    before = through_a_file(state)
    buffer.add(source.episodes([8]))
    assert different(state, before) == []


def test_a_state_of_another_capacity_is_refused() -> None:
    state = ReplayBuffer(20, SMALL, 2, "cpu").full_state()
    with pytest.raises(ValueError, match=r"^a replay buffer of 20 does not fit in one of 30$"):
        ReplayBuffer(30, SMALL, 2, "cpu").load_full_state(state)


def test_the_guard_would_see_a_border_crossed() -> None:
    """Without the mark of an episode's last row, its next observation is of the following episode."""
    buffer = ReplayBuffer(20, SMALL, 2, "cpu")
    buffer.add(Source().episodes([4, 4]))
    buffer.last.zero_()
    found = buffer.gather(torch.arange(8))
    assert np.array_equal((found.next_obs[:, 0] != found.obs[:, 0]).nonzero().ravel(), [3, 7])
