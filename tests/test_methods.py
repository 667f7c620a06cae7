"""Formulas for which the released program left no numbers, against plain loops; and the paper's ablations."""

from __future__ import annotations

import math
from typing import Any

import golden_map
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import batch, make

from csf.errors import ConfigError
from csf.mi.entropy import RunningMoments, nearest_distances
from csf.nets.mlp import SpectralLinear, mlp
from csf.nets.whitening import Whitening, exact_inverse_root, inverse_root, whitener


def objective_of(name: str, *overrides: str) -> Any:
    return make(name, *overrides).objective


@pytest.mark.parametrize("call", ["te_spectral_mean_call1", "te_spectral_mean_call2", "te_spectral_mean_eval"])
def test_spectral_norm_makes_the_released_programs_power_iterations(call: str) -> None:
    arrays = golden_map.read("pieces_networks")
    net = mlp([29, 32, 32, 3], layer=SpectralLinear)
    prefix = "param/te_spectral._mean_module."
    linear = [layer for layer in net if isinstance(layer, SpectralLinear)]
    for place, layer in zip(("_layers.0", "_layers.1", "_output_layers.0"), linear, strict=True):
        names = {"weight_orig": layer.weight, "bias": layer.bias, "weight_u": layer.left, "weight_v": layer.right}
        for name, tensor in names.items():
            tensor.data.copy_(torch.from_numpy(arrays[f"{prefix}{place}.linear.{name}"]))
    obs = torch.from_numpy(arrays["obs"])
    results = {"te_spectral_mean_call1": net(obs), "te_spectral_mean_call2": net(obs)}
    net.eval()
    results["te_spectral_mean_eval"] = net(obs)
    np.testing.assert_allclose(results[call].detach().numpy(), arrays[call], rtol=1e-5, atol=1e-6)


def test_metra_centers_one_hot_skills() -> None:
    torch.manual_seed(0)
    objective = objective_of("metra", "agent.prior=one_hot", "agent.skill_dim=5")
    b = batch(make("metra", "agent.prior=one_hot", "agent.skill_dim=5"))
    step = objective.phi(b.next_obs) - objective.phi(b.obs)
    centered = (b.skill - b.skill.mean(-1, keepdim=True)) * 5 / 4
    torch.testing.assert_close(objective.reward(b), (step * centered).sum(-1))


def test_metra_with_a_fixed_multiplier_keeps_it() -> None:
    agent = make("metra", "agent.multiplier_lr=0", "agent.init_multiplier=7")
    agent.update(batch(agent))
    assert agent.objective.multiplier().item() == pytest.approx(7)  # type: ignore[operator]


@pytest.mark.parametrize("prior", ["sphere", "one_hot"])
def test_metra_as_its_authors_release_it_bounds_the_mean_over_dimensions(prior: str) -> None:
    """Slack and penalty in closed form from d; reward, Lagrangian and dual step are otherwise those of the sum."""
    words = ["agent.skill_dim=5", "agent.slack=0.25", f"agent.prior={prior}"]
    mean, total = (make("metra", *words, f"agent.constraint={name}") for name in ("mean", "sum"))
    total.load_state_dict(mean.state_dict())
    b = batch(mean)
    objective: Any = mean.objective
    objective.phi.requires_grad_(False)
    scale = 2 / objective.phi.step(b.obs, b.next_obs).square().sum(-1).mean().sqrt()
    for agent in (mean, total):
        last: Any = [layer for layer in agent.objective.phi.modules() if isinstance(layer, torch.nn.Linear)][-1]  # type: ignore[union-attr]
        last.weight.data.mul_(scale)
        last.bias.data.mul_(scale)
    step = objective.phi.step(b.obs, b.next_obs)
    size = sum(step[:, i] ** 2 for i in range(5)) / 5
    slack = torch.minimum(1 - size, torch.tensor(0.25))
    assert ((slack < 0.25) & (slack != 1 - step.square().sum(-1))).any(), "nothing tells the two apart"
    loss, metrics = objective.loss(b)
    torch.testing.assert_close(loss, -(mean.objective.reward(b) + 30 * slack).mean())
    torch.testing.assert_close(metrics["phi/slack"], slack.mean())
    torch.testing.assert_close(metrics["phi/step"], total.objective.loss(b)[1]["phi/step"])
    torch.testing.assert_close(mean.objective.reward(b), total.objective.reward(b))
    assert not torch.allclose(loss, total.objective.loss(b)[0])


