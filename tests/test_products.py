"""Float32 products by oneDNN equal PyTorch's own up to rounding, in values and gradients, and are used where faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import test_agents
import test_golden
import torch
from conftest import NAMES, batch, make
from torch import Tensor

from csf.core import products
from csf.core.precision import ensemble_linear, linear
from csf.core.products import multiply

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")

ROWS, INPUTS, OUTPUTS, HEADS = 6, 5, 3, 2


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every float32 product of a layer is computed by oneDNN, on any CPU."""
    monkeypatch.setattr(products, "LEAST", 0)
    monkeypatch.setattr(products, "FASTER", True)


@pytest.fixture
def onednn(everywhere: None, monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Likewise; returns a list to which the shape of every result is added."""
    shapes: list[torch.Size] = []
    call = products._Product.forward

    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found = call(ctx, x, weight, bias)
        shapes.append(found.shape)
        return found

    monkeypatch.setattr(products._Product, "forward", staticmethod(forward))
    return shapes


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def gradients(result: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(result, leaves, torch.randn_like(result))


def assert_same(found: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lead", [(ROWS,), (2, ROWS), ()])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_and_its_gradients(lead: tuple[int, ...], transposed: bool, with_bias: bool) -> None:
    torch.manual_seed(0)
    x, bias = leaf(*lead, INPUTS), leaf(OUTPUTS) if with_bias else None
    weight = leaf(INPUTS, OUTPUTS) if transposed else leaf(OUTPUTS, INPUTS)
    factor = weight.t() if transposed else weight
    leaves = [x, weight, *([] if bias is None else [bias])]
    found, want = multiply(x, factor, bias), torch.nn.functional.linear(x, factor, bias)
    assert_same((found, *gradients(found, *leaves)), (want, *gradients(want, *leaves)))


def test_a_gradient_can_be_differentiated() -> None:
    torch.manual_seed(0)
    x, weight = leaf(ROWS, INPUTS), leaf(OUTPUTS, INPUTS)

    def penalty(result: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad(result.square().sum(), x, create_graph=True)
        return gradients(slope.square().sum(), x, weight)

    assert_same(penalty(multiply(x, weight)), penalty(torch.nn.functional.linear(x, weight)))


def test_a_gradient_has_the_strides_of_its_weight() -> None:
    """Otherwise the optimizer copies it."""
    for weight in (leaf(OUTPUTS, INPUTS), leaf(INPUTS, OUTPUTS).t()):
        (grad,) = gradients(multiply(leaf(ROWS, INPUTS), weight), weight)
        assert grad.stride() == weight.stride()


def test_layers_use_it(onednn: list[torch.Size]) -> None:
    torch.manual_seed(0)
    x, weight, bias = leaf(ROWS, INPUTS), leaf(OUTPUTS, INPUTS), leaf(OUTPUTS)
    linear(x, weight, bias)
    assert onednn == [(ROWS, OUTPUTS)]
    rows, weights, biases = leaf(HEADS, ROWS, INPUTS), leaf(HEADS, INPUTS, OUTPUTS), leaf(HEADS, 1, OUTPUTS)
    found, want = ensemble_linear(rows, weights, biases), torch.baddbmm(biases, rows, weights)
    assert onednn[1:] == [(ROWS, OUTPUTS)] * HEADS
    leaves = (rows, weights, biases)
    assert_same((found, *gradients(found, *leaves)), (want, *gradients(want, *leaves)))


@pytest.mark.parametrize("x", [torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, 4, device="meta")])
@pytest.mark.usefixtures("everywhere")
def test_only_float32_on_the_cpu_is_computed_by_it(x: Tensor) -> None:
    assert products.use_onednn(torch.zeros(4, 4), torch.zeros(4, 4))
    assert not products.use_onednn(x, x)


def test_small_products_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", True)
    wide = torch.zeros(256, 256)
    assert products.use_onednn(wide, wide)
    assert not products.use_onednn(wide[:1], wide)


CPUS = {
    ("AuthenticAMD", "AVX512"): True,
    ("AuthenticAMD", "AVX2"): False,
    ("GenuineIntel", "AVX512"): False,
}


@pytest.mark.parametrize("cpu", CPUS)
def test_it_is_used_on_cpus_on_which_it_is_faster(
    cpu: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, instructions = cpu
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nvendor_id : {vendor}\n")
    monkeypatch.setattr(products, "CPU_INFO", info)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products.onednn_is_faster() is CPUS[cpu]
    info.unlink()
    assert not products.onednn_is_faster()


def test_the_policys_loss_computes_no_gradients_of_the_critics(onednn: list[torch.Size]) -> None:
    agent = make("csf")
    minibatch = batch(agent)
    agent.update(minibatch)
    critic: Any = agent.backbone.critic
    shapes = {tuple(factor.shape) for weight in critic.weights for factor in (weight[0], weight[0].t())}
    seen: list[int] = []
    step = agent.backbone.minimizers["actor"].step

    def counted(loss: Tensor) -> Tensor:
        before = len(onednn)
        found = step(loss)
        seen.append(sum(tuple(shape) in shapes for shape in onednn[before:]))
        return found

    agent.backbone.minimizers["actor"].step = counted  # type: ignore[method-assign]
    agent.update(minibatch)
    assert all(param.requires_grad for param in critic.parameters())
    assert seen == [1], "the policy's own layer of 16 x 16, and none of the critics'"


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", test_golden.CASES)
def test_an_update_is_the_released_programs(name: str) -> None:
    test_golden.assert_agrees(name, test_golden.run(name))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", NAMES)
def test_an_update_keeps_the_contract(name: str) -> None:
    test_agents.test_an_update_reads_no_value_on_the_host(name)
    test_agents.test_an_update_passes_the_tripwire(name)
    test_agents.test_a_resumed_agent_goes_on_bit_for_bit(name)


@pytest.mark.usefixtures("everywhere")
def test_compiled_losses_keep_pytorchs_own_products() -> None:
    """PyTorch's compiler rejects oneDNN's operator for weights that change."""
    x, weight = leaf(ROWS, INPUTS), leaf(OUTPUTS, INPUTS)
    targets: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        targets.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    torch.compile(lambda: linear(x, weight, None), fullgraph=True, backend=backend)()
    assert targets
    assert not any("_linear_pointwise" in target for target in targets)
