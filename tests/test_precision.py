"""Products in bfloat16: what is rounded, what is not, and that float32 stays what it is."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import golden_map
import numpy as np
import pytest
import test_agents
import test_golden
import torch
from conftest import NAMES, SPEC, batch, configure
from runs import TINY, different

from csf.agents import Agent
from csf.config.compose import check
from csf.core import precision
from csf.core.precision import Precision
from csf.run import Run

WIDE = ("agent.hidden=[256,256]", "agent.backbone.hidden=[256,256]")


def wide(name: str, mode: Precision) -> Agent:
    """An agent with layers wide enough for bfloat16, the same at every call."""
    torch.manual_seed(0)
    cfg = configure(f"agent={name}", *WIDE)
    agent = Agent(cfg.agent, cfg.backbone, SPEC)
    agent.use_precision(mode)
    return agent


def copies(agent: Agent) -> dict[str, torch.Tensor]:
    found = {name: getattr(param, "working_copy", None) for name, param in agent.named_parameters()}
    return {name: copy for name, copy in found.items() if copy is not None}


def updated(agent: Agent, updates: int = 3) -> list[dict[str, float]]:
    torch.manual_seed(1)
    rows = batch(agent, 64)
    return [{name: value.item() for name, value in agent.update(rows).items()} for _ in range(updates)]


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_float32_up_to_rounding(name: str) -> None:
    exact, rounded = updated(wide(name, "float32")), updated(wide(name, "bf16_all"))
    for one, other in zip(exact, rounded, strict=True):
        for key in one:
            if key.startswith("loss/"):
                assert other[key] == pytest.approx(one[key], rel=0.05, abs=0.05), key


@pytest.mark.parametrize("name", NAMES)
def test_copies_follow_their_parameters(name: str) -> None:
    agent = wide(name, "bf16_all")
    before = {key: copy.clone() for key, copy in copies(agent).items()}
    updated(agent)
    assert any("critic" in key for key in before)
    assert any("target" in key for key in before)
    for key, copy in copies(agent).items():
        assert copy.dtype == torch.bfloat16
        assert torch.equal(copy, agent.get_parameter(key).bfloat16()), key
    moved = [key for key, copy in copies(agent).items() if not torch.equal(copy, before[key])]
    assert moved, "nothing moved far enough to be seen in bfloat16"


def test_float32_has_no_copies() -> None:
    assert not copies(wide("csf", "float32"))


def test_phi_is_left_in_float32_unless_it_is_asked_for() -> None:
    assert not any(key.startswith("objective") for key in copies(wide("csf", "bf16")))
    assert any(key.startswith("objective.phi") for key in copies(wide("csf", "bf16_all")))
    assert any(key.startswith("objective.discriminator") for key in copies(wide("diayn", "bf16")))


def test_inputs_and_heads_stay_in_float32() -> None:
    agent = wide("csf", "bf16_all")
    shapes = {tuple(copy.shape) for copy in copies(agent).values()}
    assert shapes == {(256, 256), (2, 256, 256)}


def test_the_contrastive_loss_is_not_rounded() -> None:
    """A log-sum-exp in bfloat16 would give 27.75 or 27.62 for 27.726."""
    agent = wide("csf", "bf16_all")
    rows = batch(agent, 256)
    rows = rows._replace(next_obs=rows.obs)  # steps of length 0
    loss, _ = agent.objective.loss(rows)
    assert loss.item() == pytest.approx(5 * math.log(256), abs=1e-4)


def test_a_gradient_points_where_that_of_float32_does() -> None:
    exact, rounded = wide("csf", "float32"), wide("csf", "bf16_all")
    updated(exact, 1)
    updated(rounded, 1)
    for name, param in exact.named_parameters():
        other = rounded.get_parameter(name)
        if param.grad is not None and other.grad is not None and param.grad.norm() > 1e-6:
            assert other.grad.dtype == torch.float32
            assert torch.cosine_similarity(param.grad.flatten(), other.grad.flatten(), dim=0) > 0.99, name


# ---- golden, contract and resuming in every mode

HALF: tuple[Precision, ...] = ("bf16", "bf16_all")
MODES: tuple[Precision, ...] = ("float32", *HALF)
UNIT = 2.0**-8  # largest relative error of rounding to bfloat16, whose significand has 8 bits

every_mode = pytest.mark.parametrize("mode", MODES)
every_half = pytest.mark.parametrize("mode", HALF)


def golden(name: str, mode: Precision, monkeypatch: pytest.MonkeyPatch) -> tuple[Agent, golden_map.Arrays, Any]:
    """A golden case of 32 units per layer, whose hidden products run in bfloat16."""
    monkeypatch.setattr(precision, "WIDE", 32)

    def plant(agent: Agent) -> None:
        agent.use_precision(mode)
        assert bool(copies(agent)), "every case has a wide layer"

    return test_golden.run(name, plant)


@every_half
@pytest.mark.parametrize("name", test_golden.CASES)
def test_an_update_is_the_released_programs_up_to_rounding(
    name: str, mode: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses agree up to the rounding of their terms, which are of the order of 1.

    Gradients are differences of larger terms, which amplifies rounding: up to 60 times `UNIT`, a quarter of the norm.
    """
    agent, arrays, rows = golden(name, mode, monkeypatch)
    found, wanted = golden_map.gradients(agent), test_golden.group(arrays, "grad/")
    assert set(found) == set(wanted)
    whole = math.sqrt(sum(float(np.square(want).sum()) for want in wanted.values()))
    for key, want in wanted.items():
        size = max(float(np.linalg.norm(want)), 1e-3 * whole)
        assert np.linalg.norm(found[key] - want) <= 80 * UNIT * size, key
    logged = {key: float(value.squeeze()) for key, value in test_golden.group(arrays, "log/it0/").items()}
    losses = {ours: factor * logged[key] for key, (ours, factor) in test_golden.LOGGED.items() if key in logged}
    assert any(key.startswith("loss/") for key in losses)
    for key, value in losses.items():
        if key.startswith("loss/"):
            assert rows[0][key] == pytest.approx(value, rel=UNIT, abs=UNIT / 4), key


