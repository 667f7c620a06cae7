"""Networks against closed forms, and against the numbers of the paper's released program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import golden_map
import numpy as np
import pytest
import torch
from golden_map import Arrays
from torch import Tensor, nn

from csf.nets.actor import GaussianActor, TanhNormal
from csf.nets.mlp import EnsembleMLP, Linear, SpectralLinear, mlp

# ---- the tanh-Gaussian law


def law(mean: float = 0.3, log_std: float = -0.4, rows: int = 1) -> TanhNormal:
    return TanhNormal(
        torch.full((rows, 1), mean, dtype=torch.double), torch.full((rows, 1), log_std, dtype=torch.double)
    )


def integrate(function: Callable[[Tensor], Tensor], low: float, high: float, cells: int = 200_000) -> float:
    """Midpoint rule for functions of one action, [N, 1] -> [N]."""
    edges = torch.linspace(low, high, cells + 1, dtype=torch.double)
    middles = (edges[:-1] + edges[1:]) / 2
    return function(middles[:, None]).sum().item() * (high - low) / cells


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.3, -0.4), (-1.0, -1.5)])
def test_the_density_integrates_to_one(mean: float, log_std: float) -> None:
    assert integrate(lambda a: law(mean, log_std).log_prob(a).exp(), -1, 1) == pytest.approx(1, abs=1e-4)


def test_the_density_of_an_interval_is_the_normals_mass_of_it() -> None:
    found = integrate(lambda a: law(0.3, -0.4).log_prob(a).exp(), -0.2, 0.7)
    std = math.exp(-0.4)
    low, high = ((math.atanh(a) - 0.3) / (std * math.sqrt(2)) for a in (-0.2, 0.7))
    assert found == pytest.approx((math.erf(high) - math.erf(low)) / 2, abs=1e-5)


def test_dimensions_are_independent() -> None:
    mean, log_std, action = torch.randn(3, 5, 4, dtype=torch.double).unbind()
    joint = TanhNormal(mean, log_std).log_prob(action.tanh())
    single = [TanhNormal(mean[:, i, None], log_std[:, i, None]).log_prob(action[:, i, None].tanh()) for i in range(4)]
    torch.testing.assert_close(joint, torch.stack(single).sum(0))


def test_a_sample_comes_with_its_own_density() -> None:
    torch.manual_seed(0)
    at = law(rows=1000)
    action, log_prob = at.sample()
    torch.testing.assert_close(log_prob, at.log_prob(action), rtol=0, atol=1e-3)


def test_an_action_alone_is_the_one_that_comes_with_a_density() -> None:
    torch.manual_seed(0)
    action, _ = law(rows=5).sample()
    torch.manual_seed(0)
    assert torch.equal(law(rows=5).draw(), action)


def test_samples_have_the_normals_moments_before_the_tanh() -> None:
    torch.manual_seed(0)
    pre_tanh = law(0.3, -0.4, 100_000).sample()[0].atanh()
    assert pre_tanh.mean().item() == pytest.approx(0.3, abs=0.01)
    assert pre_tanh.std().item() == pytest.approx(math.exp(-0.4), abs=0.01)


def test_entropy_is_that_of_the_normal() -> None:
    mean, log_std = torch.randn(2, 6, 3)
    want = torch.distributions.Normal(mean, log_std.exp()).entropy().sum(-1)
    torch.testing.assert_close(TanhNormal(mean, log_std).entropy(), want)


def test_a_sample_carries_gradients_to_mean_and_deviation() -> None:
    """Checked against the derivative of tanh(mean + std noise) with the noise held."""
    mean, log_std = torch.tensor([[0.2]], requires_grad=True), torch.tensor([[-0.5]], requires_grad=True)
    action, _ = TanhNormal(mean, log_std).sample()
    action.sum().backward()
    slope = 1 - action.detach().square()
    assert mean.grad is not None
    assert log_std.grad is not None
    torch.testing.assert_close(mean.grad, slope)
    torch.testing.assert_close(log_std.grad, slope * (action.detach().atanh() - 0.2), rtol=1e-4, atol=1e-6)


def test_a_saturated_action_has_a_finite_density() -> None:
    assert torch.isfinite(law(rows=2).log_prob(torch.tensor([[1.0], [-1.0]], dtype=torch.double))).all()


def test_the_deviation_stays_between_its_bounds() -> None:
    actor = GaussianActor([3, 8, 2])
    with torch.no_grad():
        actor.heads.bias[2:] = torch.tensor([100.0, -100.0])
    at = actor.distribution(torch.zeros(1, 3))
    torch.testing.assert_close(at.log_std, torch.tensor([[2.0, math.log(1e-6)]]))


# ---- ensembles and initial values


def test_an_ensemble_is_as_many_separate_networks() -> None:
    torch.manual_seed(0)
    heads, sizes = 3, [5, 16, 7, 4]
    ensemble = EnsembleMLP(heads, sizes)
    nn.init.normal_(ensemble.biases[0])
    nn.init.normal_(ensemble.biases[-1])
    x = torch.randn(10, 5)
    for head in range(heads):
        net = mlp(sizes)
        layers = [layer for layer in net if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, ensemble.weights, ensemble.biases, strict=True):
            layer.weight.data, layer.bias.data = weight[head].T, bias[head, 0]
        torch.testing.assert_close(ensemble(x)[head], net(x))


def test_the_heads_of_an_ensemble_start_apart() -> None:
    first, second = EnsembleMLP(2, [5, 16, 4]).weights[0]
    assert not torch.equal(first, second)


def xavier(inputs: int, outputs: int, gain: float = 1.0) -> float:
    """Standard deviation of Xavier's initial weights, uniform or normal."""
    return gain * math.sqrt(2 / (inputs + outputs))


