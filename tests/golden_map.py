"""From the names of the CSF paper's released program to ours: how a golden case becomes an agent, and back.

A case is a npz file: `init/`, `batch/itK/`, `draw/itK/`, `after/`, `grad/` and a JSON document `meta_json`. `make`
builds the agent that the case's flags describe, `load` puts its parameters in, `draws` replays its random numbers,
`update` runs its iterations through `Agent.update`, and `dump` names the result as the released program does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import torch
from conftest import ROOT
from torch import Tensor

from csf.agents import Agent
from csf.config import check
from csf.types import Batch, EnvSpec

Arrays = Mapping[str, np.ndarray]


def read(name: str) -> dict[str, np.ndarray]:
    """All arrays of a case, with those of its `_init`, `_after` and `_grad` files."""
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((ROOT / "tests/golden").glob(f"{name}*.npz")):
        if path.stem.removeprefix(name) in ("", "_init", "_after", "_grad"):
            with np.load(path, allow_pickle=False) as file:
                arrays.update(file)
    return arrays


def meta_of(arrays: Arrays) -> dict[str, Any]:
    """The case's JSON document."""
    found: dict[str, Any] = json.loads(arrays["meta_json"].tobytes())
    return found


def flags_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """The released program's flags by name; the first value of those that take several."""
    words = [*meta["flags"], *meta["size_overrides"]]
    return {a.removeprefix("--"): b for a, b in pairwise(words) if a.startswith("--")}


def overrides(meta: Mapping[str, Any]) -> list[str]:
    """Our settings that say what the case's flags say."""
    flags, lr = flags_of(meta), meta["lr"]
    width = [int(flags["model_master_dim"])] * int(flags.get("model_master_num_layers", 2))
    hidden = "[" + ",".join(map(str, width)) + "]"
    common = [
        f"agent.hidden={hidden}",
        f"agent.backbone.hidden={hidden}",
        f"agent.backbone.lr={lr['qf'][0]}",
        f"agent.backbone.alpha_lr={lr['log_alpha'][0]}",
        f"agent.backbone.init_alpha={flags.get('alpha', '0.01')}",
        f"agent.backbone.discount={flags.get('sac_discount', '0.99')}",
        f"agent.backbone.tau={flags.get('sac_tau', '0.005')}",
    ]
    return [*METHODS[method_of(flags)](flags, lr), *common]


def method_of(flags: Mapping[str, str]) -> str:
    """Our name of the method that the flags select."""
    if flags["algo"] == "metra_sf":
        return "csf"
    return flags["algo"]


def _csf(flags: Mapping[str, str], lr: Mapping[str, list[float]]) -> list[str]:
    return [
        "agent=csf",
        f"agent.skill_dim={flags['dim_option']}",
        f"agent.lr={lr['traj_encoder'][0]}",
        f"agent.num_negatives={flags['num_negative_z']}",
        f"agent.negative_weight={flags['infonce_lam']}",
    ]


METHODS: dict[str, Callable[[Mapping[str, str], Mapping[str, list[float]]], list[str]]] = {"csf": _csf}


def make(meta: Mapping[str, Any]) -> Agent:
    """The agent that the case's flags describe, with parameters of its own."""
    cfg = check(["env=ant", *overrides(meta)])
    spec = EnvSpec("golden", "", (meta["obs_dim"],), "float32", int(meta["action"]), False, 200, 2, (), 1.0, None, None)
    return Agent(cfg.agent, cfg.backbone, spec)


# Ours -> theirs. Weights of an ensemble are [E, I, O] here and [O, I] per network there.
ACTOR, ENCODER = "option_policy._module.", "traj_encoder._mean_module."


def dump(agent: Agent) -> dict[str, np.ndarray]:
    """Every parameter under the released program's name."""
    return {name: value.detach().numpy() for name, value in _named(agent, lambda tensor: tensor).items()}


def gradients(agent: Agent) -> dict[str, np.ndarray]:
    """The gradient that each parameter's last step followed, under the released program's name."""

    def grad(tensor: Tensor) -> Tensor:
        return torch.full_like(tensor, float("nan")) if tensor.grad is None else tensor.grad

    return {name: value.detach().numpy() for name, value in _named(agent, grad).items()}


