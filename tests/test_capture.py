"""Gradient steps and acting that are recorded and replayed do what they do without, for every method.

Here a tape stands in for CUDA graphs; tests/test_gpu.py has the graphs themselves.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from captures import BUDGET, CASES, RNG, build, collected, get_rng, learn, state
from conftest import SPEC, configure, make, observe
from runs import different
from tape import record
from test_evaluation import evaluators, sampler
from test_evaluation import make as make_planar
from test_hierarchy import child, choose
from torch import Tensor

from csf import replay
from csf import run as entry
from csf.core import precision
from csf.core.compile import Captured, CapturedPolicy, unchanged
from csf.hierarchy import SkillVectorEnv
from csf.learners import captured, rollout
from csf.learners.captured import LONGEST, CapturedSteps, per_replay
from csf.learners.replay import ReplayLearner
from csf.replay import buffer
from csf.types import map_obs
from envs import make_vec

every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def device_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a batch are drawn as they are on a GPU, where their bound is read on the device."""
    for module in (buffer, rollout):
        monkeypatch.setattr(module, "random_rows", lambda size, count, n: replay.rows_below(count, n))
    monkeypatch.setattr(captured, "LONGEST", 3)  # so that an epoch takes two replays


@pytest.mark.usefixtures("device_draws")
@every_case
def test_replayed_steps_are_those_made_one_by_one(case: str) -> None:
    """Bit for bit, also while the buffer fills, wraps, and after its tensors have moved."""
    plain, taped = build(case, False), build(case, True)
    for epochs in (range(3), range(3, 5)):
        assert learn(taped, epochs) == learn(plain, epochs)
        assert different(state(taped), state(plain)) == []
        for learner in (plain, taped):
            if hasattr(learner, "replay"):
                learner.replay._resize(40)


@pytest.mark.usefixtures("device_draws")
def test_so_they_are_with_working_copies_of_weights() -> None:
    """Copies in bfloat16 are written by every step as well, and have to be put back after recording."""
    pair = []
    for on_tape in (False, True):
        torch.manual_seed(0)
        agent = make("csf", "agent.hidden=[256,256]", "agent.backbone.hidden=[256,256]")
        agent.use_precision("bf16_all")
        learner = ReplayLearner(agent, BUDGET, "cpu")
        if on_tape:
            learner.make_steps = CapturedSteps(agent, record)
        RNG[learner] = get_rng("cpu")
        pair.append((learn(learner, range(2)), state(learner)))
        copies = [precision.computed_with(param) for param in agent.parameters()]
        assert any(copy.dtype == torch.bfloat16 for copy in copies)
    assert pair[0][0] == pair[1][0]
    assert different(pair[0][1], pair[1][1]) == []


@pytest.mark.usefixtures("device_draws")
def test_a_graph_is_recorded_again_only_where_transitions_have_moved() -> None:
    learner = build("csf", False)
    recorded: list[None] = []

    def counted(function: Any) -> Any:
        recorded.append(None)
        return record(function)

    learner.make_steps = CapturedSteps(learner.agent, counted)
    learn(learner, range(4))
    assert len(recorded) == 1
    learner.replay._resize(50)  # type: ignore[attr-defined]
    learn(learner, range(4, 6))
    assert len(recorded) == 2


@pytest.mark.usefixtures("device_draws")
def test_a_graph_is_recorded_again_where_a_state_was_loaded_in_between() -> None:
    """Loading replaces the tensors of an optimizer's state."""
    ends = []
    for on_tape in (False, True):
        learner = build("csf", on_tape)
        learn(learner, range(1))
        kept = copy.deepcopy(learner.agent.full_state())
        learn(learner, range(1, 2))
        learner.agent.load_full_state(kept)
        learn(learner, range(2, 4))
        ends.append(state(learner))
    assert different(*ends) == []


def test_the_tape_sees_a_number_that_is_frozen() -> None:
    """Without draws on the device, the size of the buffer at the time of the recording would stay the bound."""
    plain, taped = build("csf", False), build("csf", True)
    assert learn(taped, range(1)) == learn(plain, range(1))
    assert learn(taped, range(1, 2)) != learn(plain, range(1, 2))


@pytest.mark.usefixtures("device_draws")
@every_case
def test_a_resumed_run_replays_the_same_steps(case: str) -> None:
    whole, first, second = (build(case, True) for _ in range(3))
    learn(whole, range(4))
    learn(first, range(2))
    kept = state(first)
    second.agent.load_full_state(kept["agent"])
    for name, part in second.parts().items():
        part.load_full_state(kept[name])
    RNG[second] = kept["rng"]
    learn(second, range(2, 4))
    assert different(state(second), state(whole)) == []


