"""From the names of the CSF paper's released program to ours: how a golden case becomes an agent, and back.

A case is a npz file: `init/`, `batch/itK/`, `draw/itK/`, `after/`, `grad/` and a JSON document `meta_json`. `make`
builds the agent that the case's flags describe, `load` puts its parameters and buffers in, `draws` replays its random
numbers, `update` runs its iterations through `Agent.update`, and `dump` names the result as the released program does.
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
from csf.learners.rollout import FreshEpisodes
from csf.nets.actor import CategoricalActor
from csf.nets.encoder import ImageEncoder
from csf.nets.mlp import SpectralLinear
from csf.types import Batch, EnvSpec, Episodes, SomeObs, map_obs

Arrays = Mapping[str, np.ndarray]
MOMENTS = ("mean", "variance", "count")  # in the order in which a file has them


def read(name: str) -> dict[str, np.ndarray]:
    """All arrays of a case, with those of its `_init`, `_after` and `_grad` files."""
    arrays: dict[str, np.ndarray] = {}
    for path in sorted((ROOT / "tests/golden").glob(f"{name}*.npz")):
        if path.stem.removeprefix(name) in ("", "_init", "_after", "_grad"):
            with np.load(path, allow_pickle=False) as file:
                arrays.update(file)
    for group, name in (("init", "rms/before"), ("after", "rms/after")):  # a plain object there, buffers here
        if name in arrays:
            moments = arrays.pop(name).astype(np.float32)
            arrays |= {f"{group}/rms.{part}": np.array(moment) for part, moment in zip(MOMENTS, moments, strict=True)}
    return arrays


def meta_of(arrays: Arrays) -> dict[str, Any]:
    """The case's JSON document."""
    found: dict[str, Any] = json.loads(arrays["meta_json"].tobytes())
    return found


def tolerance(arrays: Arrays, name: str) -> np.ndarray:
    """How far each entry of a parameter may be from its place after an update, in the parameter's shape.

    The first step of Adam moves an entry by its learning rate in the direction of the gradient. Where that is nearly 0,
    as `adam_sensitive` lists by flat index, rounding decides on the direction.
    """
    meta = meta_of(arrays)
    found = np.full(arrays[f"init/{name}"].shape, 1e-6)
    found.flat[meta.get("adam_sensitive", {}).get(name, [])] = 2 * max(rate for rate, *_ in meta["lr"].values())
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
    if "pixel_shape" in meta:
        channels = [meta["cnn_depth"] * 2**i for i in range(len(CONVOLUTIONS))]
        common += [f"encoder.channels={channels}"]
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
    return Agent(cfg.agent, cfg.backbone, spec_of(meta), cfg.encoder)


def spec_of(meta: Mapping[str, Any]) -> EnvSpec:
    """The spaces of the case's environment."""
    flags, shape, images = flags_of(meta), meta.get("pixel_shape", [meta["obs_dim"]]), "pixel_shape" in meta
    actions = int(re.sub(r"\D", "", str(meta["action"])))
    discrete = flags.get("policy_type") == "categorical" or flags.get("use_discrete_sac") == "1"
    kind, behind = ("uint8", meta["state_dim"]) if images else ("float32", 0)
    return EnvSpec("golden", "", tuple(shape), kind, actions, discrete, 200, 2, (), 1.0, None, None, vector_dim=behind)


