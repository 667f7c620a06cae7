"""Backbones for a task's reward: losses against plain loops in NumPy, and on each what every agent promises."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, cast
from unittest import mock

import golden_map
import numpy as np
import pytest
import torch
from conftest import SMALL, SPEC, configure
from runs import different
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from csf.agents import Agent
from csf.backbones import backbones
from csf.backbones.es import ES
from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.nets.actor import CategoricalActor, OneHotCategorical
from csf.nets.mlp import Linear
from csf.types import Batch, Generation, Rollout

ACTIONS = 3


class Case(NamedTuple):
    """A method on a backbone, with one kind of actions."""

    agent: str
    backbone: str
    discrete: bool

    def make(self, *overrides: str) -> Agent:
        cfg = configure(f"agent={self.agent}", f"agent/backbone={self.backbone}", *SMALL, *overrides)
        spec = dataclasses.replace(SPEC, discrete=self.discrete, action_dim=ACTIONS)
        return Agent(cfg.agent, cfg.backbone, spec)


CASES = [
    Case("task", "sac", False),
    Case("task", "discrete_sac", True),
    Case("task", "ppo", False),
    Case("task", "ppo", True),
    Case("diayn", "discrete_sac", True),
    Case("metra", "ppo", False),
    Case("task", "es", False),
    Case("task", "es", True),
    Case("metra", "pets", False),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
every_ppo = pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "one-hot"])


@pytest.fixture(autouse=True, scope="module")
def _compose_once() -> Iterator[None]:
    with mock.patch(f"{__name__}.configure", functools.cache(configure)):
        yield


def data(agent: Agent, size: int = 32) -> Any:
    """A random minibatch of what the backbone learns from."""
    obs, next_obs = torch.randn(2, size, *SPEC.obs_shape)
    action = torch.rand(size, ACTIONS) * 2 - 1
    if agent.spec.discrete:
        action = nn.functional.one_hot(torch.arange(size) % ACTIONS, ACTIONS).float()
    reward, terminal = torch.randn(size), (torch.rand(size) < 0.2).float()
    batch = Batch(obs, action, next_obs, reward, terminal, agent.objective.sample_skills(size))
    if agent.backbone.learner == "population":
        noise = cast(ES, agent.backbone).draw_noise(size)
        return Generation(noise, torch.randn(2 * size), torch.arange(size) > 1)
    if agent.backbone.learner != "rollout":
        return batch
    return Rollout(*batch, *torch.randn(3, size).unbind())


def on(device: str, batch: Any) -> Any:
    return type(batch)(*(tensor.to(device) for tensor in batch))


# ---- the categorical policy


def test_the_categorical_policy_is_the_released_programs() -> None:
    arrays = golden_map.read("pieces_categorical_policy")
    actor = CategoricalActor([29, 32, 32, 8])
    linear = [layer for layer in actor.modules() if isinstance(layer, nn.Linear)]
    for place, layer in zip(("_layers.0", "_layers.1", "_output_layers.0"), linear, strict=True):
        for kind in ("weight", "bias"):
            given = arrays[f"param/_module._logits_module.{place}.linear.{kind}"]
            getattr(layer, kind).data.copy_(torch.from_numpy(given))
    law = actor.distribution(torch.from_numpy(arrays["obs"]))
    found = {
        "logits": law.log_probs,
        "probs": law.probs,
        "entropy": law.entropy(),
        "mode": law.mode,
        "sampled_log_prob": law.log_prob(torch.from_numpy(arrays["sampled"])),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), arrays[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_it_starts_as_xavier_uniform_to_the_last_layer() -> None:
    torch.manual_seed(0)
    actor = CategoricalActor([300, 400, 200])
    first, last = (layer for layer in actor.logits if isinstance(layer, nn.Linear))
    assert [type(layer) for layer in actor.logits] == [Linear, nn.Tanh, Linear]
    for layer, fans in ((first, 700), (last, 600)):
        bound = math.sqrt(6 / fans)
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()


def test_its_samples_are_one_hot_and_as_frequent_as_they_are_probable() -> None:
    torch.manual_seed(0)
    want = torch.tensor([0.6, 0.3, 0.1])
    law = OneHotCategorical((want.log() + 5).expand(20_000, 3))
    action, log_prob = law.sample()
    assert set(action.unique().tolist()) == {0.0, 1.0}
    assert (action.sum(-1) == 1).all()
    assert (action.mean(0) - want).abs().max() < 5 * (0.25 / 20_000) ** 0.5
    torch.testing.assert_close(log_prob, (action * want.log()).sum(-1))
    assert torch.equal(law.mode[0], torch.tensor([1.0, 0.0, 0.0]))


def test_an_action_that_is_all_but_impossible_does_no_harm() -> None:
    logits = torch.tensor([[0.0, -1e4]], requires_grad=True)
    law = OneHotCategorical(logits)
    (gradient,) = torch.autograd.grad(law.entropy().sum() + law.log_prob(torch.tensor([[1.0, 0.0]])).sum(), logits)
    assert torch.isfinite(law.entropy()).all()
    assert torch.isfinite(gradient).all()


# ---- losses against plain loops


class Net(NamedTuple):
    """A multilayer perceptron as arrays, [I, O] and [O] per layer."""

    layers: list[tuple[np.ndarray, np.ndarray]]
    activation: Callable[[np.ndarray], np.ndarray]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if i < len(self.layers) - 1:
                x = self.activation(x)
        return x


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def sequence(net: nn.Module, activation: Callable[[np.ndarray], np.ndarray]) -> Net:
    linear = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    return Net([(array(layer.weight.T), array(layer.bias)) for layer in linear], activation)


def head(net: Any, which: int) -> Net:
    pairs = zip(net.weights, net.biases, strict=True)
    return Net([(array(weight[which]), array(bias[which, 0])) for weight, bias in pairs], relu)


def log_softmax(logits: np.ndarray) -> list[float]:
    total = sum(math.exp(value) for value in logits)
    return [float(value) - math.log(total) for value in logits]


def differences(function: Callable[[], float], params: list[nn.Parameter]) -> list[Tensor]:
    """Gradients of a function of the parameters, by central differences."""
    step = 1e-6
    found = []
    for param in params:
        flat, gradient = param.data.view(-1), torch.zeros(param.numel(), dtype=param.dtype)
        for i, value in enumerate(flat.tolist()):
            flat[i] = value + step
            high = function()
            flat[i] = value - step
            gradient[i] = (high - function()) / (2 * step)
            flat[i] = value
        found.append(gradient.view_as(param))
    return found


def follows(loss: Tensor, function: Callable[[], float], params: Any) -> None:
    """A loss has a plain loop's value and, by each of the parameters, its gradient."""
    params = list(params)
    assert loss.item() == pytest.approx(function(), rel=1e-9)
    want = differences(function, params)
    for found, expected in zip(torch.autograd.grad(loss, params, retain_graph=True), want, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
    assert any(gradient.abs().max() > 1e-4 for gradient in want), "nothing was compared"


def exact(case: Case, *overrides: str) -> tuple[Agent, Any]:
    """An agent of five units per layer in double precision away from its initial values, and a batch for it."""
    torch.manual_seed(0)
    agent = case.make("agent.backbone.hidden=[5]", *overrides).double()
    with torch.no_grad():
        for param in agent.backbone.parameters():
            param.add_(0.3 * torch.randn_like(param))
    return agent, on("cpu", type(batch := data(agent, 10))(*(tensor.double() for tensor in batch)))


class DiscreteLoops:
    """Discrete SAC row by row and action by action."""

    def __init__(self, agent: Agent, batch: Batch, discount: float = 0.99) -> None:
        self.backbone: Any = agent.backbone
        self.batch, self.discount = batch, discount

    def terms(self, net: Any, obs: Tensor) -> Iterator[list[tuple[float, float, float]]]:
        """For each row, for each action: probability, its logarithm, and the smaller value."""
        actor = sequence(self.backbone.actor, np.tanh)
        heads = [head(net, 0), head(net, 1)]
        for row in array(obs):
            log_probs = log_softmax(actor(row))
            values = [one(row) for one in heads]
            yield [(math.exp(lp), lp, min(float(v[a]) for v in values)) for a, lp in enumerate(log_probs)]

    @property
    def alpha(self) -> float:
        return math.exp(self.backbone.log_alpha.item())

    def targets(self) -> list[float]:
        found = []
        rows = self.terms(self.backbone.target, self.batch.next_obs)
        for terms, reward, terminal in zip(rows, self.batch.reward, self.batch.terminal, strict=True):
            value = sum(p * (q - self.alpha * lp) for p, lp, q in terms)
            found.append(reward.item() + self.discount * (1 - terminal.item()) * value)
        return found

    def critic(self, targets: list[float]) -> float:
        total = 0.0
        for one in (head(self.backbone.critic, 0), head(self.backbone.critic, 1)):
            for row, action, target in zip(self.batch.obs, self.batch.action, targets, strict=True):
                total += 0.5 * (one(array(row))[int(action.argmax())] - target) ** 2 / len(targets)
        return total

    def actor(self, alpha: float) -> float:
        rows = list(self.terms(self.backbone.critic, self.batch.obs))
        return sum(p * (alpha * lp - q) for terms in rows for p, lp, q in terms) / len(rows)

    def temperature(self, entropy: float) -> float:
        rows = list(self.terms(self.backbone.critic, self.batch.obs))
        log_alpha = self.backbone.log_alpha.item()
        return sum(p * -log_alpha * (lp + entropy) for terms in rows for p, lp, _ in terms) / len(rows)


DISCRETE = Case("task", "discrete_sac", True)


def test_discrete_sacs_losses_are_sums_over_actions() -> None:
    agent, batch = exact(DISCRETE)
    backbone: Any = agent.backbone
    loops = DiscreteLoops(agent, batch)
    assert 0 < batch.terminal.sum() < len(batch.terminal)

    loss, metrics = backbone.critic_loss(batch, agent.objective)
    targets = loops.targets()
    assert metrics["critic/target"].item() == pytest.approx(sum(targets) / len(targets))
    follows(loss, lambda: loops.critic(targets), backbone.critic.parameters())

    loss, log_prob = backbone.actor_loss(batch)
    assert not log_prob.requires_grad
    follows(loss, lambda: loops.actor(loops.alpha), backbone.actor.parameters())


def test_discrete_sac_steps_critics_then_policy_then_temperature() -> None:
    agent, batch = exact(DISCRETE, "agent.backbone.target_entropy=0.9", "agent.backbone.lr=0.1")
    backbone: Any = agent.backbone
    before = copy.deepcopy(agent)
    metrics = agent.update(batch)

    old: Any = before.backbone
    loops = DiscreteLoops(before, batch)
    assert metrics["loss/critic"].item() == pytest.approx(loops.critic(loops.targets()))
    assert metrics["policy/alpha"].item() == pytest.approx(loops.alpha)
    for target, was, online in zip(
        backbone.target.parameters(), old.target.parameters(), backbone.critic.parameters(), strict=True
    ):
        torch.testing.assert_close(target, (1 - 0.005) * was + 0.005 * online.detach())

    old.critic.load_state_dict(backbone.critic.state_dict())  # the policy follows the critics of this update
    assert metrics["loss/actor"].item() == pytest.approx(loops.actor(loops.alpha))
    entropy = 0.9 * math.log(ACTIONS)
    assert metrics["loss/alpha"].item() == pytest.approx(loops.temperature(entropy))
    (slope,) = differences(lambda: loops.temperature(entropy), [old.log_alpha])
    torch.testing.assert_close(backbone.log_alpha.grad, slope)


def test_discrete_sac_draws_no_random_number() -> None:
    agent = DISCRETE.make()
    state = torch.get_rng_state()
    agent.update(data(agent))  # but for the batch
    torch.set_rng_state(state)
    batch = data(agent)
    state = torch.get_rng_state()
    agent.update(batch)
    assert torch.equal(state, torch.get_rng_state())


def test_as_released_its_temperature_can_only_grow() -> None:
    torch.manual_seed(0)
    agent, batch = exact(DISCRETE)
    backbone: Any = agent.backbone
    agent.update(batch)
    assert backbone.log_alpha.grad.item() < 0
    with torch.no_grad():  # a uniform policy
        for param in backbone.actor.parameters():
            param.zero_()
    agent.update(batch)
    assert backbone.log_alpha.grad.item() == pytest.approx(0, abs=1e-6)


class PPOLoops:
    """PPO row by row."""

    def __init__(self, agent: Agent, batch: Rollout) -> None:
        self.backbone: Any = agent.backbone
        self.batch, self.discrete = batch, agent.spec.discrete

    def law(self, row: np.ndarray, action: np.ndarray) -> tuple[float, float]:
        """Log-density of the action, and entropy."""
        actor = self.backbone.actor
        if self.discrete:
            log_probs = log_softmax(sequence(actor, np.tanh)(row))
            return log_probs[int(action.argmax())], -sum(math.exp(lp) * lp for lp in log_probs)
        out = sequence(nn.Sequential(actor.trunk, actor.heads), np.tanh)(row)
        log_prob = entropy = 0.0
        for mean, log_std, a in zip(out[:ACTIONS], out[ACTIONS:], action, strict=True):
            pre_tanh = 0.5 * math.log((1 + 1e-6 + a) / (1 + 1e-6 - a))
            log_prob -= 0.5 * ((pre_tanh - mean) / math.exp(log_std)) ** 2 + log_std + 0.5 * math.log(2 * math.pi)
            log_prob -= math.log(1 - a * a + 1e-6)
            entropy += 0.5 * math.log(2 * math.pi * math.e) + log_std
        return log_prob, entropy

    def actor(self) -> float:
        advantage = array(self.batch.advantage)
        mean = sum(advantage) / len(advantage)
        std = math.sqrt(sum((a - mean) ** 2 for a in advantage) / (len(advantage) - 1))
        total = 0.0
        for row, action, old, a in zip(
            array(self.batch.obs), array(self.batch.action), array(self.batch.log_prob), advantage, strict=True
        ):
            log_prob, entropy = self.law(row, action)
            ratio, a = math.exp(log_prob - old), (a - mean) / (std + 1e-8)
            total += -min(ratio * a, min(max(ratio, 0.8), 1.2) * a) - 0.01 * entropy
        return total / len(advantage)

    def critic(self) -> float:
        value = sequence(self.backbone.critic, relu)
        rows = zip(array(self.batch.obs), array(self.batch.return_to_go), strict=True)
        errors = [(float(value(row)[0]) - want) ** 2 for row, want in rows]
        return sum(errors) / len(errors)


@every_ppo
def test_ppos_losses_are_the_papers(discrete: bool) -> None:
    agent, batch = exact(Case("task", "ppo", discrete))
    backbone: Any = agent.backbone
    log_prob, value = backbone.appraise(batch)
    # Ratios on both sides of both bounds, with advantages of both signs.
    change = torch.tensor([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 0.4, -0.4, 0.0, 0.05], dtype=torch.double)
    batch = batch._replace(log_prob=log_prob.detach() - change)
    loops = PPOLoops(agent, batch)

    loss, metrics = backbone.actor_loss(batch)
    follows(loss, loops.actor, backbone.actor.parameters())
    entropy = [loops.law(*row)[1] for row in zip(array(batch.obs), array(batch.action), strict=True)]
    assert metrics["policy/entropy"].item() == pytest.approx(sum(entropy) / len(entropy))
    assert metrics["policy/divergence"].item() == pytest.approx(-change.mean().item())
    assert metrics["policy/clipped"].item() == pytest.approx(0.6)

    loss, _ = backbone.critic_loss(batch, agent.objective)
    follows(loss, loops.critic, backbone.critic.parameters())
    assert value[0].item() == pytest.approx(sequence(backbone.critic, relu)(array(batch.obs)[0])[0])


@every_ppo
def test_ppo_steps_policy_and_value_on_these_losses(discrete: bool) -> None:
    agent, batch = exact(Case("task", "ppo", discrete))
    backbone: Any = agent.backbone
    want: list[Tensor] = []
    for loss, part in ((backbone.actor_loss(batch)[0], "actor"), (backbone.critic_loss(batch, None)[0], "critic")):
        want += torch.autograd.grad(loss, list(getattr(backbone, part).parameters()))
    agent.update(batch)
    moved = [*backbone.actor.parameters(), *backbone.critic.parameters()]
    for param, gradient in zip(moved, want, strict=True):
        assert param.grad is not None
        torch.testing.assert_close(param.grad, gradient)


def test_beyond_the_clip_a_ratio_has_nothing_to_gain_and_much_to_lose() -> None:
    """Without entropy, the gradient of a row whose ratio went too far in its own favor is 0, and only of such a row."""
    agent, batch = exact(Case("task", "ppo", True), "agent.backbone.entropy_weight=0")
    backbone: Any = agent.backbone
    log_prob = backbone.appraise(batch)[0].detach()
    for change, sign, gains in ((0.5, 1, False), (0.5, -1, True), (-0.5, 1, True), (-0.5, -1, False)):
        # One row beyond the clip; the others share the opposite advantage and have no gradient of their own.
        old = log_prob.clone()
        old[0] -= change
        advantage = torch.full_like(old, -sign)
        advantage[0] = sign * 9.0
        loss = backbone.actor_loss(batch._replace(log_prob=old, advantage=advantage))[0]
        rest = backbone.actor_loss(batch._replace(log_prob=log_prob, advantage=advantage))[0]
        slopes = [torch.autograd.grad(part, list(backbone.actor.parameters())) for part in (loss, rest)]
        law = backbone.actor.distribution(batch.obs)
        own = torch.autograd.grad(law.log_prob(batch.action)[0], list(backbone.actor.parameters()))
        normal = (advantage - advantage.mean()) / advantage.std()
        weight = math.exp(change) if gains else 0.0
        for with_it, at_one, row in zip(*slopes, own, strict=True):
            torch.testing.assert_close(with_it, at_one - (weight - 1) * normal[0] * row / len(old))


@every_ppo
def test_ppos_networks_start_as_released(discrete: bool) -> None:
    torch.manual_seed(0)
    agent = Case("task", "ppo", discrete).make("agent.backbone.hidden=[300,400]")
    backbone: Any = agent.backbone
    weights = [layer.weight for layer in backbone.critic if isinstance(layer, nn.Linear)]
    assert [tuple(weight.shape) for weight in weights] == [(300, 3), (400, 300), (1, 400)]
    assert any(isinstance(layer, nn.ReLU) for layer in backbone.critic)
    weight = weights[1].detach()
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 700), rel=0.02)
    assert (weight**4).mean().item() / weight.var().item() ** 2 == pytest.approx(3, rel=0.1)  # normal, not uniform


