"""From the names of the CSF paper's released program to ours: how a golden case becomes an agent, and back.

A case is a npz file: `init/`, `batch/itK/`, `draw/itK/`, `after/`, `grad/` and a JSON document `meta_json`. `make`
builds the agent that the case's flags describe, `load` puts its parameters in, `draws` replays its random numbers,
`update` runs its iterations through `Agent.update`, and `dump` names the result as the released program does.
"""

from __future__ import annotations

import json
import re
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
from csf.config.compose import check
from csf.learners.rollout import Rollouts
from csf.nets.actor import CategoricalActor
from csf.nets.mlp import SpectralLinear
from csf.types import Batch, EnvSpec, Episodes

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
    backbone = backbone_of(flags)
    width = [int(flags["model_master_dim"])] * int(flags.get("model_master_num_layers", 2))
    hidden = "[" + ",".join(map(str, width)) + "]"
    common = [
        f"agent.hidden={hidden}",
        f"agent.backbone.hidden={hidden}",
        f"agent.backbone.lr={lr.get('qf', lr['option_policy'])[0]}",
        f"agent.backbone.discount={flags.get('sac_discount', '0.99')}",
    ]
    if backbone == "ppo":
        common += [f"agent.backbone.entropy_weight={flags.get('alpha', '0.01')}"]
    else:
        common += [
            f"agent.backbone.alpha_lr={lr['log_alpha'][0]}",
            f"agent.backbone.init_alpha={flags.get('alpha', '0.01')}",
            f"agent.backbone.tau={flags.get('sac_tau', '0.005')}",
        ]
    return [*settings(flags, lr), f"agent/backbone={backbone}", *common]


def method_of(flags: Mapping[str, str]) -> str:
    """Our name of the method that the flags select."""
    if flags["algo"] == "metra_sf":
        return "visr" if flags.get("no_diff_in_rep") == "1" else "csf"
    if flags["algo"] == "metra" and flags.get("inner") == "0" and flags.get("metra_mlp_rep") != "1":
        return "diayn"
    if flags["algo"] == "metra" and flags.get("log_sum_exp") == "1":
        return "csf"
    return "task" if flags["algo"] in ("sac", "ppo") else flags["algo"]


def backbone_of(flags: Mapping[str, str]) -> str:
    """Our name of what improves the policy."""
    if flags["algo"] in ("metra_sf", "ppo"):
        return {"metra_sf": "successor", "ppo": "ppo"}[flags["algo"]]
    return "discrete_sac" if flags.get("use_discrete_sac") == "1" else "sac"


def settings(flags: Mapping[str, str], lr: Mapping[str, list[float]]) -> list[str]:
    """Our settings of the method's own part."""
    method = method_of(flags)
    if method == "task":
        return ["agent=task"]
    found = {"skill_dim": flags["dim_option"], "lr": lr.get("traj_encoder", [None])[0]}
    pair = {"features": "pair"} if flags.get("metra_mlp_rep") == "1" else {}
    if method == "csf":
        fresh = flags.get("sample_new_z") == "1"
        found |= {
            "negatives": "fresh" if fresh else "batch",
            "num_negatives": flags.get("num_negative_z", "256"),
            **pair,
        }
        found |= {"negative_weight": flags.get("infonce_lam", "1.0")}
        found |= {"reward_contrast": str(flags.get("add_log_sum_exp_to_rewards") == "1").lower()}
    elif method == "metra":
        found |= {"prior": "one_hot" if flags.get("discrete") == "1" else "sphere", **pair}
        found |= {"slack": flags.get("dual_slack", "1e-3"), "multiplier_lr": lr["dual_lam"][0]}
        found |= {"init_multiplier": flags.get("fixed_lam", flags.get("dual_lam", "30"))}
        if "fixed_lam" in flags:
            found |= {"multiplier_lr": 0.0}
        found |= {"reward_penalty": str(flags.get("add_penalty_to_rewards") == "1").lower()}
    elif method == "dads":
        found |= {"lr": lr["skill_dynamics"][0], "num_alternatives": flags.get("num_alt_samples", "100")}
    elif method in ("cic", "visr"):
        found |= {"released": "true"}
    return [f"agent={method}", *(f"agent.{key}={value}" for key, value in found.items())]


def make(meta: Mapping[str, Any]) -> Agent:
    """The agent that the case's flags describe, with parameters of its own."""
    cfg = check(["env=ant", *overrides(meta)])
    flags, shape = flags_of(meta), (meta["obs_dim"],)
    actions = int(re.sub(r"\D", "", str(meta["action"])))
    discrete = flags.get("policy_type") == "categorical" or flags.get("use_discrete_sac") == "1"
    spec = EnvSpec("golden", "", shape, "float32", actions, discrete, 200, 2, (), 1.0, None, None)
    return Agent(cfg.agent, cfg.backbone, spec)


# Ours -> theirs. Weights of an ensemble are [E, I, O] here and [O, I] per network there.
ACTOR = "option_policy._module."
MODULES = {
    "phi": "traj_encoder._mean_module.",
    "discriminator": "traj_encoder._mean_module.",
    "dynamics": "skill_dynamics._mean_module.",
    "skill_net": "z_encoder._mean_module.",
    "transition_net": "pred_net._mean_module.",
}


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
    found = _actor(backbone.actor, of)
    if backbone.learner == "rollout":
        found |= _layers("vf.", backbone.critic, of, output=True)
    else:
        found |= {"log_alpha.param": of(backbone.log_alpha).reshape(1)}
        found |= _critics("qf", backbone.critic, of) | _critics("target_qf", backbone.target, of)
    for ours, theirs_prefix in MODULES.items():
        if hasattr(objective, ours):
            found |= _layers(theirs_prefix, getattr(objective, ours), of, output=True)
    if hasattr(objective, "log_multiplier"):
        found["dual_lam.param"] = of(objective.log_multiplier).reshape(1)
    return found