def has_std(weight: Tensor, want: float, uniform: bool) -> None:
    """Weights of a standard deviation, with the kurtosis of a uniform or of a normal law."""
    weight = weight.detach()
    assert weight.std().item() == pytest.approx(want, rel=0.02)
    assert abs(weight.mean().item()) < 0.02 * want
    kurtosis = (weight**4).mean().item() / want**4
    assert kurtosis == pytest.approx(9 / 5 if uniform else 3, rel=0.1)


def test_networks_start_as_xavier_uniform_and_critics_as_xavier_normal() -> None:
    torch.manual_seed(0)
    first, _, second = mlp([300, 400, 500])
    has_std(cast(nn.Linear, first).weight, xavier(300, 400), uniform=True)
    has_std(cast(nn.Linear, second).weight, xavier(400, 500), uniform=True)
    for weight, want in zip(EnsembleMLP(2, [300, 400, 500]).weights, (xavier(300, 400), xavier(400, 500)), strict=True):
        for head in weight:
            has_std(head, want, uniform=False)


def test_a_policy_has_a_tanh_trunk_and_heads_of_a_tenth() -> None:
    torch.manual_seed(0)
    actor = GaussianActor([300, 400, 500, 200])
    assert [type(layer) for layer in actor.trunk] == [Linear, nn.Tanh, Linear, nn.Tanh]
    for layer, want in ((actor.trunk[0], xavier(300, 400)), (actor.trunk[2], xavier(400, 500))):
        has_std(cast(nn.Linear, layer).weight, want, uniform=True)
    for head in actor.heads.weight.chunk(2):
        has_std(head, xavier(500, 200, 0.1), uniform=False)


@pytest.mark.parametrize("net", [mlp([3, 8, 2]), EnsembleMLP(2, [3, 8, 2]), GaussianActor([3, 8, 2])], ids=type)
def test_biases_start_at_zero(net: nn.Module) -> None:
    biases = [value for name, value in net.named_parameters() if "bias" in name]
    assert len(biases) == 2
    assert not any(bias.any() for bias in biases)


def test_the_last_layer_is_linear() -> None:
    assert [type(layer) for layer in mlp([3, 8, 2])] == [Linear, nn.ReLU, Linear]
    assert (EnsembleMLP(1, [3, 8, 50])(torch.randn(50, 3)) < 0).any()


# ---- the released program's numbers


def put(net: nn.Module, arrays: Arrays, prefix: str, output: bool = True) -> None:
    """Parameters of a plain network, under the released program's names."""
    for name, place in golden_map._layers(f"param/{prefix}", net, lambda tensor: tensor.data, output).items():
        place.copy_(torch.from_numpy(arrays[name]))


def close(found: Tensor, want: np.ndarray) -> None:
    torch.testing.assert_close(found.detach(), torch.from_numpy(want), rtol=1e-5, atol=2e-6)


@pytest.fixture(scope="module")
def policy() -> Arrays:
    return golden_map.read("pieces_policy")


def released_actor(policy: Arrays) -> GaussianActor:
    actor = GaussianActor([31, 32, 32, 8])
    prefix = "_module._shared_mean_log_std_network."
    put(actor.trunk, policy, prefix, output=False)
    for kind in ("weight", "bias"):
        for i, half in enumerate(getattr(actor.heads, kind).data.chunk(2)):
            half.copy_(torch.from_numpy(policy[f"param/{prefix}_output_layers.{i}.linear.{kind}"]))
    return actor