# What the released program has and we have not, by the beginning of the names, and why. None of it has a gradient or
# changes, but for what `CHANGING` names.
# On images, the parts behind an encoder are in `module`.
UNUSED = {
    "option_policy._module.module._init_std": "the policy's deviation is a network",
    "option_policy._module.module.min_std_param": "the bounds of the deviation are constants here",
    "option_policy._module.module.max_std_param": "the bounds of the deviation are constants here",
    "traj_encoder.module._init_std": "only the mean of the encoder is used",
    "traj_encoder.module.min_std_param": "only the mean of the encoder is used",
    "traj_encoder.module._log_std_module.": "only the mean of the encoder is used",
    "option_policy._module._init_std": "the policy's deviation is a network",
    "option_policy._module.min_std_param": "the bounds of the deviation are constants here",
    "option_policy._module.max_std_param": "the bounds of the deviation are constants here",
    "traj_encoder._init_std": "only the mean of the encoder is used",
    "traj_encoder.min_std_param": "only the mean of the encoder is used",
    "traj_encoder._log_std_module.": "only the mean of the encoder is used",
    "traj_encoder._mean_module.": "DADS has no encoder",
    "z_encoder._init_std": "only the mean of the encoder of skills is used",
    "z_encoder.min_std_param": "only the mean of the encoder of skills is used",
    "z_encoder._log_std_module.": "only the mean of the encoder of skills is used",
    "pred_net._init_std": "only the mean of the encoder of transitions is used",
    "pred_net.min_std_param": "only the mean of the encoder of transitions is used",
    "pred_net._log_std_module.": "only the mean of the encoder of transitions is used",
    "skill_dynamics.init_std": "the deviation of the dynamics is one",
    "skill_dynamics.min_std_param": "the deviation of the dynamics is one",
    "dual_lam.param": "only METRA has a multiplier",
}
# Spectral vectors of a network that is evaluated there although its output is not used.
CHANGING = re.compile(r"z_encoder\._log_std_module\..*\.weight_[uv]")

# Ours -> theirs. Weights of an ensemble are [E, I, O] here and [O, I] per network there.
ACTOR = "option_policy._module."
CONVOLUTIONS = (0, 3, 6, 9)  # their places among the layers of the released encoder
NORMS = {"input_norm": "_sd_input_batch_norm.", "target_norm": "_sd_target_batch_norm."}
MODULES = {
    "phi": "traj_encoder._mean_module.",
    "discriminator": "traj_encoder._mean_module.",
    "dynamics": "skill_dynamics._mean_module.",
    "skill_net": "z_encoder._mean_module.",
    "transition_net": "pred_net._mean_module.",
}


def dump(agent: Agent) -> dict[str, np.ndarray]:
    """A copy of every parameter and buffer under the released program's name."""
    return {name: value.detach().numpy().copy() for name, value in _named(agent, lambda tensor: tensor).items()}


def gradients(agent: Agent) -> dict[str, np.ndarray]:
    """The gradient that each parameter's last step followed, under the released program's name; none, no entry."""

    def grad(tensor: Tensor) -> Tensor:
        return torch.full_like(tensor, float("nan"), dtype=torch.float32) if tensor.grad is None else tensor.grad

    found = {name: value.detach().numpy() for name, value in _named(agent, grad).items()}
    return {name: value for name, value in found.items() if not np.isnan(value).all()}


def load(agent: Agent, arrays: Arrays, group: str = "init") -> None:
    """Put a group of the case's parameters and buffers into the agent."""
    with torch.no_grad():
        for name, place in _named(agent, lambda tensor: tensor.data).items():
            place.copy_(torch.as_tensor(arrays[f"{group}/{name}"]))


