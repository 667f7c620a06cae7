"""Images in the replay buffer, each stored once, against a plain list of episodes with their stacks."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SPEC, make
from runs import different
from test_replay import through_a_file

import envs
from csf.learners import EpochBudget
from csf.learners import replay as learner_module
from csf.learners.captured import CapturedSteps
from csf.learners.replay import ReplayLearner
from csf.learners.updates import make_steps
from csf.replay import ReplayBuffer, buffer
from csf.replay.stacks import newest
from csf.replay.upload import AHEAD, Upload
from csf.types import Batch, EnvSpec, Episodes, SomeObs, map_obs
from csf.worlds import describe

STEPS, FRAMES = 7, 3
IMAGE = dataclasses.replace(SPEC, obs_shape=(2, 4, 3 * FRAMES), obs_dtype="uint8", max_steps=STEPS, frames=FRAMES)
SPECS = {"image": IMAGE, "both": dataclasses.replace(IMAGE, vector_dim=2)}
every_kind = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


class Source:
    """Episodes of random images; what is not a real step is other noise, as in rows that were used before."""

    def __init__(self, spec: EnvSpec, seed: int = 0) -> None:
        self.spec, self.rng, self.episode = spec, np.random.default_rng(seed), 0

    def images(self) -> np.ndarray:
        """The stacks [T + 1, H, W, F * C] of one episode, built as an environment does."""
        height, width, channels = self.spec.obs_shape
        frames = self.rng.integers(0, 256, (STEPS + 1, height, width, channels // FRAMES), np.uint8)
        return np.stack([np.concatenate([frames[max(t - k, 0)] for k in (2, 1, 0)], -1) for t in range(STEPS + 1)])

    def episodes(self, lengths: list[int]) -> Episodes:
        n = len(lengths)
        image, skill = torch.empty(n, STEPS + 1, *self.spec.obs_shape, dtype=torch.uint8), torch.zeros(n, 2)
        for i, length in enumerate(lengths):
            self.episode += 1
            skill[i] = self.episode
            image[i] = torch.from_numpy(self.images())
            image[i, length + 1 :] = torch.randint(256, image[i, length + 1 :].shape)
        vector = torch.randn(n, STEPS + 1, 2)
        obs: SomeObs = {"image": image, "vector": vector} if self.spec.vector_dim else image
        rows = torch.randn(n, STEPS, 2), torch.randn(n, STEPS), torch.zeros(n, STEPS)
        return Episodes(obs, *rows, skill, torch.tensor(lengths), torch.zeros(n, STEPS + 1, 2, dtype=torch.float64))


class Model:
    """The newest transitions with whole stacks, in a list."""

    def __init__(self, capacity: int) -> None:
        self.rows: deque[Batch] = deque(maxlen=capacity)

    def add(self, new: Episodes) -> None:
        for n, length in enumerate(new.length.tolist()):
            for t in range(length):
                now, after = (map_obs(lambda rows: rows[n, at], new.obs) for at in (t, t + 1))  # noqa: B023
                self.rows.append(
                    Batch(now, new.action[n, t], after, new.reward[n, t], new.terminal[n, t], new.skill[n])
                )

    def all(self) -> Batch:
        columns = zip(*self.rows, strict=True)
        return Batch(*(map_obs(lambda *rows: torch.stack(rows), *column) for column in columns))


def stored(of: ReplayBuffer) -> Batch:
    """Every transition, oldest first."""
    return of.gather(of.rows(torch.arange(len(of))))


def assert_equal(a: Batch, b: Batch) -> None:
    for name, x, y in zip(Batch._fields, a, b, strict=True):
        pairs = [(x[key], y[key]) for key in x] if isinstance(x, dict) else [(x, y)]
        assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs), name


def lengths(rng: random.Random, capacity: int) -> list[int]:
    """Some diverged (0), some shorter than a stack, some whole."""
    found = [rng.choice([0, 1, 2, 3, STEPS - 1, STEPS]) for _ in range(rng.randrange(1, 6))]
    while sum(found) > capacity:
        found.pop()
    return found


@every_kind
@pytest.mark.parametrize("capacity", [STEPS, 16, 33])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_a_list_that_forgets_its_head(spec: EnvSpec, capacity: int, seed: int) -> None:
    """Also where an episode is half overwritten: the stacks of what remains have the images that were overwritten."""
    rng, source = random.Random(seed), Source(spec, seed)
    replay, model = ReplayBuffer(capacity, spec, 2, "cpu"), Model(capacity)
    partial = 0
    for _ in range(40):
        new = source.episodes(lengths(rng, capacity))
        replay.add(new)
        model.add(new)
        assert len(replay) == len(model.rows)
        if model.rows:
            assert_equal(stored(replay), model.all())
            partial += int(replay.step[replay.rows(torch.tensor(0))]) > 0
    assert partial > 3, "no episode was half overwritten"


def test_samples_are_transitions_that_are_stored_and_all_of_them() -> None:
    source, capacity = Source(IMAGE), 16
    replay, model = ReplayBuffer(capacity, IMAGE, 2, "cpu"), Model(capacity)
    for _ in range(3):
        new = source.episodes([STEPS, 5])
        replay.add(new)
        model.add(new)
    torch.manual_seed(0)
    sample, known = replay.sample(2000), model.all()
    same = (sample.reward[:, None] == known.reward).long()
    assert (same.sum(1) == 1).all(), "a transition was drawn that is not stored"
    counts = same.sum(0)
    assert counts.min() > 0.6 * 2000 / capacity
    assert_equal(sample, Batch(*(field[same.argmax(1)] for field in known)))


def test_the_guard_would_see_a_stack_across_a_border() -> None:
    """Without the number of earlier steps, a stack takes images of the episode before."""
    source, model = Source(IMAGE), Model(20)
    replay = ReplayBuffer(20, IMAGE, 2, "cpu")
    new = source.episodes([4, 4])
    replay.add(new)
    model.add(new)
    replay.step[:] = STEPS
    found, want = stored(replay).obs, model.all().obs
    assert (found != want).flatten(1).any(1).nonzero().ravel().tolist() == [0, 1, 4, 5]


def test_the_guard_would_see_an_overwritten_image() -> None:
    """Without spare rows, the stacks of a half overwritten episode take the newest images."""
    source, model = Source(IMAGE), Model(10)
    replay = ReplayBuffer(10, IMAGE, 2, "cpu")
    replay.spare, replay.ring = 0, 10
    replay.rows = lambda order: (replay.oldest + order) % 10  # type: ignore[method-assign]
    gather = ReplayBuffer._gather_obs
    for _ in range(2):
        new = source.episodes([STEPS])
        replay.add(new)
        model.add(new)
    replay.spare = 2
    index = replay.rows(torch.arange(10))
    following = torch.where(replay.last[index], 10 + replay.slot[index], (index + 1) % 10)
    found, _ = gather(replay, index, following)
    assert (found != model.all().obs).flatten(1).any(1).nonzero().ravel().tolist() == [0, 1]


def test_a_batch_is_a_copy() -> None:
    replay = ReplayBuffer(20, IMAGE, 2, "cpu")
    replay.add(Source(IMAGE).episodes([5]))
    before = stored(replay)
    for column in stored(replay):
        column.zero_()
    assert_equal(stored(replay), before)


def test_stacks_that_do_not_overlap_are_refused() -> None:
    new = Source(IMAGE).episodes([5, 3])
    cases = []
    for step, channel in ((3, 0), (0, 0)):
        image = new.obs.clone()
        image[1, step, 0, 0, channel] ^= 1
        cases.append(image)
    for image in cases:
        replay = ReplayBuffer(20, IMAGE, 2, "cpu")
        with pytest.raises(ValueError, match=r"^observations of test are not stacks of the last 3 images"):
            replay.add(new._replace(obs=image))
        assert len(replay) == 0
    unused = new.obs.clone()
    unused[1, 5] ^= 1  # behind the end of an episode
    ReplayBuffer(20, IMAGE, 2, "cpu").add(new._replace(obs=unused))


def test_stacks_between_held_actions_are_stored_whole() -> None:
    """They share no image with each other, so none could be left out."""
    spec = dataclasses.replace(IMAGE, hold=3)
    replay, obs = ReplayBuffer(20, spec, 2, "cpu"), torch.randint(256, (1, STEPS + 1, 2, 4, 9), dtype=torch.uint8)
    replay.add(Source(IMAGE).episodes([5])._replace(obs=obs))
    assert torch.equal(stored(replay).obs, obs[0, :5])
    assert torch.equal(stored(replay).next_obs, obs[0, 1:6])


# ---- size


def test_300_thousand_transitions_of_quadruped_take_less_than_4_5_gigabytes() -> None:
    spec = EnvSpec("quadruped", "", (64, 64, 9), "uint8", 12, False, 200, 2, (), 1.0, None, None, frames=3)
    replay = ReplayBuffer(300_000, spec, 4, "meta")  # shapes without memory
    tensors = [value for value in vars(replay).values() if isinstance(value, torch.Tensor)]
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert 300_000 * (64 * 64 * 3 + 12 * 4) < total < 4.5e9
    assert replay.nbytes == pytest.approx(total, rel=1e-6)


# ---- state

HISTORIES = {
    "empty": [],
    "filling": [[3, 7], [2]],
    "wrapped within an episode": [[7, 7, 5], [7]],
    "wrapped at a border": [[7, 7], [5], [7, 7]],
    "wrapped many times": [[7, 7, 1], [7, 5], [3, 7, 7], [7, 6], [2, 2]],
    "grown": [[1] * 13, [1] * 9, [2] * 3],
}


@every_kind
@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_a_restored_buffer_goes_on_bit_for_bit(spec: EnvSpec, history: list[list[int]]) -> None:
    source, rng = Source(spec), random.Random(0)
    one, other = ReplayBuffer(20, spec, 2, "cpu"), ReplayBuffer(20, spec, 2, "cpu")
    for each in history:
        one.add(source.episodes(each))
    other.add(Source(spec, 1).episodes([5, 3, 1, 1, 2]))  # what it held before
    other.load_full_state(through_a_file(one.full_state()))
    for _ in range(8):
        assert len(one) == len(other)
        assert different(one.full_state(), other.full_state()) == []
        if len(one):
            assert_equal(stored(one), stored(other))
            torch.manual_seed(1)
            mine = one.sample(50)
            torch.manual_seed(1)
            assert_equal(mine, other.sample(50))
        new = source.episodes(lengths(rng, 20))
        one.add(new)
        other.add(new)


@every_kind
def test_a_state_may_come_in_segments_whose_head_was_overwritten(spec: EnvSpec) -> None:
    """As it does from files that were written while the buffer filled."""
    source, model = Source(spec), Model(20)
    one, other = ReplayBuffer(20, spec, 2, "cpu"), ReplayBuffer(20, spec, 2, "cpu")
    segments: list[dict[str, Any]] = []
    for each in [[7, 2], [5, 7], [3, 7], [6]]:
        new = source.episodes(each)
        begin = one.total
        one.add(new)
        model.add(new)
        segments.append(through_a_file(one.take(begin, one.total)))
    needed = [each for each in segments if each["begin"] + int(each["length"].sum()) > one.start()]
    assert needed[0]["begin"] < one.start()
    other.load_full_state({**one.head_state(), "segments": iter(needed)})
    assert_equal(stored(other), model.all())
    assert torch.equal(one.rows(torch.arange(20)), other.rows(torch.arange(20)))


# ---- host memory


class Event:
    """A CUDA event; `waiting` are those that nobody has waited for, by number."""

    made = 0
    waiting: list[int] = []  # noqa: RUF012

    def record(self, stream: Any) -> None:
        assert stream == "stream"
        self.number = Event.made
        Event.made += 1
        Event.waiting.append(self.number)

    def synchronize(self) -> None:
        Event.waiting.remove(self.number)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Stand-ins for CUDA where there is none; each copy's size, and whether it was asynchronous from pinned memory."""
    copies: list[tuple[int, bool]] = []
    pinned: set[int] = set()

    def pin(rows: torch.Tensor) -> torch.Tensor:
        found = rows.clone()
        pinned.add(id(found))
        return found

    def to(rows: torch.Tensor, device: Any, non_blocking: bool = False) -> torch.Tensor:
        copies.append((rows.numel(), non_blocking and id(rows) in pinned))
        return rows.clone()

    Event.made, Event.waiting = 0, []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    monkeypatch.setattr(Upload, "_copy", lambda self, rows: to(pin(rows), self.device, non_blocking=True))
    return copies