def test_the_policys_law_is_the_released_one(policy: Arrays) -> None:
    actor, x = released_actor(policy), torch.from_numpy(policy["input"])
    heads = actor.heads(actor.trunk(x)).chunk(2, -1)
    close(heads[0], policy["raw_mean_head"])
    close(heads[1], policy["raw_log_std_head"])
    law = actor.distribution(x)
    for key in ("normal_mean", "info_normal_mean"):
        close(law.mean, policy[key])
    close(law.log_std, policy["info_log_std"])
    for key in ("normal_std", "info_normal_std"):
        close(law.log_std.exp(), policy[key])
    close((2 * law.log_std).exp(), policy["dist_variance"])
    for key in ("mode_action", "dist_mean", "info_mean"):
        close(law.mode, policy[key])
    close(law.entropy(), policy["entropy"])


@pytest.fixture(scope="module")
def released(policy: Arrays) -> TanhNormal:
    """The law from the recorded heads: densities of saturated actions magnify the last bit of the mean."""
    log_std = torch.from_numpy(policy["raw_log_std_head"]).clamp(math.log(1e-6), 2.0)
    return TanhNormal(torch.from_numpy(policy["normal_mean"]), log_std)


def test_a_samples_action_and_density_are_the_released_ones(
    policy: Arrays, released: TanhNormal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randn_like", lambda _: torch.from_numpy(policy["eps"]))
    action, log_prob = released.sample()
    close(action, policy["action"])
    close(action, np.tanh(policy["pre_tanh"]))
    want = torch.from_numpy(policy["log_prob_with_pre_tanh"])
    # The released program finds the noise again as (u - mean) / std, which loses digits where the deviation is small.
    wide = torch.from_numpy(policy["normal_std"] > 1e-2).all(1)
    assert wide.sum() >= 6
    torch.testing.assert_close(log_prob[wide], want[wide], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(log_prob, want, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("action", "want"), [("action", "log_prob_from_action"), ("edge_action", "log_prob_edge_action")]
)
def test_the_density_of_a_given_action_is_the_released_one(
    policy: Arrays, released: TanhNormal, action: str, want: str
) -> None:
    found = released.log_prob(torch.from_numpy(policy[action]))
    torch.testing.assert_close(found, torch.from_numpy(policy[want]), rtol=2e-6, atol=2e-5)


@pytest.fixture(scope="module")
def networks() -> Arrays:
    return golden_map.read("pieces_networks")


def test_phi_is_the_released_one(networks: Arrays) -> None:
    phi = mlp([29, 32, 32, 3])
    put(phi, networks, "traj_encoder._mean_module.")
    close(phi(torch.from_numpy(networks["obs"])), networks["te_mean"])


def test_skill_dynamics_are_the_released_ones(networks: Arrays) -> None:
    dynamics = mlp([32, 32, 32, 29])
    put(dynamics, networks, "skill_dynamics._mean_module.")
    x = np.concatenate([networks["obs"], networks["options3"]], 1)
    close(dynamics(torch.from_numpy(x)), networks["sd_mean"])


def test_a_critic_is_the_released_one(networks: Arrays) -> None:
    critic = EnsembleMLP(1, [40, 32, 32, 1])
    places = ("_layers.0", "_layers.1", "_output_layers.0")
    for place, weight, bias in zip(places, critic.weights, critic.biases, strict=True):
        weight.data[0] = torch.from_numpy(networks[f"param/qf1.{place}.linear.weight"]).T
        bias.data[0] = torch.from_numpy(networks[f"param/qf1.{place}.linear.bias"])
    x = np.concatenate([networks[key] for key in ("obs", "options3", "actions")], 1)
    close(critic(torch.from_numpy(x))[0], networks["q"])


def test_spectral_layers_are_the_released_ones(networks: Arrays) -> None:
    """One power iteration per pass while training, none in evaluation."""
    net = mlp([29, 32, 32, 3], layer=SpectralLinear)
    put(net, networks, "te_spectral._mean_module.")
    obs = torch.from_numpy(networks["obs"])
    close(net(obs), networks["te_spectral_mean_call1"])
    close(net(obs), networks["te_spectral_mean_call2"])
    close(net.eval()(obs), networks["te_spectral_mean_eval"])
    close(net(obs), networks["te_spectral_mean_eval"])