def test_metras_penalty_can_be_rewarded() -> None:
    plain, penalized = make("metra"), make("metra", "agent.reward_penalty=true")
    penalized.load_state_dict(plain.state_dict())
    b = batch(plain)
    step = plain.objective.phi.step(b.obs, b.next_obs)  # type: ignore[operator, union-attr]
    slack = torch.minimum(1 - step.square().sum(-1), torch.tensor(1e-3))
    torch.testing.assert_close(penalized.objective.reward(b), plain.objective.reward(b) + 30 * slack)


def test_csf_can_contrast_with_the_batchs_own_skills() -> None:
    objective = objective_of("csf", "agent.negatives=batch", "agent.negative_weight=1")
    b = batch(make("csf"))
    scores = (objective.phi(b.next_obs) - objective.phi(b.obs)) @ b.skill.T
    # With weight 1 and the positive among the candidates this is cross-entropy: InfoNCE.
    expected = F.cross_entropy(scores, torch.arange(len(scores)))
    torch.testing.assert_close(objective.loss(b)[0], expected)


def test_csf_can_reward_the_whole_bound() -> None:
    agent = make("csf", "agent/backbone=sac", "agent.reward_contrast=true", "agent.negatives=batch")
    b, objective = batch(agent), agent.objective
    reward = objective.reward(b)
    torch.testing.assert_close(-reward.mean(), objective.loss(b)[0])


@pytest.mark.parametrize("name", ["csf", "metra"])
def test_features_of_a_pair_are_one_network_of_both(name: str) -> None:
    agent = make(name, "agent.features=pair")
    b = batch(agent)
    agent.update(b)
    objective: Any = agent.objective
    torch.testing.assert_close(objective.phi.step(b.obs, b.next_obs), objective.phi(torch.cat([b.obs, b.next_obs], -1)))
    assert objective.represent(b.obs) is None
    assert objective.goal_skill(b.obs, b.next_obs).norm(dim=-1).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize(
    "overrides",
    [
        ("diayn", "agent/backbone=successor"),
        ("dads", "agent/backbone=successor"),
        ("cic", "agent/backbone=successor"),
        ("csf", "agent.reward_contrast=true"),
        ("metra", "agent/backbone=successor", "agent.reward_penalty=true"),
    ],
)
def test_a_backbone_that_cannot_use_the_reward_is_refused(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"agent/backbone=successor needs .* accepted: .*sac"):
        make(*overrides)


@pytest.mark.parametrize("overrides", [("csf", "agent/backbone=sac"), ("metra", "agent/backbone=successor")])
def test_csf_and_metra_run_on_both_backbones(overrides: tuple[str, ...]) -> None:
    agent = make(*overrides)
    before = agent.get_parameter("objective.phi.0.weight").clone()
    agent.update(batch(agent))
    assert not torch.equal(before, agent.get_parameter("objective.phi.0.weight"))


@pytest.mark.parametrize("released", [False, True])
def test_visr_rewards_alignment_and_its_released_form_leaves_phi_as_it_is(released: bool) -> None:
    objective = objective_of("visr", f"agent.released={released}")
    b = batch(make("visr"))
    phi = objective.phi(b.obs)
    unit = phi / phi.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(objective.loss(b)[0], -(unit * b.skill).sum(-1).mean())
    torch.testing.assert_close(objective.cumulant(b), phi if released else unit)


