"""Collecting at the same time as learning: results equal those of a plain sequential loop, whatever the timing."""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captures import build, collected
from conftest import SPEC, configure, make, observe
from runs import TINY, different, rows, train, wait_for_epoch
from test_controllers import WORDS
from test_hierarchy import child
from test_learners import CPU, EPOCHS, FourWays, check_resumed, final, timeless
from test_learners import run as run_all
from torch import Tensor, nn

from csf import run as entry
from csf.config.compose import check
from csf.core.compile import Captured
from csf.core.random import DrawFrom
from csf.errors import ConfigError, NonFiniteError, SamplerError
from csf.learners import Epoch, Overlapped, ReplayLearner
from csf.learners.epoch import ActingCopy
from csf.pretrained import Skills, worlds_of
from csf.run import Run
from csf.types import Sampler

ON = "task.overlap=true"
SECONDS = 60.0  # after which a thread is taken to wait in vain


def prepared(folder: Path, *words: str) -> Run:
    settings = [*TINY, f"exp_dir={folder.parent}", f"run_name={folder.name}", f"task.epochs={EPOCHS}"]
    return Run(configure(*settings, "task.save_every=2", *words), CPU)


# ---- random numbers

DRAWS: dict[str, Callable[[], Tensor]] = {
    "randn_like": lambda: torch.randn_like(torch.zeros(20, 3)),
    "randn_like of few": lambda: torch.randn_like(torch.zeros(3)),
    "rand_like": lambda: torch.rand_like(torch.zeros(20, 3)),
    "randint_like": lambda: torch.randint_like(torch.zeros(20), 1000),
    "randn": lambda: torch.randn(20, 3),
    "rand": lambda: torch.rand(20),
    "randint": lambda: torch.randint(1000, (20,)),
    "randint of a range": lambda: torch.randint(5, 1000, (20,)),
    "randperm": lambda: torch.randperm(50),
    "normal_": lambda: torch.zeros(20).normal_(),
    "exponential_": lambda: torch.zeros(20).exponential_(),
    "bernoulli": lambda: torch.bernoulli(torch.full((50,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(4, 50), 1),
    "dropout": lambda: nn.functional.dropout(torch.ones(50), 0.5),
    "gumbel_softmax": lambda: nn.functional.gumbel_softmax(torch.zeros(20, 3)),
    "Normal": lambda: torch.distributions.Normal(0.0, 1.0).sample((20,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_takes_the_numbers_of_the_given_generator(name: str) -> None:
    torch.manual_seed(3)
    want = [DRAWS[name](), DRAWS[name]()]
    torch.manual_seed(9)
    before = torch.get_rng_state()
    with DrawFrom(torch.Generator().manual_seed(3)):
        found = [DRAWS[name](), DRAWS[name]()]
    assert all(map(torch.equal, found, want))
    assert not torch.equal(*found)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_passed_is_used() -> None:
    with DrawFrom(torch.Generator().manual_seed(3)):
        found = torch.randn(5, generator=torch.Generator().manual_seed(4))
    assert torch.equal(found, torch.randn(5, generator=torch.Generator().manual_seed(4)))


def test_a_draw_without_generator_is_refused() -> None:
    with (
        DrawFrom(torch.Generator()),
        pytest.raises(RuntimeError, match=r"native_dropout.* cannot draw from a given generator"),
    ):
        torch.native_dropout(torch.ones(9), 0.5, True)


def test_other_threads_draw_from_the_global_generator() -> None:
    torch.manual_seed(3)
    want = torch.randn(5)
    torch.manual_seed(3)
    found = []
    with DrawFrom(torch.Generator().manual_seed(4)):
        thread = threading.Thread(target=lambda: found.append(torch.randn(5)))
        thread.start()
        thread.join()
    assert torch.equal(found[0], want)


# ---- the copy that acts


@pytest.mark.parametrize("precision", ["float32", "bf16_all"])
def test_the_copy_acts_as_the_agent_did_when_it_was_updated(precision: Any) -> None:
    agent = make("csf", "agent.hidden=[256,256]", "agent.backbone.hidden=[256,256]")
    agent.use_precision(precision)
    before = torch.get_rng_state()
    actor = ActingCopy(agent, precision)
    assert torch.equal(torch.get_rng_state(), before)
    obs, skill = observe(SPEC, 5), agent.sample_skills(5)
    actor.update()
    first = agent.act(obs, skill, True)
    assert torch.equal(actor.agent.act(obs, skill, True), first)
    with torch.no_grad():
        for param in agent.backbone.actor.parameters():
            param.add_(0.1)
    agent.load_full_state(agent.full_state())  # refreshes working copies
    assert torch.equal(actor.agent.act(obs, skill, True), first)
    actor.update()
    assert not torch.equal(agent.act(obs, skill, True), first)
    assert torch.equal(actor.agent.act(obs, skill, True), agent.act(obs, skill, True))


# ---- the schedule


class Reference:
    """The same schedule without threads: a copy of the whole agent collects, then the agent learns, or before."""

    def __init__(self, learner: ReplayLearner, collect_first: bool) -> None:
        self.learner, self.collect_first = learner, collect_first

    def __call__(self, sampler: Sampler, skills: Tensor) -> Epoch:
        policy, seed = copy.deepcopy(self.learner.agent).act, int(torch.randint(2**63 - 1, ()))
        metrics = None if self.collect_first else self.learner.improve()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            episodes = sampler.collect(policy, skills)
        if metrics is None:
            metrics = self.learner.improve()
        self.learner.store(episodes)
        return Epoch(episodes, metrics, 1.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def no_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "suite", lambda *_: [])


@pytest.mark.parametrize("backbone", ["successor", "sac", "discrete_sac"])
def test_results_are_those_of_a_loop_without_threads(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backbone == "discrete_sac":
        real = worlds_of
        monkeypatch.setattr(entry, "worlds_of", lambda *args: FourWays(real(*args)))
    for name, reference in (("overlapped", None), ("collects first", True), ("learns first", False)):
        with prepared(tmp_path / name, f"agent/backbone={backbone}", ON) as whole:
            if reference is not None:
                whole.trainer.run_epoch = Reference(whole.trainer.learner, reference)  # type: ignore[arg-type]
            assert whole.train() == 0
    for name in ("collects first", "learns first"):
        assert different(final(tmp_path / "overlapped"), final(tmp_path / name)) == []
        assert timeless(tmp_path / "overlapped") == timeless(tmp_path / name)
    learned = [row["epoch"] for row in rows(tmp_path / "overlapped") if "loss/actor" in row]
    assert learned == [3, 4]  # 20 transitions an epoch, 40 before the first update: one epoch later than without


@pytest.mark.parametrize("agent", ["csf", "metra"])
def test_a_run_is_resumed_bit_for_bit(agent: str, tmp_path: Path) -> None:
    check_resumed(tmp_path, f"agent={agent}", ON)


def test_a_controllers_run_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    """The worlds execute frozen skills in the thread that collects."""
    settings = [word for word in WORDS if not word.startswith(("run_name=", "task.epochs="))]
    ends = []
    for name, parts in (("whole", [6]), ("parts", [3, 6])):
        for epochs in parts:
            words = [f"exp_dir={tmp_path}", f"run_name={name}", "skills=csf", f"task.epochs={epochs}", ON]
            with Run(check([*settings, *words]), CPU, Skills(child("sphere"), {"epoch": 0}, "", True)) as whole:
                assert whole.train() == 0
                ends.append({key: part.full_state() for key, part in whole.parts.items() if key != "logger"})
    assert different(ends[0], ends[2]) == []
    assert whole.trainer.learner.gradient_steps > 0


def test_without_overlap_an_epoch_learns_from_its_own_episodes(tmp_path: Path) -> None:
    run_all(tmp_path / "run", EPOCHS, "agent=csf")
    assert [row["epoch"] for row in rows(tmp_path / "run") if "loss/actor" in row] == [2, 3, 4]


def test_the_two_run_at_the_same_time(tmp_path: Path) -> None:
    """Each waits for the other, in every epoch but the first of the process."""
    with prepared(tmp_path / "run", ON) as whole:
        learner: Any = whole.trainer.learner
        collecting, learning = threading.Event(), threading.Event()
        act, improve, met = learner.act, learner.improve, []

        def acting(*args: Any) -> Tensor:
            collecting.set()
            if whole.counters.epoch:
                met.append(learning.wait(SECONDS))
            return act(*args)

        def improving() -> Any:
            learning.set()
            met.append(collecting.wait(SECONDS))
            return improve()

        learner.act, learner.improve = acting, improving
        for _ in range(EPOCHS):
            collecting.clear()
            learning.clear()
            if not whole.counters.epoch:
                collecting.set()
            whole.trainer._train()
        assert len(met) == EPOCHS + (EPOCHS - 1) * 5
        assert all(met)


def test_the_first_epoch_of_a_process_collects_before_it_learns(tmp_path: Path) -> None:
    """Collecting may record graphs, and recording resets the random numbers that the learner draws."""
    with prepared(tmp_path / "run", ON) as whole:
        learner: Any = whole.trainer.learner
        act, improve, order = learner.act, learner.improve, list[str]()

        def acting(*args: Any) -> Tensor:
            time.sleep(0.02)
            order.append("act")
            return act(*args)

        def improving() -> Any:
            order.append("learn")
            return improve()

        learner.act, learner.improve = acting, improving
        whole.trainer._train()
    assert order == ["act"] * 5 + ["learn"]


def test_the_learner_keeps_its_threads_while_the_worlds_are_stepped_with_one(tmp_path: Path) -> None:
    found: dict[str, int] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with prepared(tmp_path / "run", ON) as whole:
        learner: Any = whole.trainer.learner
        act, stepping, asked = learner.act, threading.Event(), threading.Event()

        def acting(*args: Any) -> Tensor:
            if whole.counters.epoch:
                found["collect"] = torch.get_num_threads()
                stepping.set()
                assert asked.wait(SECONDS)
            return act(*args)

        def improving() -> Any:
            if whole.counters.epoch:
                assert stepping.wait(SECONDS)
                found["learn"] = torch.get_num_threads()
                asked.set()
            return {}

        learner.act, learner.improve = acting, improving
        for _ in range(2):
            whole.trainer._train()
    torch.set_num_threads(before)
    assert found == {"collect": 1, "learn": 3}


def test_recorded_steps_are_those_made_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording puts the global generator back, from which nothing else may draw at that time."""

    class Canned:
        spec = SPEC

        def collect(self, policy: Any, skills: Tensor, *_: Any) -> Any:
            episodes = collected_before[len(acted)]
            acted.append(policy(episodes.obs[:, 0], skills))
            return episodes

        def close(self) -> None:
            pass

    acted: list[Tensor] = []
    results = []
    monkeypatch.setattr("csf.replay.buffer.random_rows", lambda size, count, n: torch.randint(2**62, (n,)) % count)
    for on_tape in (False, True):
        learner: Any = build("csf", on_tape)
        collected_before = [collected(learner.agent, epoch) for epoch in range(3)]
        acted.clear()
        torch.manual_seed(0)
        overlapped = Overlapped(learner, "float32")
        metrics = [overlapped(Canned(), collected_before[0].skill).metrics for _ in range(3)]
        overlapped.close()
        results.append((metrics, [*acted], learner.agent.full_state(), torch.get_rng_state()))
    assert isinstance(learner.make_steps._graph, Captured)
    assert different(results[0], results[1]) == []


# ---- errors


def test_a_learner_without_replay_buffer_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        configure("agent=metra", "agent/backbone=ppo", ON)
    message = (
        "task.overlap is true; accepted with agent/backbone=ppo, which learns from each epoch's own episodes: false"
    )
    assert str(error.value) == message
    assert configure("agent=metra", "agent/backbone=ppo").task.overlap is False


def test_an_error_of_collecting_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with prepared(tmp_path / "run", ON) as whole:
        act = whole.trainer.learner.act

        def failing(*args: Any) -> Tensor:
            if whole.counters.epoch == 2:
                raise SamplerError("all 4 worlds of a round diverged; no episode is left")
            return act(*args)

        whole.trainer.learner.act = failing
        with pytest.raises(SamplerError, match=r"^all 4 worlds of a round diverged"):
            whole.train()
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0, 1, 2]


def test_an_error_of_learning_waits_for_the_worlds(tmp_path: Path) -> None:
    """Otherwise they would be closed while they are stepped."""
    with prepared(tmp_path / "run", ON) as whole:
        learner: Any = whole.trainer.learner
        act, failed = learner.act, threading.Event()
        after, closed = list[int](), list[int]()
        whole.worlds.close_extras = lambda **_: closed.append(len(after))  # type: ignore[attr-defined]

        def acting(*args: Any) -> Tensor:
            if whole.counters.epoch:
                assert failed.wait(SECONDS)
                time.sleep(0.02)
                after.append(1)
            return act(*args)

        def improving() -> Any:
            if whole.counters.epoch:
                failed.set()
                raise NonFiniteError("loss/critic is nan", {})
            return {}

        learner.act, learner.improve = acting, improving
        with pytest.raises(NonFiniteError, match=r"^loss/critic is nan in epoch 2; saved for debugging: "):
            whole.train()
    assert closed == [5]  # after all steps


def test_a_signal_ends_the_epoch_and_the_run_is_resumed(tmp_path: Path) -> None:
    folder, reference = tmp_path / "run", tmp_path / "reference"
    child = train(folder, ON, "task.epochs=10000", "task.save_every=10000")
    wait_for_epoch(child, folder, 2)
    child.kill(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM
    last = int(rows(folder)[-1]["epoch"])
    assert f"SIGTERM: saved after epoch {last}; the same command resumes the run" in child.said
    for path in (folder, reference):
        done = train(path, ON, f"task.epochs={last + 2}", "task.save_every=10000")
        assert done.wait() == 0, done.said
    found = [timeless(path)[: last + 2] for path in (folder, reference)]
    assert found[0] == found[1]
