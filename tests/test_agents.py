"""What every agent promises, checked for each yaml in configs/agent: a new method is covered by existing."""

from __future__ import annotations

import ast
import copy
import functools
import io
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest import mock

import pytest
import torch
import yaml
from conftest import NAMES, ROOT, SPEC, batch, configure, make
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from csf.agents import Agent, Objective, ObjectiveConfig, objectives
from csf.agents.base import Prior
from csf.core.optim import Minimizer
from csf.types import Batch

# Settings without which an option is refused, and options that are numbers, by method.
NEEDS = {
    "slusd agent/backbone=sac agent.candidates=batch": "agent.bound=nwj",
    "slusd agent/backbone=sac agent.candidates=fresh": "agent.bound=alpha",
    "slusd agent/backbone=sac agent.candidates=states": "agent.bound=alpha",
    "slusd agent/backbone=sac agent.learned_baseline=True": "agent.bound=tuba",
}
NUMBERS = {
    "slusd": [
        "agent.dropout=0.5 agent.input_noise=0.1 agent.weight_decay=0.1 agent.gradient_clip=0.01",
        "agent.gradient_penalty=5 agent.mixup=0.4 agent.label_smoothing=0.2",
        "agent.critic=separable agent.bound=nce agent.candidates=batch agent.mixup=0.4 agent.gradient_penalty=1",
    ]
}


