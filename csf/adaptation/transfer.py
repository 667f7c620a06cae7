"""What an agent for a task takes over from a pretrained agent with one fixed skill.

With a fixed skill, its columns in the first layer of a network add a constant. This constant is added to the bias, so
that the task's agent has no skill as input and otherwise computes the same. Columns that a task appends to the
observations have weight 0 in the policy at first.

| backbone of the skills | policy | `critics=copy` | `critics=value_body` | `critics=discriminator_body` |
|---|---|---|---|---|
| `sac`, `discrete_sac`, `successor` | copied | both critics | no | yes |
| `ppo` | copied | no | value network without its output | yes |
| `es` | copied, with `init_std` | no | no | yes |
| `pets` | imitated, with `init_std` | no | no | yes |

A body is a network without its output layer. Weights that it does not have, those of actions and of the output, are
initialized as usual and independently for both critics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from csf.agents import Agent
from csf.backbones.ppo import PPO
from csf.backbones.sac import SAC
from csf.core.precision import refresh
from csf.errors import ConfigError
from csf.nets.actor import CategoricalActor, GaussianActor
from csf.nets.encoder import Encoder, EnsembleEncoder
from csf.nets.mlp import EnsembleMLP, SpectralLinear

WITHOUT_STD = ("es", "pets")  # backbones whose policies are deterministic
COPIED = ("sac", "discrete_sac", "successor")  # backbones with action-value critics


@torch.no_grad()
def copy_policy(source: Agent, target: Agent, skill: Tensor, init_std: float) -> None:
    """Copy the policy of one skill; for those without a standard deviation, it becomes `init_std`.

    Args:
        source: the pretrained agent; its backbone has an actor.
        target: the task's agent, with the same layers.
        skill: [Z].
        init_std: standard deviation of actions before the tanh.

    Raises:
        ConfigError: the layers differ.
    """
    old, new = source.backbone.actor, target.backbone.actor
    _copy_encoder(source, target)
    kept = {name: value for name, value in old.state_dict().items() if not name.startswith("encoder.")}
    name = _first(old)
    features, added = _widths(source, target)
    weight, bias = fold(kept[f"{name}.weight"], kept[f"{name}.bias"], features, skill)
    kept |= {f"{name}.weight": torch.cat([weight, weight.new_zeros(len(weight), added)], 1), f"{name}.bias": bias}
    kept |= {name: value for name, value in old.state_dict().items() if name.startswith("encoder.")}
    _load(new, kept, "task.policy=skill")
    if source.backbone.cfg.name in WITHOUT_STD:
        set_std(target, init_std)
    refresh(target.parameters())


@torch.no_grad()
def set_std(target: Agent, std: float) -> None:
    """Give a Gaussian policy the same standard deviation `std`, before the tanh, in all states; no others have one."""
    actor = target.backbone.actor
    if isinstance(actor, GaussianActor):
        _, weight = actor.heads.weight.chunk(2)
        _, bias = actor.heads.bias.chunk(2)
        weight.zero_()
        bias.fill_(math.log(std))
    refresh(target.parameters())


def initialize_critics(source: Agent, target: Agent, skill: Tensor, kind: str) -> None:
    """Initialize the critics of the task's agent, and their targets, from the pretrained agent.

    Args:
        source: the pretrained agent, with its critics if they are needed.
        target: the task's agent, with fresh critics.
        skill: [Z].
        kind: value of `task.critics`.

    Raises:
        ConfigError: the pretrained agent has no such network, or its layers differ.
    """
    if kind != "fresh":
        {"copy": copy_critics, "value_body": _copy_value, "discriminator_body": _copy_discriminator}[kind](
            source, target, skill
        )
        backbone = cast(SAC, target.backbone)
        backbone.target.load_state_dict(backbone.critic.state_dict())
        refresh(target.parameters())


def needs_critics(kind: str) -> bool:
    """Whether a value of `task.critics` needs the critics of the pretrained agent, which not every file has."""
    return kind in ("copy", "value_body")


def fold(weight: Tensor, bias: Tensor, features: int, skill: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a fixed skill [Z] at inputs `features` to `features` + Z of a layer by a bias.

    Args:
        weight: [H, I].
        bias: [H].
        features: number of inputs before the skill.
        skill: [Z].

    Returns:
        Weight [H, I - Z] and bias [H].
    """
    before, own, after = weight.split([features, len(skill), weight.shape[1] - features - len(skill)], 1)
    return torch.cat([before, after], 1), bias + own @ skill


@torch.no_grad()
def copy_critics(source: Agent, target: Agent, skill: Tensor) -> None:
    """Copy both critics; successor features become the value of the skill."""
    kind, (features, added) = source.backbone.cfg.name, _widths(source, target)
    if kind not in COPIED or source.spec.discrete != target.spec.discrete:
        raise ConfigError(f"task.critics is copy; accepted with skills of agent/backbone={kind}: {_accepted(kind)}")
    old, new = cast(SAC, source.backbone).critic, cast(SAC, target.backbone).critic
    state = old.state_dict()
    pairs = [fold(w.T, b[0], features, skill) for w, b in zip(state["weights.0"], state["biases.0"], strict=True)]
    fresh = new.weights[0][:, features : features + added]  # inputs that only the task has
    weights = torch.stack([weight.T for weight, _ in pairs])
    state["weights.0"] = torch.cat([weights[:, :features], fresh, weights[:, features:]], 1)
    state["biases.0"] = torch.stack([bias[None] for _, bias in pairs])
    if kind == "successor":
        last = len(old.weights) - 1
        for name in (f"weights.{last}", f"biases.{last}"):
            state[name] = state[name] @ skill[:, None]
    _load(new, state, "task.critics=copy")