def load(agent: Agent, arrays: Arrays, group: str = "init") -> None:
    """Put a group of the case's parameters into the agent."""
    with torch.no_grad():
        for name, place in _named(agent, lambda tensor: tensor.data).items():
            place.copy_(torch.from_numpy(arrays[f"{group}/{name}"]))


def _named(agent: Agent, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Views of what `of` gives for each parameter, in the released program's names and shapes."""
    backbone: Any = agent.backbone
    objective: Any = agent.objective
    found = {"log_alpha.param": of(backbone.log_alpha).reshape(1)}
    found |= _layers(ACTOR + "_shared_mean_log_std_network.", backbone.actor.trunk, of)
    for i in range(2):
        for kind in ("weight", "bias"):
            both = of(getattr(backbone.actor.heads, kind))
            found[f"{ACTOR}_shared_mean_log_std_network._output_layers.{i}.linear.{kind}"] = both.chunk(2)[i]
    for ours, theirs in ((backbone.critic, "qf"), (backbone.target, "target_qf")):
        last = len(ours.weights) - 1
        for i, (weight, bias) in enumerate(zip(ours.weights, ours.biases, strict=True)):
            place = "_output_layers.0" if i == last else f"_layers.{i}"
            for head in range(2):
                found[f"{theirs}{head + 1}.{place}.linear.weight"] = of(weight)[head].T
                found[f"{theirs}{head + 1}.{place}.linear.bias"] = of(bias)[head, 0]
    if hasattr(objective, "phi"):
        found |= _layers(ENCODER, objective.phi, of, output=True)
    return found


def _layers(
    prefix: str, net: torch.nn.Module, of: Callable[[Tensor], Tensor], output: bool = False
) -> dict[str, Tensor]:
    linear = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
    found = {}
    for i, layer in enumerate(linear):
        place = "_output_layers.0" if output and i == len(linear) - 1 else f"_layers.{i}"
        found[f"{prefix}{place}.linear.weight"] = of(layer.weight)
        found[f"{prefix}{place}.linear.bias"] = of(layer.bias)
    return found


def batch(agent: Agent, arrays: Arrays, iteration: int = 0) -> Batch:
    """The minibatch of an iteration."""

    def tensor(name: str, default: np.ndarray) -> Tensor:
        return torch.from_numpy(arrays.get(f"batch/it{iteration}/{name}", default)).float()

    rows = len(arrays[f"batch/it{iteration}/obs"])
    nothing = np.zeros(rows, np.float32)
    return Batch(
        tensor("obs", nothing),
        tensor("actions", nothing),
        tensor("next_obs", nothing),
        tensor("rewards", nothing),
        tensor("dones", nothing),
        tensor("options", np.zeros((rows, 0), np.float32)),
    )


@contextmanager
def draws(arrays: Arrays) -> Iterator[None]:
    """Inside, PyTorch's random numbers are the recorded ones, in their order; all must be used."""
    queue = ["draw/" + name.removeprefix("draw/") for name in meta_of(arrays)["draw_order"]]

    def take(kind: str) -> Callable[..., Tensor]:
        def draw(*args: Any, **_: Any) -> Tensor:
            name = queue.pop(0)
            value = torch.from_numpy(arrays[name])
            assert ("u01" in name) == (kind == "rand"), f"{name} was asked for as {kind}"
            shape = (
                args[0].shape
                if isinstance(args[0], Tensor)
                else torch.Size(args[0] if isinstance(args[0], tuple | list | torch.Size) else args)
            )
            assert value.shape == shape, f"{name} has shape {value.shape}, {shape} was asked for"
            return value

        return draw

    with (
        mock.patch.object(torch, "randn", take("randn")),
        mock.patch.object(torch, "randn_like", take("randn")),
        mock.patch.object(torch, "rand", take("rand")),
        mock.patch.object(torch, "rand_like", take("rand")),
    ):
        yield
    assert not queue, f"recorded draws were not used: {queue}"


def update(agent: Agent, arrays: Arrays) -> list[dict[str, float]]:
    """Run all of the case's iterations through `Agent.update`; the metrics of each."""
    with draws(arrays):
        rows = [agent.update(batch(agent, arrays, i)) for i in range(meta_of(arrays)["iterations"])]
    return [{name: value.item() for name, value in row.items()} for row in rows]