def _named(agent: Agent, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Views of what `of` gives for each parameter and buffer, in the released program's names and shapes."""
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
    for ours, theirs_prefix in NORMS.items():
        if hasattr(objective, ours):
            norm = getattr(objective, ours)
            tensors = [*norm.named_parameters(), *norm.named_buffers()]
            found |= {theirs_prefix + name: of(tensor) for name, tensor in tensors}
    if hasattr(objective, "moments"):
        found |= {f"rms.{part}": of(getattr(objective.moments, part)) for part in MOMENTS}
    return found


def _actor(actor: Any, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    found = _convolutions(ACTOR, actor.encoder, of)
    head = ACTOR + ("module." if found else "")
    if isinstance(actor, CategoricalActor):
        return found | _layers(head + "_logits_module.", actor.logits, of, output=True)
    shared = head + "_shared_mean_log_std_network."
    found |= _layers(shared, actor.trunk, of)
    for i in range(2):
        for kind in ("weight", "bias"):
            found[f"{shared}_output_layers.{i}.linear.{kind}"] = of(getattr(actor.heads, kind)).chunk(2)[i]
    return found


def _critics(theirs: str, ours: Any, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for head, member in enumerate(getattr(ours.encoder, "members", ())):
        found |= _convolutions(f"{theirs}{head + 1}.", member, of)
    module = "module." if found else ""
    last = len(ours.weights) - 1
    for i, (weight, bias) in enumerate(zip(ours.weights, ours.biases, strict=True)):
        place = "_output_layers.0" if i == last else f"_layers.{i}"
        for head in range(2):
            found[f"{theirs}{head + 1}.{module}{place}.linear.weight"] = of(weight)[head].T
            found[f"{theirs}{head + 1}.{module}{place}.linear.bias"] = of(bias)[head, 0]
    return found


def _convolutions(theirs: str, encoder: Any, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Views of the convolutions of a network's encoder; none if its observations are vectors."""
    if not isinstance(encoder, ImageEncoder):
        return {}
    layers = [layer for layer in encoder.layers if isinstance(layer, torch.nn.Conv2d)]
    return {
        f"{theirs}encoder.encoder._conv_model.{place}.{kind}": of(getattr(layer, kind))
        for place, layer in zip(CONVOLUTIONS, layers, strict=True)
        for kind in ("weight", "bias")
    }


def _layers(
    prefix: str, net: torch.nn.Module, of: Callable[[Tensor], Tensor], output: bool = False
) -> dict[str, Tensor]:
    linear = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
    network, _, rest = prefix.partition(".")
    found = _convolutions(f"{network}.", getattr(net, "encoder", None), of)
    if found:
        prefix = f"{network}.module.{rest}"
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
    """The minibatch of an iteration; there are rewards without a method, and skills with one."""
    group = f"batch/it{iteration}"

    def tensor(name: str, *shape: int) -> Tensor:
        absent = np.zeros(shape, np.float32)
        return torch.from_numpy(arrays.get(f"{group}/{name}", absent)).float()

    before, after = (observation(arrays, f"{group}/{name}") for name in ("obs", "next_obs"))
    action, terminal = (torch.from_numpy(arrays[f"{group}/{name}"]).float() for name in ("actions", "dones"))
    rows = len(action)
    return Batch(before, action, after, tensor("rewards", rows), terminal, tensor("options", rows, 0))


def observation(arrays: Arrays, name: str) -> SomeObs:
    """Observations as the agent takes them; images are stored flat, in the order row, column, channel."""
    rows, shape = torch.from_numpy(arrays[name]), meta_of(arrays).get("pixel_shape")
    if shape is None:
        return rows.float()
    image = rows.reshape(*rows.shape[:-1], *shape)
    behind = arrays.get(f"{name}_state")
    return image if behind is None else {"image": image, "vector": torch.from_numpy(behind).float()}


def rollouts(agent: Agent, arrays: Arrays) -> FreshEpisodes:
    """The trajectories of a case of PPO, all of one length, appraised; with the case's own log-densities if it has any.

    Those differ from ours where an action is saturated.
    """

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(arrays[f"batch/it0/{name}"]).float()

    obs, reward = observation(arrays, "batch/it0/obs"), tensor("rewards")
    paths, steps = tensor("actions").shape[:2]
    # PPO never looks at an observation behind its step.
    behind = map_obs(lambda rows: torch.cat([rows, rows[:, -1:]], 1), obs)
    nothing = torch.zeros(paths, steps)
    length, coord = torch.full((paths,), steps), torch.zeros(paths, steps + 1, 0)
    fresh = FreshEpisodes(agent)
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
