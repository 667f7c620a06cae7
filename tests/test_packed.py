"""Packed weights: policies use them, their results are those of plain weights, and they follow every change."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from conftest import NAMES, SPEC, batch, configure
from torch import Tensor

from csf.agents import Agent
from csf.core import packed, precision, products
from csf.core.precision import Precision
from csf.nets.mlp import linear

pytestmark = pytest.mark.skipif(not packed._supported(), reason="PyTorch packs no weights on this CPU")

WIDTH = 512  # with at least 4 rows, float32 products are large enough to be packed
WIDE = (f"agent.hidden=[{WIDTH},{WIDTH}]", f"agent.backbone.hidden=[{WIDTH},{WIDTH}]")
MODES: tuple[Precision, ...] = ("float32", "bf16")


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let float32 products use oneDNN on CPUs of all vendors."""
    monkeypatch.setattr(products, "FASTER", True)


def wide(name: str, mode: Precision, *, state: dict[str, Tensor] | None = None) -> Agent:
    torch.manual_seed(0)
    cfg = configure(f"agent={name}", *WIDE)
    agent = Agent(cfg.agent, cfg.backbone, SPEC)
    if state is not None:
        agent.load_state_dict(state)
    agent.use_precision(mode)
    return agent


def action(agent: Agent, rows: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(rows, *SPEC.obs_shape, generator=generator)
    return agent.act(obs, torch.randn(rows, agent.objective.cfg.skill_dim, generator=generator), True)


def packed_weights(agent: Agent) -> list[str]:
    found = {name: precision.computed_with(param) for name, param in agent.named_parameters()}
    return [name for name, factor in found.items() if hasattr(factor, "packed")]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_policys_wide_layers_are_packed(mode: Precision) -> None:
    agent = wide("csf", mode)
    agent.update(batch(agent, 16))
    assert not packed_weights(agent)
    action(agent)
    assert packed_weights(agent) == ["backbone.actor.trunk.2.weight"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [2, 8, 50])
def test_products_are_those_of_a_plain_weight(rows: int, dtype: torch.dtype) -> None:
    x, weight = torch.randn(rows, WIDTH).to(dtype), torch.randn(WIDTH, WIDTH).to(dtype)
    plain = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    assert torch.equal(packed.multiply(x, weight), plain)
    exact = x.double() @ weight.double().T
    assert torch.allclose(plain.double(), exact, rtol=1e-4 if dtype == torch.float32 else 2e-2, atol=1e-2 * WIDTH**0.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_actions_follow_an_update(name: str, mode: Precision) -> None:
    agent = wide(name, mode)
    before = action(agent)
    agent.update(batch(agent, 16))
    after = action(agent)
    assert torch.equal(after, action(wide(name, mode, state=agent.state_dict())))
    assert not torch.equal(before, after)


def _copied(agent: Agent, other: Agent) -> None:
    for to, of in zip(agent.parameters(), other.parameters(), strict=True):
        to.detach().copy_(of.detach())
    precision.refresh(agent.parameters())


def _loaded(agent: Agent, other: Agent) -> None:
    agent.load_full_state(other.full_state())


def _replaced(agent: Agent, other: Agent) -> None:
    for to, of in zip(agent.parameters(), other.parameters(), strict=True):
        to.data = of.detach().clone()
    precision.refresh(agent.parameters())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", [_copied, _loaded, _replaced])
def test_actions_follow_parameters_that_are_set(change: Callable[[Agent, Agent], None], mode: Precision) -> None:
    agent, other = wide("csf", mode), wide("csf", mode)
    other.update(batch(other, 16))
    before, wanted = action(agent), action(other)
    change(agent, other)
    assert torch.equal(action(agent), wanted)
    assert not torch.equal(before, wanted)


def test_an_agent_that_acted_can_be_copied_and_pickled() -> None:
    agent = wide("csf", "float32")
    wanted = action(agent)
    for other in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert torch.equal(action(other), wanted)


def test_a_gradient_inside_a_policy_is_that_of_the_plain_weight() -> None:
    layer, x = linear(WIDTH, WIDTH), torch.randn(8, WIDTH, requires_grad=True)
    with packed.acting(), torch.enable_grad():
        layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.weight.sum(0).expand_as(x), atol=1e-5)


def test_inference_tensors_are_not_packed() -> None:
    with torch.inference_mode():
        layer = linear(WIDTH, WIDTH)
        with packed.acting():
            layer(torch.ones(8, WIDTH))
            layer.weight.zero_()
            assert not layer(torch.ones(8, WIDTH)).any()


def test_the_context_ends_after_an_error() -> None:
    x, weight = torch.zeros(8, WIDTH), torch.zeros(WIDTH, WIDTH)
    with suppress(KeyError), packed.acting():
        assert packed.packs(x, weight)
        raise KeyError
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert not packed.packs(x, weight)
