"""What holds on a CUDA device alone: graphs do what steps one by one do, and runs go on from one device to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._inductor.config
from captures import CASES, RNG, build, collected, learn, state
from conftest import NAMES, configure, make, observe
from runs import TINY, different, flat
from test_controllers import WORDS
from test_evaluation import evaluators
from test_evaluation import make as make_planar
from test_evaluation import worlds as planar
from test_hierarchy import child, choose
from torch import Tensor

from csf.config.compose import check
from csf.core.compile import CapturedPolicy
from csf.hierarchy import SkillVectorEnv
from csf.io import checkpoint
from csf.learners import captured
from csf.learners.updates import make_steps
from csf.pretrained import Skills
from csf.run import Run
from csf.sampler import RolloutSampler
from csf.types import map_obs
from csf.worlds import describe
from envs import make_vec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device here"),
]
every_case = pytest.mark.parametrize("case", CASES)
CUDA = "cuda"


@pytest.fixture(autouse=True)
def _short_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch takes two replays."""
    monkeypatch.setattr(captured, "LONGEST", 3)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """What waits for the device is an error."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


def assert_close(found: list[dict[str, float]], want: list[dict[str, float]]) -> None:
    """Metrics of as many epochs agree but for rounding."""
    for one, other in zip(found, want, strict=True):
        assert one.keys() == other.keys()
        assert one == pytest.approx(other, rel=2e-3, abs=2e-4)


# ---- graphs


@every_case
def test_captured_steps_agree_with_those_made_one_by_one(case: str) -> None:
    plain, graphs = build(case, False, CUDA), build(case, True, CUDA)
    assert_close(learn(graphs, range(4)), learn(plain, range(4)))
    assert different(RNG[graphs], RNG[plain]) == [], "as many random numbers were drawn"


@every_case
def test_every_replay_draws_its_own_rows(case: str) -> None:
    learner = build(case, True, CUDA)
    learn(learner, range(1))
    source = learner.rollouts if hasattr(learner, "rollouts") else learner.replay  # type: ignore[attr-defined]
    drawn = learner.make_steps(learner.update, source, 6, 16).rows
    assert len({tuple(rows) for rows in drawn.tolist()}) == 6
    assert 0 <= drawn.min() <= drawn.max() < len(source)


@every_case
def test_nothing_is_read_on_the_host_until_the_epoch_ends(case: str, request: pytest.FixtureRequest) -> None:
    learner = build(case, True, CUDA)
    learn(learner, range(1))
    source = learner.rollouts if hasattr(learner, "rollouts") else learner.replay  # type: ignore[attr-defined]
    request.getfixturevalue("no_waiting")
    learner.make_steps(learner.update, source, 6, 16)


@every_case
def test_a_resumed_run_replays_the_same_steps_bit_for_bit(case: str) -> None:
    whole, first, second = (build(case, True, CUDA) for _ in range(3))
    learn(whole, range(4))
    learn(first, range(2))
    move(first, second)
    RNG[second] = RNG[first]
    learn(second, range(2, 4))
    assert different(state(second), state(whole)) == []


def move(source: Any, target: Any) -> None:
    """The whole state, as a checkpoint has it."""
    kept = state(source)
    on_host = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in flat(kept).items()}
    target.agent.load_full_state(kept["agent"])
    for name, part in target.parts().items():
        part.load_full_state(kept[name])
    found = {key: value.cpu() if isinstance(value, Tensor) else value for key, value in flat(state(target)).items()}
    assert different({**found, "/rng/0": 0, "/rng/1": 0}, {**on_host, "/rng/0": 0, "/rng/1": 0}) == []


@every_case
@pytest.mark.parametrize("way", ["cpu to cuda", "cuda to cpu"])
def test_a_state_goes_from_one_device_to_the_other(case: str, way: str) -> None:
    here, there = way.split(" to ")
    source, target = build(case, here == CUDA, here), build(case, there == CUDA, there)
    learn(source, range(2))
    move(source, target)
    (metrics,) = learn(target, range(2, 3))
    assert all(torch.isfinite(torch.tensor(value)) for value in metrics.values())


@every_case
@pytest.mark.parametrize("mode", [False, True])
def test_captured_acting_agrees_with_acting(case: str, mode: bool) -> None:
    learner = build(case, True, CUDA)
    agent = learner.agent
    for seed in range(3):
        obs = map_obs(lambda rows: rows.to(CUDA), observe(agent.spec, 4))
        skill = agent.objective.sample_skills(4)
        torch.manual_seed(seed)
        with torch.no_grad():
            want, after = (
                agent.backbone.act(agent.encode(obs), skill, mode, agent.objective),
                torch.cuda.get_rng_state(),
            )
        torch.manual_seed(seed)
        found = learner.act(obs, skill, mode)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
        assert torch.equal(torch.cuda.get_rng_state(), after)
        learn(learner, range(seed, seed + 1))


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_that_of_the_cpu(name: str) -> None:
    """With the same numbers drawn, which a method that draws some takes from the CPU here."""
    values = {}
    for device in ("cpu", CUDA):
        torch.manual_seed(0)
        agent = make(name)
        fresh = agent.objective.sample_skills(4096)
        agent.to(device)
        agent.objective.sample_skills = lambda n, fresh=fresh, to=device: fresh[:n].to(to)  # type: ignore[method-assign,misc]
        episodes = collected(agent, 0)
        batch = type(transitions := episodes.transitions())(*(rows.to(device) for rows in transitions))
        if agent.objective.minimizers:
            values[device] = agent.objective.loss(batch)[0].item()
        else:
            values[device] = agent.objective.reward(batch).sum().item()
    assert values[CUDA] == pytest.approx(values["cpu"], rel=1e-3, abs=1e-4)


# ---- runs


def run(folder: Path, device: str, epochs: int, *words: str) -> dict[str, Any]:
    """Train up to an epoch by what the entry point calls; returns its checkpoint."""
    settings = [*TINY, f"exp_dir={folder.parent}", f"run_name={folder.name}", f"device={device}"]
    cfg = configure(*settings, f"task.epochs={epochs}", "task.save_every=3", *words)
    with Run(cfg, torch.device(device)) as whole:
        assert whole.train() == 0
    return checkpoint.load(folder / "checkpoints" / checkpoint.FULL.format(epochs))


def epochs_of(folder: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_goes_on_across_devices(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for epochs, device in ((3, "cpu"), (6, CUDA), (9, "cpu"), (12, CUDA)):
        found = run(folder, device, epochs)
        assert ("cuda" in found["rng"]) == (device == CUDA)
    assert epochs_of(folder) == list(range(13))


def test_a_run_on_cuda_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    """With a policy that collects, so that acting and evaluating are part of it."""
    want = run(tmp_path / "whole", CUDA, 6)
    run(tmp_path / "parts", CUDA, 3)
    found = run(tmp_path / "parts", CUDA, 6)
    for each in (want, found):
        del each["config"], each["parts"]["logger"]
    assert different(found, want) == []


def test_device_cuda_means_graphs_unless_they_are_switched_off(tmp_path: Path) -> None:
    cfg = configure(*TINY, f"exp_dir={tmp_path}", "run_name=run", "device=cuda")
    with Run(cfg, torch.device(CUDA)) as whole:
        assert isinstance(whole.trainer.learner.make_steps, captured.CapturedSteps)
        assert isinstance(whole.agent._captured, CapturedPolicy)
    with Run(configure(*TINY, f"exp_dir={tmp_path}", "run_name=off", "graphs=false"), torch.device(CUDA)) as whole:
        assert whole.trainer.learner.make_steps is make_steps
        assert whole.agent._captured is None


def test_an_evaluation_with_graphs_agrees_with_one_without() -> None:
    found = []
    for on_graph in (False, True):
        agent = make_planar("csf").to(CUDA)
        if on_graph:
            agent.capture()
        before = torch.cuda.get_rng_state()
        runner = RolloutSampler(planar(), describe(planar(), "point"), 0, CUDA)
        found.append([each.run(agent, runner).metrics for _ in range(2) for each in evaluators()])
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert_close(*found)


def test_skills_as_actions_with_graphs_agree_with_those_without() -> None:
    found = []
    for on_graph in (False, True):
        agent = child("sphere").to(CUDA)
        if on_graph:
            agent.capture()
        env = SkillVectorEnv(make_vec("point_two_goals", 3), agent, 5)  # type: ignore[arg-type]
        found.append([env.reset(seed=0)[0], *(env.step(choose(env, seed))[0] for seed in range(4))])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("graphs", ["true", "false"])
def test_a_run_that_overlaps_is_resumed_bit_for_bit(graphs: str, tmp_path: Path) -> None:
    """The policy that collects is on the CPU, and the learner records graphs while it does."""
    words = ("task.overlap=true", f"graphs={graphs}")
    want = run(tmp_path / "whole", CUDA, 6, *words)
    run(tmp_path / "parts", CUDA, 3, *words)
    found = run(tmp_path / "parts", CUDA, 6, *words)
    for each in (want, found):
        del each["config"], each["parts"]["logger"]
    assert different(found, want) == []


def test_skills_as_actions_are_executed_while_the_learner_learns(tmp_path: Path) -> None:
    """In the thread that collects, on a stream of its own."""
    settings = [word for word in WORDS if not word.startswith(("device=", "run_name="))]
    settings += [f"exp_dir={tmp_path}", f"device={CUDA}", "skills=csf", "task.overlap=true"]
    parts = []
    for name in ("one", "other"):
        skills = Skills(child("sphere"), {"epoch": 0}, "skills.safetensors", True)
        with Run(check([*settings, f"run_name={name}"]), torch.device(CUDA), skills) as whole:
            assert whole.train() == 0
            parts.append({key: part.full_state() for key, part in whole.parts.items() if key != "logger"})
    assert different(*parts) == []


def test_losses_compiled_agree_with_eager_ones() -> None:
    """The slowest of these tests, so the last one, and of one method alone."""
    plain, compiled = build("csf", False, CUDA), build("csf", False, CUDA)
    agent: Any = compiled.agent
    torch._dynamo.reset()
    agent.objective.loss = torch.compile(agent.objective.loss, fullgraph=True)
    agent.backbone.critic_loss = torch.compile(agent.backbone.critic_loss, fullgraph=True)
    agent.backbone.actor_loss = torch.compile(agent.backbone.actor_loss, fullgraph=True)
    with torch._inductor.config.patch(fallback_random=True):  # else compiled code draws other numbers
        assert_close(learn(compiled, range(2)), learn(plain, range(2)))