def variants(name: str) -> list[str]:
    """A method with each of its named options turned to another value, on the backbone that fits all of them."""
    cls = objectives[configure(f"agent={name}").agent.name].Config
    values = yaml.safe_load((ROOT / f"configs/agent/{name}.yaml").read_text())
    found = []
    for key, kind in get_type_hints(cls).items():
        accepted = (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
        others = (value for value in accepted if value != values[key])
        found += [f"{name} agent/backbone=sac agent.{key}={value}" for value in others]
    found = [f"{case} {NEEDS[case]}" if case in NEEDS else case for case in found]
    return found + [f"{name} {words}" for words in NUMBERS.get(name, [])]


# A case is a method's name, and overrides of its yaml behind it.
CASES = [case for name in NAMES for case in (name, *variants(name))]

# Parameters that an update cannot move, by method or by case. phi often enters its loss only as phi(s') - phi(s): the
# last bias cancels. What is not learned because its rate is 0 need not be named.
IDLE: dict[str, set[str]] = {
    "csf": {"objective.phi.4.bias"},
    "csf agent/backbone=sac agent.features=pair": set(),
    "metra": {"objective.phi.4.bias"},
    "metra agent/backbone=sac agent.features=pair": set(),
    # The output's bias is the same for all skills, and a bias before batch normalization is subtracted again.
    "slusd agent/backbone=sac agent.critic=concat": {"objective.critic.net.4.bias"},
    "slusd agent/backbone=sac agent.batch_norm=True": {"objective.critic.net.0.bias", "objective.critic.net.3.bias"},
    "dads": {"objective.input_norm.weight", "objective.input_norm.bias"},
}

# Methods that no paper describes.
NO_PAPER = {"task"}


@pytest.fixture(autouse=True, scope="module")
def _compose_once() -> Iterator[None]:
    """Agents by the dozen from the same few configurations."""
    with mock.patch("conftest.configure", functools.cache(configure)):
        yield


every_method = pytest.mark.parametrize("name", NAMES)
every_case = pytest.mark.parametrize("case", CASES)


def on(device: str, minibatch: Batch) -> Batch:
    return Batch(*(tensor.to(device) for tensor in minibatch))


def losses(agent: Agent, minibatch: Batch) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The functions that a compiler gets to see, with arguments; a method without networks has no loss."""
    objective, backbone = agent.objective, agent.backbone
    found: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    if "representation" in objective.minimizers:
        found["loss"] = objective.loss, (minibatch,)
    for loss, arguments in (("critic_loss", (minibatch, objective)), ("actor_loss", (minibatch,))):
        if hasattr(backbone, loss):
            found[loss] = getattr(backbone, loss), arguments
    return found


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """All tensors and plain values in a tree of dicts and lists, by path."""
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {key: value for name, part in pairs for key, value in leaves(part, f"{path}/{name}").items()}
    return {path: tree}


def test_every_method_has_a_yaml_and_every_yaml_a_method() -> None:
    named = {yaml.safe_load((ROOT / f"configs/agent/{name}.yaml").read_text())["name"] for name in NAMES}
    assert named == set(objectives.names())


# ---- the update can become a CUDA graph


@every_case
def test_an_update_reads_no_value_on_the_host(case: str) -> None:
    """No .item(), no branch on a value, no shape that depends on data; here tensors have no values to read."""
    with FakeTensorMode():
        agent = make(*case.split())
        metrics = agent.update(batch(agent))
    assert all(value.shape == () for value in metrics.values())
    assert not any(value.requires_grad for value in metrics.values()), "a metric keeps its graph alive"


class Watch(TorchDispatchMode):
    """Shows every operation and its result to a check."""

    def __init__(self, check: Callable[[Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.check = check

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.check(func, found)
        return found


WAITS = re.compile(r"aten\.(_local_scalar_dense|item|is_nonzero|nonzero|equal|masked_select|_?unique\w*|lift_fresh)\b")


def never_waits(func: Any, found: Any) -> None:
    """Neither waits for a value nor makes a tensor from Python's numbers: a graph can hold neither.

    Fake tensors let both pass where the value is known without a device, as the step count of an optimizer is.
    """
    assert not WAITS.match(str(func)), f"{func} inside an update"


def stays_on_meta(func: Any, found: Any) -> None:
    """Makes tensors where the agent is; numbers without a shape may be anywhere."""
    for value in found if isinstance(found, tuple | list) else (found,):
        astray = isinstance(value, Tensor) and value.dim() > 0 and value.device.type != "meta"
        assert not astray, f"{func} made a tensor on {value.device}"


@every_case
def test_an_update_passes_the_tripwire(case: str) -> None:
    agent = make(*case.split())
    minibatch = batch(agent)
    agent.update(minibatch)  # optimizers make their state at the first step
    with Watch(never_waits):
        agent.update(minibatch)


def _default_adam(parameter: Tensor) -> None:
    parameter.grad = torch.ones_like(parameter)
    torch.optim.Adam([parameter]).step()


SYNCS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: 1 if x.sum() > 0 else 2,
    "mask": lambda x: x[x > 0],
    "list": lambda x: x.tolist(),
    "array": lambda x: x.numpy(),
    "equal": lambda x: torch.equal(x, x + 1),
    "from Python": lambda x: x + torch.tensor([1.0, 2.0, 3.0]),
    "default Adam": _default_adam,
}


@pytest.mark.parametrize("sync", SYNCS)
def test_one_of_the_two_guards_sees_it(sync: str) -> None:
    seen = []
    for guard in (FakeTensorMode(), Watch(never_waits)):
        try:
            with guard:
                SYNCS[sync](torch.randn(3))
        except (RuntimeError, AssertionError) as error:
            seen.append(error)
    assert seen


@every_method
def test_losses_trace_as_one_graph(name: str) -> None:
    agent = make(name)
    for loss, arguments in losses(agent, batch(agent)).values():
        torch._dynamo.reset()
        torch.compile(loss, fullgraph=True, backend="eager")(*arguments)


@every_case
def test_all_is_computed_on_the_agents_device(case: str) -> None:
    """On PyTorch's device without memory, so that no GPU is needed to see a tensor made on the CPU."""
    agent = make(*case.split())
    minibatch = on("meta", batch(agent))
    agent.to("meta")
    with Watch(stays_on_meta):
        for loss, arguments in losses(agent, minibatch).values():
            loss(*arguments)
        agent.objective.reward(minibatch)
        agent.objective.sample_skills(3)
        agent.objective.evaluation_skills(3)
        agent.objective.represent(minibatch.obs)
        agent.objective.goal_skill(minibatch.obs, minibatch.next_obs)
        agent.act(minibatch.obs, minibatch.skill)


# ---- what an update does


def parameters(agent: Agent) -> Iterator[tuple[Minimizer, dict[str, nn.Parameter]]]:
    """Every optimizer with its parameters by name."""
    names = {id(param): key for key, param in agent.named_parameters()}
    for minimizer in agent.minimizers().values():
        yield minimizer, {names[id(param)]: param for param in minimizer.params}


def gradients_of_rounding(agent: Agent) -> set[str]:
    """Parameters whose gradient is zero but for rounding: Adam, blind to size, may move them all the same."""
    found = set()
    for _, group in parameters(agent):
        size = {key: param.grad.abs().max().item() for key, param in group.items() if param.grad is not None}
        found |= {key for key, value in size.items() if value < 1e-6 * max(size.values())}
    return found


def without_a_rate(agent: Agent) -> set[str]:
    """Parameters that are not to be learned."""
    groups = (group for minimizer, group in parameters(agent) if minimizer.adam.param_groups[0]["lr"] == 0)
    return {key for group in groups for key in group}


@every_case
def test_an_update_moves_exactly_the_expected_parameters(case: str) -> None:
    torch.manual_seed(0)
    agent = make(*case.split())
    before = {key: value.clone() for key, value in agent.named_parameters()}
    agent.update(batch(agent))
    still = {key for key, value in agent.named_parameters() if torch.equal(value, before[key])}
    idle = still | gradients_of_rounding(agent)
    assert idle == IDLE.get(case, IDLE.get(case.split()[0], set())) | without_a_rate(agent)


@every_case
def test_an_update_follows_every_minimizer_once(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make(*case.split())
    stepped: list[Minimizer] = []
    step = Minimizer.step

    def note(self: Minimizer, loss: Tensor) -> Tensor:
        stepped.append(self)
        return step(self, loss)

    monkeypatch.setattr(Minimizer, "step", note)
    agent.update(batch(agent))
    assert sorted(map(id, stepped)) == sorted(map(id, agent.minimizers().values()))


@every_method
def test_no_parameter_has_two_minimizers(name: str) -> None:
    owned = [id(param) for minimizer in make(name).minimizers().values() for param in minimizer.params]
    assert len(owned) == len(set(owned))


@every_case
def test_an_update_leaves_the_batch_alone(case: str) -> None:
    agent = make(*case.split())
    minibatch = batch(agent)
    kept, versions = copy.deepcopy(minibatch), [tensor._version for tensor in minibatch]
    agent.update(minibatch)
    assert all(torch.equal(a, b) for a, b in zip(minibatch, kept, strict=True))
    assert versions == [tensor._version for tensor in minibatch], "written to and written back"


@every_method
def test_an_update_fits_any_number_of_skills_and_any_batch(name: str) -> None:
    agent = make(name, *(["agent.skill_dim=7"] if name != "task" else []))
    metrics = agent.update(batch(agent, 20))
    assert all(torch.isfinite(value) for value in metrics.values())


@every_method
def test_losses_change_no_parameter_and_leave_no_gradient(name: str) -> None:
    agent = make(name)
    before = {key: value.clone() for key, value in agent.named_parameters()}
    for loss, arguments in losses(agent, batch(agent)).values():
        found = loss(*arguments)
        assert (found[0] if isinstance(found, tuple) else found).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in agent.named_parameters())
    assert all(value.grad is None for value in agent.parameters())


@every_case
def test_a_resumed_agent_goes_on_bit_for_bit(case: str) -> None:
    torch.manual_seed(0)
    agent = make(*case.split())
    minibatch = batch(agent)
    for _ in range(2):
        agent.update(minibatch)
    file = io.BytesIO()
    torch.save({"agent": agent.full_state(), "rng": torch.get_rng_state()}, file)
    agent.update(minibatch)

    torch.manual_seed(1)
    other = make(*case.split())
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_full_state(state["agent"])
    torch.set_rng_state(state["rng"])
    other.update(minibatch)
    found, want = leaves(other.full_state()), leaves(agent.full_state())
    assert found.keys() == want.keys()
    for key, value in want.items():
        same = torch.equal(value, found[key]) if isinstance(value, Tensor) else value == found[key]
        assert same, key


# ---- skills


def obeys(skills: Tensor, prior: Prior) -> None:
    """Every row is a skill that the prior can give."""
    assert skills.dtype == torch.float32
    if prior == "one_hot":
        assert set(skills.unique().tolist()) <= {0.0, 1.0}
        assert (skills.sum(1) == 1).all()
    elif prior == "sphere":
        torch.testing.assert_close(skills.norm(dim=1), torch.ones(len(skills)))
    elif prior == "box":
        assert skills.abs().max() <= 1
    assert torch.isfinite(skills).all()


def is_drawn_from(skills: Tensor, prior: Prior) -> None:
    """Many rows have the prior's moments, each within five standard errors."""
    n, dim = skills.shape
    obeys(skills, prior)
    error = 5 * n**-0.5
    variance = {"sphere": 1 / dim, "gaussian": 1.0, "box": 1 / 3, "one_hot": 1 / dim}[prior]
    if prior == "one_hot":
        assert (skills.mean(0) - 1 / dim).abs().max() < error * variance**0.5
        return
    assert skills.mean(0).abs().max() < error * variance**0.5
    moment = skills.T @ skills / n
    assert (moment - variance * torch.eye(dim)).abs().max() < error * variance * 1.5
    kurtosis = (skills**4).mean() / variance**2
    assert kurtosis == pytest.approx(
        {"sphere": 3 * dim / (dim + 2), "gaussian": 3, "box": 9 / 5}[prior], abs=10 * error
    )


def with_prior(which: Prior, skill_dim: int) -> Objective:
    """An objective that learns nothing."""

    class Bare(Objective):
        prior = which

        def build(self) -> list[nn.Parameter]:
            self.unused = nn.Parameter(torch.zeros(1))
            return [self.unused]

    return Bare(ObjectiveConfig("bare", skill_dim, (), 1e-3), SPEC)


PRIORS: list[Prior] = ["sphere", "gaussian", "box", "one_hot"]


@pytest.mark.parametrize("prior", PRIORS)
def test_each_prior_is_what_its_name_says(prior: Prior) -> None:
    torch.manual_seed(0)
    is_drawn_from(with_prior(prior, 3).sample_skills(20_000), prior)


@every_case
def test_skills_come_from_the_declared_prior(case: str) -> None:
    torch.manual_seed(0)
    objective = make(*case.split()).objective
    skills = objective.sample_skills(20_000)
    assert skills.shape == (20_000, objective.cfg.skill_dim)
    if objective.cfg.skill_dim:
        is_drawn_from(skills, objective.prior)


@every_method
def test_evaluation_skills_come_from_it_too_and_one_hot_ones_in_turn(name: str) -> None:
    torch.manual_seed(0)
    objective = make(name).objective
    if objective.prior == "one_hot":
        dim = objective.cfg.skill_dim
        count = objective.evaluation_skills(48).sum(0)
        assert count.tolist() == [48 // dim + (i < 48 % dim) for i in range(dim)]
        obeys(objective.evaluation_skills(48), "one_hot")
    elif objective.cfg.skill_dim:
        is_drawn_from(objective.evaluation_skills(20_000), objective.prior)


@pytest.mark.parametrize(("dim", "want"), [(5, [10, 10, 10, 9, 9]), (48, [1] * 48), (50, [1] * 48 + [0, 0])])
def test_one_hot_skills_are_evaluated_in_turn(dim: int, want: list[int]) -> None:
    skills = with_prior("one_hot", dim).evaluation_skills(48)
    obeys(skills, "one_hot")
    assert skills.sum(0).tolist() == want


@every_case
def test_the_skill_that_leads_to_a_goal_is_a_skill(case: str) -> None:
    torch.manual_seed(0)
    agent = make(*case.split()).eval()
    obs, goal = torch.randn(2, 64, *SPEC.obs_shape)
    with torch.no_grad():
        skill = agent.objective.goal_skill(obs, goal)
        if skill is None:
            return
        assert skill.shape == (64, agent.objective.cfg.skill_dim)
        obeys(skill, agent.objective.prior)
        there, elsewhere = (agent.objective.goal_skill(*pair) for pair in ((goal, goal), (obs, goal.flip(0))))
    assert there is not None
    assert torch.isfinite(there).all()
    assert elsewhere is not None
    assert not torch.equal(skill, elsewhere), "the goal has no say"


@every_method
def test_a_representation_has_a_row_for_each_observation(name: str) -> None:
    agent = make(name).eval()
    with torch.no_grad():
        found = agent.objective.represent(torch.randn(5, *SPEC.obs_shape))
    if found is not None:
        assert found.shape == (5, agent.objective.cfg.skill_dim)
        assert torch.isfinite(found).all()


@every_method
def test_the_reward_is_a_number_for_each_transition(name: str) -> None:
    agent = make(name)
    with torch.no_grad():
        reward = agent.objective.reward(batch(agent, 20))
    assert reward.shape == (20,)


# ---- acting


@every_method
def test_actions_fit_the_environment(name: str) -> None:
    agent = make(name)
    with torch.no_grad():
        for param in agent.backbone.parameters():
            param.mul_(100)  # far from the small actions of an untrained policy
    for rows in (1, 6):
        obs, skill = torch.randn(rows, *SPEC.obs_shape), agent.objective.sample_skills(rows)
        for mode in (False, True):
            action = agent.act(obs, skill, mode)
            assert action.shape == (rows, SPEC.action_dim)
            assert action.abs().max() <= 1
            assert not action.requires_grad


@every_method
def test_the_mode_is_always_the_same_and_a_sample_is_not(name: str) -> None:
    agent = make(name)
    obs, skill = torch.randn(6, *SPEC.obs_shape), agent.objective.sample_skills(6)
    assert torch.equal(agent.act(obs, skill, True), agent.act(obs, skill, True))
    assert not torch.equal(agent.act(obs, skill), agent.act(obs, skill))
    assert not torch.equal(agent.act(obs, skill), agent.act(obs, skill, True))


@every_method
def test_an_action_depends_on_observation_and_skill(name: str) -> None:
    agent = make(name)
    obs, skill = torch.randn(6, *SPEC.obs_shape), agent.objective.evaluation_skills(6)
    assert not torch.equal(agent.act(obs, skill, True), agent.act(obs.flip(0), skill, True))
    if agent.objective.cfg.skill_dim:
        assert not torch.equal(agent.act(obs, skill, True), agent.act(obs, skill.flip(0), True))


# ---- the files

HOOKS = ("build", "cumulant", "loss", "reward", "update", "sample_skills", "represent", "goal_skill")
PAPER = re.compile(r"arXiv \d{4}\.\d{4,5}|et al\.,? \d{4}")


def methods() -> dict[str, ast.Module]:
    """The method files of csf/agents."""
    files = sorted((ROOT / "csf/agents").glob("*.py"))
    trees = {file.stem: ast.parse(file.read_text()) for file in files}
    return {stem: tree for stem, tree in trees.items() if stem not in ("__init__", "base", "agent")}


@pytest.mark.parametrize("stem", methods())
def test_a_method_file_opens_with_its_paper(stem: str) -> None:
    about = ast.get_docstring(methods()[stem]) or ""
    assert about, "no docstring"
    assert stem in NO_PAPER or PAPER.search(about), about


@pytest.mark.parametrize("stem", methods())
def test_a_method_file_defines_its_hooks_in_the_fixed_order(stem: str) -> None:
    classes = [node for node in methods()[stem].body if isinstance(node, ast.ClassDef) and node.decorator_list]
    assert any(isinstance(node, ast.FunctionDef) for cls in classes for node in cls.body)
    for cls in classes:
        order = [
            HOOKS.index(node.name) for node in cls.body if isinstance(node, ast.FunctionDef) and node.name in HOOKS
        ]
        assert order == sorted(order), f"{cls.name}: {', '.join(HOOKS)}"