def dads_log_prob(objective: Any, s: torch.Tensor, change: torch.Tensor, z: torch.Tensor) -> float:
    """Of one step, in plain numbers."""
    mean = objective.dynamics(torch.cat([s, z])[None])[0]
    return sum(
        -0.5 * (c - m) ** 2 - 0.5 * math.log(2 * math.pi) for c, m in zip(change.tolist(), mean.tolist(), strict=True)
    )


def test_dads_reward_is_the_log_ratio_of_its_own_skill_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    agent = make("dads", "agent.num_alternatives=40")
    objective: Any = agent.objective
    b = batch(agent, 6)
    for _ in range(3):
        agent.update(b)
    others = objective.sample_skills(40 * 6)
    monkeypatch.setattr(objective, "sample_skills", lambda n: others[:n])
    with torch.no_grad():
        found = objective.reward(b)
        norms = objective.input_norm, objective.target_norm
        s, change = (
            (x - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
            for x, norm in zip((b.obs, b.next_obs - b.obs), norms, strict=True)
        )
        for i in range(6):
            own = dads_log_prob(objective, s[i], change[i], b.skill[i])
            ratios = [dads_log_prob(objective, s[i], change[i], others[j * 6 + i]) - own for j in range(40)]
            want = math.log(41) - math.log(1 + sum(math.exp(min(max(r, -50), 50)) for r in ratios))
            assert found[i].item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_dads_norms_follow_the_data_in_the_loss_and_are_held_in_the_reward() -> None:
    agent = make("dads")
    objective: Any = agent.objective
    b = batch(agent)
    agent.update(b)
    expected = 0.99 * 1 + 0.01 * (b.next_obs - b.obs).var(0)  # the unbiased variance, momentum 0.01
    torch.testing.assert_close(objective.target_norm.running_var, expected)
    held = objective.target_norm.running_var.clone()
    objective.reward(b)
    assert torch.equal(objective.target_norm.running_var, held)
    assert torch.equal(objective.input_norm.weight, torch.ones(3))


def test_dads_loss_is_the_likelihood_of_the_normalized_change() -> None:
    objective = objective_of("dads")
    b = batch(make("dads"))
    objective.train()
    loss = objective.loss(b)[0]
    s, change = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() for x in (b.obs, b.next_obs - b.obs))
    law = torch.distributions.Normal(objective.dynamics(torch.cat([s, b.skill], -1)), 1.0)
    torch.testing.assert_close(loss, -law.log_prob(change).sum(-1).mean())


def test_nearest_distances_are_those_of_a_full_sort() -> None:
    a, b = torch.randn(7, 3), torch.randn(9, 3)
    rows = [sorted(math.dist(x, y) for y in b.tolist())[:4] for x in a.tolist()]
    torch.testing.assert_close(nearest_distances(a, b, 4), torch.tensor(rows))


def test_running_moments_are_those_of_the_whole_stream() -> None:
    moments = RunningMoments()
    parts = [torch.randn(50) * 3 + 2 for _ in range(20)]
    for part in parts:
        moments.follow(part)
    whole = torch.cat(parts)
    assert moments.mean.item() == pytest.approx(whole.mean().item(), rel=1e-4)
    assert moments.variance.item() == pytest.approx(whole.var().item(), rel=0.02)  # batches are unbiased one by one


def test_cic_contrast_leaves_the_largest_own_score_out_of_the_sum() -> None:
    torch.manual_seed(0)
    objective = objective_of("cic", "agent.skill_dim=4")
    b = batch(make("cic", "agent.skill_dim=4"), 8)
    objective.eval()  # power iterations stand still, so that the parts can be computed again
    both = torch.cat([objective.phi(b.obs), objective.phi(b.next_obs)], -1)
    query = objective.skill_net(b.skill)
    key = objective.transition_net(both)
    total = 0.0
    for i in range(8):
        scores = [math.exp(F.cosine_similarity(query[i], key[j], dim=0).item() / 0.5) for j in range(8)]
        total -= math.log(scores[i] / (max(sum(scores) - math.exp(2), 1e-6) + 1e-6))
    assert objective.loss(b)[0].item() == pytest.approx(total / 8, rel=1e-4)