@pytest.mark.usefixtures("device_draws")
@every_case
def test_captured_acting_is_acting(case: str) -> None:
    learner = build(case, True)
    agent = learner.agent
    for epoch, mode in enumerate((False, True, False)):
        obs, skill = observe(agent.spec, 4), agent.objective.sample_skills(4)
        torch.manual_seed(epoch)
        with torch.no_grad():
            want, after = agent.backbone.act(agent.encode(obs), skill, mode, agent.objective), torch.get_rng_state()
        torch.manual_seed(epoch)
        found = learner.act(obs, skill, mode)
        assert torch.equal(found, want)
        assert torch.equal(torch.get_rng_state(), after)
        kept = found.clone()
        learner.act(map_obs(torch.zeros_like, obs), skill, mode)
        assert torch.equal(found, kept), "the next call writes into what the last one returned"
        learn(learner, range(epoch, epoch + 1))  # the policy changes where it is


class Counted:
    """Records on a tape, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, function: Any) -> Any:
        self.count += 1
        return record(function)


def test_an_evaluation_replays_acting_with_the_same_results() -> None:
    """Six skills in four worlds, whose actions are modes, and five goals, whose actions are samples."""
    counted, found = Counted(), []
    for on_tape in (False, True):
        agent = make_planar("csf")
        if on_tape:
            agent.capture(counted)
        twice = [each.run(agent, sampler()) for _ in range(2) for each in evaluators()]
        found.append([each.metrics | {name: image.tobytes() for name, image in each.images.items()} for each in twice])
    assert found[0] == found[1]
    assert counted.count == 2


def test_skills_as_actions_replay_acting_with_the_same_results() -> None:
    counted, found = Counted(), []
    for on_tape in (False, True):
        agent = child("sphere")
        if on_tape:
            agent.capture(counted)
        env = SkillVectorEnv(make_vec("point_two_goals", 3), agent, 5)  # type: ignore[arg-type]
        found.append([env.reset(seed=0)[0], *(env.step(choose(env, seed))[0] for seed in range(4))])
    np.testing.assert_array_equal(found[0], found[1])
    assert counted.count == 1


def test_graphs_are_used_on_cuda_unless_they_are_switched_off() -> None:
    """Nothing is recorded yet, so that the test needs no such device."""
    for device, words, used in (("cuda", (), True), ("cuda", ("graphs=false",), False), ("cpu", (), False)):
        learner, agent = build("csf", False), make("metra")
        entry.capture(configure(*words), torch.device(device), learner, [learner.agent, agent])
        assert isinstance(learner.make_steps, CapturedSteps) == used
        assert [isinstance(each._captured, CapturedPolicy) for each in (learner.agent, agent)] == [used, used]


def test_recording_leaves_no_trace() -> None:
    agent = make("cic")
    minibatch = replay.ReplayBuffer(100, SPEC, agent.objective.cfg.skill_dim, "cpu")
    minibatch.add(collected(agent, 0))
    before, rng = agent.full_state(), torch.get_rng_state()
    before = {"modules": {name: value.clone() for name, value in before["modules"].items()}}
    with unchanged(agent):
        agent.update(minibatch.sample(16))
    assert different({"modules": agent.full_state()["modules"]}, before) == []
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(not value.any() for minimizer in agent.minimizers().values() for value in minimizer.state())
    groups = [group for minimizer in agent.minimizers().values() for group in minimizer.adam.param_groups]
    assert not any(group["capturable"] for group in groups)


def test_an_optimizer_may_be_recorded_inside_alone() -> None:
    """PyTorch refuses to record a step of an Adam whose flag is not set."""
    agent = make("csf")
    seen: list[bool] = []

    def function() -> Tensor:
        groups = [group for minimizer in agent.minimizers().values() for group in minimizer.adam.param_groups]
        seen.extend(group["capturable"] for group in groups)
        return torch.zeros(())

    Captured(function, agent, record)()
    assert seen
    assert all(seen)


def test_steps_are_spread_evenly_over_replays() -> None:
    assert [per_replay(count) for count in (1, 3, 16, 50, 53, 100, 64)] == [1, 3, 16, 10, 1, 10, 16]
    assert all(per_replay(count) <= LONGEST and count % per_replay(count) == 0 for count in range(1, 200))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_rows_drawn_on_the_device_are_uniform(size: int) -> None:
    torch.manual_seed(0)
    found = replay.rows_below(torch.tensor(size), 200_000)
    assert found.dtype == torch.int64
    count = found.bincount(minlength=size).double()
    assert len(count) == size
    expected = 200_000 / size
    assert (count - expected).abs().max() <= 5 * expected**0.5
    assert not torch.equal(found, replay.rows_below(torch.tensor(size), 200_000)) or size == 1