# ---- which backbone fits which environment


@pytest.mark.parametrize(
    ("backbone", "discrete", "accepted"),
    [
        ("sac", True, "discrete_sac, es, ppo"),
        ("successor", True, "discrete_sac, es, ppo"),
        ("pets", True, "discrete_sac, es, ppo"),
        ("discrete_sac", False, "es, pets, ppo, sac"),
    ],
)
def test_a_backbone_refuses_actions_that_it_cannot_choose(backbone: str, discrete: bool, accepted: str) -> None:
    kind = "one-hot" if discrete else "continuous"
    message = rf"agent/backbone={backbone} does not support the {kind} actions of test; accepted: {accepted}"
    with pytest.raises(ConfigError, match=message):
        Case("metra", backbone, discrete).make()


def test_the_papers_values_on_tasks() -> None:
    sac: Any = configure("agent=task").backbone
    assert (sac.init_alpha, sac.use_terminal, sac.lr, sac.discount) == (0.1, True, 1e-4, 0.99)
    discrete: Any = configure("agent=task", "agent/backbone=discrete_sac").backbone
    assert (discrete.init_alpha, discrete.use_terminal, discrete.target_entropy) == (0.1, True, 1.0)
    assert vars(configure("agent=task", "agent/backbone=ppo").backbone) == {
        "name": "ppo",
        "hidden": (1024, 1024),
        "lr": 1e-4,
        "discount": 0.99,
        "gae_lambda": 0.95,
        "clip": 0.2,
        "entropy_weight": 0.01,
    }
    assert configure("agent=task").agent.skill_dim == 0