def _actor(actor: Any, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    if isinstance(actor, CategoricalActor):
        return _layers(ACTOR + "_logits_module.", actor.logits, of, output=True)
    shared = ACTOR + "_shared_mean_log_std_network."
    found = _layers(shared, actor.trunk, of)
    for i in range(2):
        for kind in ("weight", "bias"):
            found[f"{shared}_output_layers.{i}.linear.{kind}"] = of(getattr(actor.heads, kind)).chunk(2)[i]
    return found


def _critics(theirs: str, ours: Any, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    found = {}
    last = len(ours.weights) - 1
    for i, (weight, bias) in enumerate(zip(ours.weights, ours.biases, strict=True)):
        place = "_output_layers.0" if i == last else f"_layers.{i}"
        for head in range(2):
            found[f"{theirs}{head + 1}.{place}.linear.weight"] = of(weight)[head].T
            found[f"{theirs}{head + 1}.{place}.linear.bias"] = of(bias)[head, 0]
    return found


def _layers(
    prefix: str, net: torch.nn.Module, of: Callable[[Tensor], Tensor], output: bool = False
) -> dict[str, Tensor]:
    linear = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
    found = {}
    for i, layer in enumerate(linear):
        place = "_output_layers.0" if output and i == len(linear) - 1 else f"_layers.{i}"
        spectral = isinstance(layer, SpectralLinear)
        found[f"{prefix}{place}.linear.weight{'_orig' if spectral else ''}"] = of(layer.weight)
        found[f"{prefix}{place}.linear.bias"] = of(layer.bias)
        if isinstance(layer, SpectralLinear):
            found[f"{prefix}{place}.linear.weight_u"] = of(layer.left)
            found[f"{prefix}{place}.linear.weight_v"] = of(layer.right)
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


def rollouts(agent: Agent, arrays: Arrays) -> Rollouts:
    """The trajectories of a case of PPO, all of one length, appraised; with the case's own log-densities if it has any.

    Those differ from ours where an action is saturated.
    """

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[f"batch/it0/{name}"]).float()

    obs, reward = tensor("obs"), tensor("rewards")
    paths, steps = obs.shape[:2]
    # PPO never looks at an observation behind its step.
    behind, nothing = torch.cat([obs, obs[:, -1:]], 1), torch.zeros(paths, steps)
    length, coord = torch.full((paths,), steps), torch.zeros(paths, steps + 1, 0)
    fresh = Rollouts(agent)
    reward = reward.reshape(paths, steps)
    fresh.add(Episodes(behind, tensor("actions"), reward, nothing, torch.zeros(paths, 0), length, coord))
    for name in (key.removeprefix("batch/it0/") for key in arrays if key.startswith("batch/it0/")):
        if "log_prob" in name and fresh.rollout is not None:
            fresh.rollout = fresh.rollout._replace(log_prob=tensor(name).flatten())
    return fresh


@contextmanager
def draws(arrays: Arrays) -> Iterator[None]:
    """Inside, PyTorch's random numbers are the recorded ones, in their order; all must be used."""
    queue = ["draw/" + name.removeprefix("draw/") for name in meta_of(arrays)["draw_order"]]

    def take(kind: str) -> Callable[..., Tensor]:
        def draw(*args: Any, **_: Any) -> Tensor:
            name = queue.pop(0)
            value = torch.from_numpy(arrays[name])
            assert kind == ("rand" if "u01" in name else "randint" if "idx" in name else "randn"), f"{name} as {kind}"
            first = args[1] if kind == "randint" else args[0]  # of randint, the bound comes first
            shape = (
                first.shape
                if isinstance(first, Tensor)
                else torch.Size(first if isinstance(first, tuple | list | torch.Size) else args)
            )
            assert value.shape == shape, f"{name} has shape {value.shape}, {shape} was asked for"
            return value

        return draw

    with (
        mock.patch.object(torch, "randn", take("randn")),
        mock.patch.object(torch, "randn_like", take("randn")),
        mock.patch.object(torch, "rand", take("rand")),
        mock.patch.object(torch, "rand_like", take("rand")),
        mock.patch.object(torch, "randint", take("randint")),
    ):
        yield
    assert not queue, f"recorded draws were not used: {queue}"


def update(agent: Agent, arrays: Arrays) -> list[dict[str, float]]:
    """Run all of the case's iterations through `Agent.update`; the metrics of each."""
    meta, backbone = meta_of(arrays), agent.backbone
    fresh = rollouts(agent, arrays) if backbone.learner == "rollout" else None
    with draws(arrays):
        rows = []
        for i in range(meta["iterations"]):
            given = batch(agent, arrays, i) if fresh is None else fresh.gather(fresh.sample_index(meta["batch_size"]))
            rows.append(agent.update(given))  # type: ignore[arg-type]
    return [{name: value.item() for name, value in row.items()} for row in rows]