@pytest.mark.parametrize("released", [False, True])
def test_cic_rewards_the_distance_to_neighbors_in_units_of_its_spread(released: bool) -> None:
    objective = objective_of("cic", "agent.neighbors=3", f"agent.released={released}")
    b = batch(make("cic"), 10)
    with torch.no_grad():
        before, after = objective.phi(b.obs), objective.phi(b.next_obs)
        near = torch.tensor([sorted(math.dist(x, y) for y in after.tolist())[:3] for x in before.tolist()])
        objective.train()
        found = objective.reward(b)
        variance = near.var()  # the moments start with hardly any weight
        scale = variance if released else variance.sqrt()
        expected = (1 + (near / scale - 5e-4).clamp(min=0).mean(-1)).log()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    objective.eval()
    count = objective.moments.count.clone()
    objective.reward(b)
    assert torch.equal(objective.moments.count, count)


def test_whitened_steps_are_equally_large_in_all_directions() -> None:
    """Against the closed form: W C W is a multiple of the identity with the trace of C."""
    torch.manual_seed(0)
    mix = torch.tensor([[1.0, 0.2], [0.0, 0.05]])
    whitening = Whitening(2)
    for _ in range(3000):
        whitening.follow(torch.randn(64, 2) @ mix)
    steps = torch.randn(200_000, 2) @ mix
    white = whitening(steps)
    moments = white.T @ white / len(white)
    torch.testing.assert_close(moments, moments.trace() / 2 * torch.eye(2), rtol=0, atol=0.1 * moments.trace().item())
    assert white.square().sum(-1).mean() == pytest.approx(steps.square().sum(-1).mean().item(), rel=0.05)
    torch.testing.assert_close(whitening.matrix, whitening.matrix.T)  # symmetric: the nearest to the identity


def test_a_direction_without_steps_is_amplified_by_a_bounded_factor() -> None:
    found = whitener(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(found, torch.diag(torch.tensor([0.5**0.5, 100.0])), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dim", [2, 9, 32])
def test_both_ways_to_whiten_agree(dim: int) -> None:
    torch.manual_seed(dim)
    basis = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64))[0]
    matrix = (basis * torch.logspace(0, -4, dim, dtype=torch.float64)) @ basis.T
    exact = exact_inverse_root(matrix)
    torch.testing.assert_close(inverse_root(matrix), exact, rtol=1e-6, atol=1e-6 * exact.abs().max().item())
    torch.testing.assert_close(exact @ matrix @ exact, torch.eye(dim, dtype=torch.float64))


@pytest.mark.parametrize("name", ["csf", "metra"])
def test_whitening_changes_reward_and_goals_and_not_the_loss(name: str) -> None:
    plain, white = make(name), make(name, "agent.whiten=true")
    white.load_state_dict(plain.state_dict(), strict=False)
    b = batch(plain)
    torch.manual_seed(1)
    first: Any = plain.objective.loss(b)[0]
    torch.manual_seed(1)
    objective: Any = white.objective
    torch.testing.assert_close(objective.loss(b)[0], first)
    objective.whitening.matrix.copy_(torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    step = objective.phi(b.next_obs) - objective.phi(b.obs)
    stretched = step @ objective.whitening.matrix
    torch.testing.assert_close(objective.reward(b), (stretched * b.skill).sum(-1))
    torch.testing.assert_close(objective.cumulant(b), stretched)
    torch.testing.assert_close(objective.goal_skill(b.obs, b.next_obs), F.normalize(stretched, dim=-1))


@pytest.mark.parametrize(
    "overrides",
    [
        ("csf", "agent/backbone=sac", "agent.reward_contrast=true"),
        ("metra", "agent.reward_penalty=true"),
    ],
)
def test_a_reward_that_is_not_linear_in_the_step_is_not_whitened(overrides: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"agent.whiten=true is for rewards that are linear"):
        make(*overrides, "agent.whiten=true")