def test_what_the_paper_sets_on_tasks_can_be_overridden() -> None:
    cfg: Any = configure("agent=task", "agent.backbone.init_alpha=0.3", "agent.backbone.use_terminal=false").backbone
    assert (cfg.init_alpha, cfg.use_terminal) == (0.3, False)


def test_a_task_has_nothing_to_represent() -> None:
    agent = DISCRETE.make()
    assert not list(agent.objective.parameters())
    assert agent.objective.minimizers == {}
    batch = data(agent)
    assert agent.objective.update(batch) == {}
    assert torch.equal(agent.objective.reward(batch), batch.reward)
    assert agent.objective.sample_skills(3).shape == (3, 0)


@pytest.mark.parametrize("name", backbones.names())
def test_values_live_in_yaml_only(name: str) -> None:
    for field in dataclasses.fields(backbones[name].Config):
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING


# ---- what every agent promises


@every_case
def test_an_update_reads_no_value_on_the_host(case: Case) -> None:
    with FakeTensorMode():
        agent = case.make()
        metrics = agent.update(data(agent))
    assert all(value.shape == () for value in metrics.values())
    assert not any(value.requires_grad for value in metrics.values())


class NoReading(TorchDispatchMode):
    """Refuses what fake tensors let pass: values read where they lie in the host's memory, and numbers from Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        assert name not in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "lift_fresh"), func
        return func(*args, **(kwargs or {}))


@every_case
def test_a_second_update_reads_none_either(case: Case) -> None:
    agent = case.make()
    batch = data(agent)
    agent.update(batch)
    with NoReading():  # type: ignore[no-untyped-call]
        agent.update(batch)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.backbone != "es"], ids=lambda case: "-".join(map(str, case))
)
def test_losses_trace_as_one_graph(case: Case) -> None:
    agent = case.make()
    backbone: Any = agent.backbone
    batch = data(agent)
    losses: list[tuple[Any, tuple[Any, ...]]]
    if case.backbone == "pets":
        losses = [(backbone.model_loss, (batch, torch.randint(32, (5, 32))))]
    else:
        losses = [(backbone.critic_loss, (batch, agent.objective)), (backbone.actor_loss, (batch,))]
    for loss, arguments in losses:
        torch._dynamo.reset()
        compiled: Any = torch.compile(loss, fullgraph=True, backend="eager")
        compiled(*arguments)


@every_case
def test_an_update_leaves_the_batch_alone(case: Case) -> None:
    agent = case.make()
    batch = data(agent)
    kept, versions = copy.deepcopy(batch), [tensor._version for tensor in batch]
    agent.update(batch)
    assert all(torch.equal(a, b) for a, b in zip(batch, kept, strict=True))
    assert versions == [tensor._version for tensor in batch]


@every_case
def test_an_update_follows_every_minimizer_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = case.make()
    stepped: list[Minimizer] = []
    step = Minimizer.step

    def noted(self: Minimizer, loss: Tensor) -> Tensor:
        stepped.append(self)
        return step(self, loss)

    monkeypatch.setattr(Minimizer, "step", noted)
    agent.update(data(agent))
    assert sorted(map(id, stepped)) == sorted(map(id, agent.minimizers().values()))


@every_case
def test_an_update_moves_every_parameter_of_the_backbone(case: Case) -> None:
    torch.manual_seed(0)
    agent = case.make("agent.backbone.lr=1e-3")
    before = {key: value.clone() for key, value in agent.named_parameters()}
    agent.update(data(agent))
    still = {key for key, value in agent.named_parameters() if torch.equal(value, before[key])}
    fixed = {"backbone.log_alpha"} if case.agent == "diayn" else set()
    assert {key for key in still if key.startswith("backbone.")} == fixed


@every_case
def test_a_resumed_agent_goes_on_bit_for_bit(case: Case) -> None:
    torch.manual_seed(0)
    agent = case.make()
    batch = data(agent)
    for _ in range(2):
        agent.update(batch)
    file = io.BytesIO()
    torch.save({"agent": agent.full_state(), "rng": torch.get_rng_state()}, file)
    agent.update(batch)
    file.seek(0)
    other, state = case.make(), torch.load(file, weights_only=True)
    other.load_full_state(state["agent"])
    torch.set_rng_state(state["rng"])
    other.update(batch)
    assert not different(other.full_state(), agent.full_state())


@every_case
def test_actions_fit_the_environment(case: Case) -> None:
    torch.manual_seed(0)
    agent = case.make()
    obs, skill = torch.randn(50, *SPEC.obs_shape), agent.objective.sample_skills(50)
    sampled, mode = agent.act(obs, skill), agent.act(obs, skill, True)
    for action in (sampled, mode):
        assert action.shape == (50, ACTIONS)
        assert action.dtype == torch.float32
        assert not action.requires_grad
        if case.discrete:
            assert set(action.unique().tolist()) == {0.0, 1.0}
            assert (action.sum(-1) == 1).all()
        else:
            assert action.abs().max() <= 1
    assert torch.equal(mode, agent.act(obs, skill, True))
    assert torch.equal(sampled, agent.act(obs, skill)) == (case.backbone == "es")  # a deterministic policy


@every_case
def test_a_policy_file_holds_actor_and_objective_alone(case: Case) -> None:
    names = case.make().policy_state()
    part = "model" if case.backbone == "pets" else "actor"
    assert any(name.startswith(f"backbone.{part}.") for name in names)
    assert not any("critic" in name or "alpha" in name for name in names)


def test_networks_have_as_many_layers_as_asked_for() -> None:
    for case in CASES[:4]:
        backbone: Any = case.make("agent.backbone.hidden=[7,8,9]").backbone
        shapes = [tuple(param.shape) for param in backbone.actor.parameters() if param.dim() > 1]
        assert [b for _, b in pairwise(shape[0] for shape in shapes)][:2] == [8, 9]