def test_a_wrong_product_exceeds_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that no longer follow their weights."""
    monkeypatch.setattr(precision, "WIDE", 32)

    def plant(agent: Agent) -> None:
        agent.use_precision("bf16_all")
        for copy in copies(agent).values():
            copy.data.copy_(copy.data.roll(1, -1))

    agent, arrays, _ = test_golden.run("csf", plant)
    found, wanted = golden_map.gradients(agent), test_golden.group(arrays, "grad/")
    far = [key for key, want in wanted.items() if np.linalg.norm(found[key] - want) > 80 * UNIT * np.linalg.norm(want)]
    assert far


@every_mode
@pytest.mark.parametrize("name", NAMES)
def test_an_update_keeps_the_contract(name: str, mode: Precision) -> None:
    """It reads no value on the host, leaves the batch alone and moves exactly the expected parameters."""
    agent = wide(name, mode)
    rows = batch(agent)
    before = {key: value.clone() for key, value in agent.named_parameters()}
    kept = [tensor.clone() for tensor in rows]
    agent.update(rows)
    still = {key for key, value in agent.named_parameters() if torch.equal(value, before[key])}
    idle = still | test_agents.gradients_of_rounding(agent)
    assert idle == test_agents.IDLE.get(name, set()) | test_agents.without_a_rate(agent)
    with test_agents.Watch(test_agents.never_waits):
        agent.update(rows)
    assert all(torch.equal(tensor, value) for tensor, value in zip(rows, kept, strict=True))


@every_half
def test_losses_trace_as_one_graph(mode: Precision) -> None:
    agent = wide("csf", mode)
    for loss, arguments in test_agents.losses(agent, batch(agent)).values():
        torch._dynamo.reset()
        torch.compile(loss, fullgraph=True, backend="eager")(*arguments)


@every_mode
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_agent_is_the_same_bit_for_bit(name: str, mode: Precision) -> None:
    agent = wide(name, mode)
    rows = batch(agent)
    agent.update(rows)
    file = io.BytesIO()
    torch.save({"agent": agent.full_state(), "rng": torch.get_rng_state()}, file)
    agent.update(rows)

    other = wide(name, mode)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_full_state(state["agent"])
    torch.set_rng_state(state["rng"])
    other.update(rows)
    assert not different(agent.full_state(), other.full_state())
    assert not different(copies(agent), copies(other))


@every_half
def test_a_resumed_run_is_the_same_bit_for_bit(mode: Precision, tmp_path: Path) -> None:
    words = [*TINY, *WIDE, f"precision={mode}", "task.save_every=2", f"exp_dir={tmp_path}"]

    def train(name: str, epochs: int) -> dict[str, Any]:
        with Run(check([*words, f"run_name={name}", f"task.epochs={epochs}"]), torch.device("cpu")) as run:
            run.trainer.evaluators = []
            assert run.train() == 0
            return run.agent.full_state()

    whole = train("whole", 6)
    train("parts", 4)
    assert not different(whole, train("parts", 6))


@pytest.mark.parametrize("found", [True, False])
def test_a_cpu_without_instructions_is_named(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: found)
    assert precision.has_instructions(torch.device("cpu")) is found
    assert precision.has_instructions(torch.device("cuda"))