@every_kind
def test_batches_from_host_memory_equal_those_of_a_device(spec: EnvSpec, cuda: list[tuple[int, bool]]) -> None:
    new = Source(spec).episodes([7, 3, 7])
    here, host = ReplayBuffer(20, spec, 2, "cpu"), ReplayBuffer(20, spec, 2, "cuda", "cpu")
    for replay in (here, host):
        replay.add(new)
    for _ in range(5):
        torch.manual_seed(3)
        mine = here.sample(8)
        torch.manual_seed(3)
        assert_equal(mine, host.sample(8))
    assert len(cuda) == 5 * (6 if not spec.vector_dim else 8)
    assert Event.made == 5
    assert Event.waiting == list(range(5 - AHEAD, 5)), "the host runs ahead without a limit"


def test_a_copy_to_the_device_is_asynchronous_from_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Rows:
        def pin_memory(self) -> Rows:
            calls.append("pin")
            return self

        def to(self, device: torch.device, non_blocking: bool) -> str:
            calls.append((device.type, non_blocking))
            return "copied"

    assert Upload(torch.device("cuda"))._copy(Rows()) == "copied"  # type: ignore[arg-type]
    assert calls == ["pin", ("cuda", True)]


# ---- worlds


def test_the_images_of_worlds_are_stored_once() -> None:
    """The numbers come from an environment, whose description says how its observations are stacked."""
    worlds: Any = envs.make_vec("point_pixels", 2, max_steps=STEPS)
    spec = describe(worlds, "point_pixels")
    assert (spec.frames, spec.obs_shape) == (3, (64, 64, 9))
    replay = ReplayBuffer(20, spec, 2, "cpu")
    assert replay.obs.shape == (22 + replay.slots, 64, 64, 3)
    obs = [worlds.reset(seed=0)[0]]
    for _ in range(STEPS):
        obs.append(worlds.step(np.random.default_rng(0).uniform(-1, 1, (2, 2)))[0])
    seen = torch.from_numpy(np.stack(obs, 1))
    assert torch.equal(newest(3, seen), seen[..., 6:])
    nothing = torch.zeros(2, STEPS)
    new = Episodes(
        seen, torch.zeros(2, STEPS, 2), nothing, nothing, torch.zeros(2, 2), torch.tensor([STEPS, 3]), nothing
    )
    replay.add(new)
    found = stored(replay)
    assert torch.equal(found.obs, torch.cat([seen[0, :STEPS], seen[1, :3]]))
    assert torch.equal(found.next_obs, torch.cat([seen[0, 1:], seen[1, 1:4]]))
    assert buffer.ROWS == ("obs", "action", "reward", "terminal")