def _copy_value(source: Agent, target: Agent, skill: Tensor) -> None:
    """Copy the body of PPO's value network into both critics."""
    if not isinstance(source.backbone, PPO):
        kind = source.backbone.cfg.name
        raise ConfigError(
            f"task.critics is value_body; accepted with skills of agent/backbone={kind}: {_accepted(kind)}"
        )
    _copy_body(source.backbone.critic, source, target, skill, "value_body")


def _copy_discriminator(source: Agent, target: Agent, skill: Tensor) -> None:
    """Copy the body of the method's network of states into both critics."""
    body, method = source.objective.body(), source.objective.cfg.name
    if body is None:
        raise ConfigError(
            f"task.critics is discriminator_body; accepted with skills of agent={method}, which has no network of "
            f"states with these settings: {_accepted(source.backbone.cfg.name, ())}"
        )
    _copy_body(body, source, target, skill, "discriminator_body")


@torch.no_grad()
def _copy_body(body: nn.Module, source: Agent, target: Agent, skill: Tensor, kind: str) -> None:
    """Copy the hidden layers of a ReLU network of observations, or of observations and skill, into both critics."""
    critic, (features, _) = cast(SAC, target.backbone).critic, _widths(source, target)
    *hidden, _ = _linears(body)
    widths = [len(weight) for weight, _ in hidden]
    if not hidden or any(isinstance(layer, nn.BatchNorm1d | nn.LayerNorm) for layer in body.modules()):
        raise ConfigError(f"task.critics is {kind}; accepted with a network without hidden layers or with norms: fresh")
    if widths != [bias.shape[-1] for bias in critic.biases[:-1]]:
        raise ConfigError(
            f"task.critics is {kind}, but that network has hidden layers {widths}; accepted with critics of "
            f"agent.backbone.hidden={[bias.shape[-1] for bias in critic.biases[:-1]]}: fresh"
        )
    (weight, bias), *others = hidden
    if weight.shape[1] == features + len(skill):
        weight, bias = fold(weight, bias, features, skill)
    critic.weights[0][:, :features] = weight.T  # those of columns of the task and of actions stay fresh
    critic.biases[0][:] = bias
    for i, (inner, offset) in enumerate(others, 1):
        critic.weights[i][:] = inner.T
        critic.biases[i][:] = offset
    _copy_members(source, body, critic)


def _linears(body: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weights [H, I] and biases [H] of a network's layers in order."""
    found: list[tuple[Tensor, Tensor]] = []
    for layer in body.modules():
        if isinstance(layer, SpectralLinear):
            found.append((layer.weight / (layer.left @ (layer.weight @ layer.right)), layer.bias))
        elif isinstance(layer, nn.Linear):
            found.append((layer.weight, layer.bias))
    return found


def _copy_encoder(source: Agent, target: Agent) -> None:
    """Copy the encoder that all networks of an agent share, if there is one."""
    if source.encoder is not None and target.encoder is not None:
        target.encoder.load_state_dict(source.encoder.state_dict())


def _copy_members(source: Agent, body: nn.Module, critic: EnsembleMLP) -> None:
    """Copy the encoder of a body into those of the critics, if they have their own."""
    encoder = getattr(body, "encoder", None) or getattr(source.objective, "encoder", None)
    if isinstance(critic.encoder, EnsembleEncoder) and isinstance(encoder, nn.Module):
        for member in critic.encoder.members:
            member.load_state_dict(encoder.state_dict())


def _widths(source: Agent, target: Agent) -> tuple[int, int]:
    """Number of features of an observation in the pretrained agent, and how many more there are in the task."""
    old, new = (_features(agent) for agent in (source, target))
    return old, new - old


def _features(agent: Agent) -> int:
    if agent.encoder is not None:
        return agent.encoder.out_dim
    if not agent.spec.has_image:
        return agent.spec.obs_dim
    return next(part.out_dim for part in agent.backbone.modules() if isinstance(part, Encoder))


def _first(actor: GaussianActor | CategoricalActor) -> str:
    """The name of a policy's first layer."""
    return "logits.0" if isinstance(actor, CategoricalActor) else "trunk.0"


def _load(new: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load a state whose shapes may differ.

    Raises:
        ConfigError: they do.
    """
    there = {name: tuple(value.shape) for name, value in new.state_dict().items()}
    here = {name: tuple(value.shape) for name, value in state.items()}
    if there != here:
        name = next(name for name in {**there, **here} if there.get(name) != here.get(name))
        raise ConfigError(
            f"{what}: {name} has shape {here.get(name)} in the pretrained agent, {there.get(name)} here; "
            "accepted: the same agent.backbone.hidden and encoder.channels"
        )
    new.load_state_dict(state)


def _accepted(backbone: str, more: Sequence[str] = ("discriminator_body",)) -> str:
    """The accepted values of `task.critics` for skills of a backbone."""
    own = {"ppo": ["value_body"]}.get(backbone, ["copy"] if backbone in COPIED else [])
    return ", ".join(["fresh", *own, *more])