# ---- where a learner keeps it


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The free bytes of a GPU that there need not be."""
    memory = {"free": 0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory["free"], 10**12))
    return memory


BUDGET = EpochBudget(episodes_per_epoch=1, updates_per_epoch=2, batch_size=4, replay_size=1000, min_replay_size=1)


def learner_on_cuda(spec: EnvSpec) -> ReplayLearner:
    agent = make("csf", spec=dataclasses.replace(spec, obs_shape=(64, 64, 9) if spec.has_image else spec.obs_shape))
    return ReplayLearner(agent, BUDGET, "cuda")


def test_images_that_do_not_fit_on_the_gpu_are_kept_in_host_memory(
    gpu: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Steps are then taken one by one, since a graph cannot read what the host changes."""
    gpu["free"] = 20_000_000  # the buffer takes 14 MB
    learner = learner_on_cuda(IMAGE)
    assert (learner.replay.storage.type, learner.replay.device.type) == ("cpu", "cuda")
    assert caplog.messages == [
        "the replay buffer is in host memory, because 1,000 transitions take 0.0 GB and the GPU has 0.0 GB free; "
        "gradient steps run without CUDA graphs"
    ]
    learner.capture()
    assert learner.make_steps is make_steps


@pytest.mark.parametrize(("spec", "free"), [(IMAGE, 30_000_000), (SPEC, 0)], ids=["images that fit", "vectors"])
def test_everything_else_is_kept_on_the_gpu(spec: EnvSpec, free: int, gpu: dict[str, int]) -> None:
    gpu["free"] = free
    with pytest.MonkeyPatch.context() as patch:
        made: list[Any] = []

        def build(size: int, spec: EnvSpec, dim: int, device: Any, storage: Any = None) -> Any:
            made.append((torch.device(device).type, None if storage is None else torch.device(storage).type))
            return ReplayBuffer(size, spec, dim, "meta" if device == "meta" else "cpu")

        patch.setattr(learner_module, "ReplayBuffer", build)
        learner = learner_on_cuda(spec)
        learner.capture()
    assert made[-1] == ("cuda", "cuda")
    assert isinstance(learner.make_steps, CapturedSteps)
