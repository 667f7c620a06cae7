"""Agent: an objective (what to learn) combined with a backbone (how to act)."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from csf.agents.base import Objective, objectives
from csf.backbones import Backbone, backbones
from csf.core.compile import CapturedPolicy, Recorder
from csf.core.inputs import fits, rows, whole
from csf.core.optim import Minimizer
from csf.core.packed import acting
from csf.core.precision import Precision, computed_with, make_copies, refresh
from csf.errors import ConfigError
from csf.nets.encoder import OWN, Encoder, EncoderConfig, NetworkSpec, make_encoder
from csf.types import Batch, EnvSpec, Metrics, Obs, SomeObs, cat_obs

Array = NDArray[Any]
AnyObs = Tensor | Array | dict[str, Tensor] | dict[str, Array]
Transitions = TypeVar("Transitions", bound=Any)  # a Batch or a Rollout


class Agent(nn.Module):
    """An objective and a backbone with a common interface for acting, learning and saving.

    Attributes:
        encoder: the encoder that all networks share; None if each has its own. The observations of the objective and
            the backbone are then its features [F], which `act`, `goal_skill`, `represent` and `update` compute.
    """

    encoder: Encoder | None
    objective: Objective
    backbone: Backbone

    def __init__(self, cfg: Any, backbone_cfg: Any, spec: EnvSpec, encoder: EncoderConfig = OWN) -> None:
        """Build the agent.

        Args:
            cfg: configuration of the method.
            backbone_cfg: configuration of the backbone.
            spec: description of the environment.
            encoder: configuration of the encoders of images.

        Raises:
            ConfigError: the method, the backbone or the encoder does not support the others or the environment.
        """
        super().__init__()
        _check_images(cfg.name, backbone_cfg.name, spec, encoder)
        self.spec, self.encoder_cfg, self.encoder = spec, encoder, None
        self._captured: CapturedPolicy | None = None
        self._obs_kind = spec.build_obs(lambda shape, dtype: (shape, cast(torch.dtype, getattr(torch, dtype))))
        if spec.has_image:
            spec = NetworkSpec(**vars(spec), channels=encoder.channels)
        if encoder.name == "shared":
            self.encoder = make_encoder(spec)
            spec = dataclasses.replace(spec, obs_shape=(self.encoder.out_dim,), obs_dtype="float32", vector_dim=0)
        self.objective = objectives[cfg.name](cfg, spec)
        self.backbone = backbones[backbone_cfg.name](backbone_cfg, spec, cfg.skill_dim)
        self._check(cfg.name, backbone_cfg.name)
        if self.encoder is not None:
            self._encoder_minimizer().include(self.encoder.parameters())
            # Networks that subtract outputs do so with those of the encoder.
            exact = any(getattr(part, "small_differences", False) for part in self.objective.modules())
            self.encoder.small_differences = exact

    def _check(self, method: str, backbone: str) -> None:
        """Check that the objective has the kind of reward that the backbone needs."""
        needed = {
            "needs_cumulant": ("a reward that is linear in the skill", self.objective.linear()),
            "needs_pointwise": ("rewards of single predicted transitions", self.objective.pointwise()),
        }
        lacking = {need: reward for need, (reward, given) in needed.items() if not given}
        for need, reward in lacking.items():
            if getattr(self.backbone, need):
                fit = (
                    name for name in backbones.names() if not any(getattr(backbones[name], each) for each in lacking)
                )
                raise ConfigError(
                    f"agent/backbone={backbone} needs {reward}, which "
                    f"agent={method} with these settings does not have; accepted: {', '.join(fit)}"
                )

    def _encoder_minimizer(self) -> Minimizer:
        """The optimizer of the loss that trains the shared encoder: the representation loss, otherwise the critic's."""
        found = self.objective.minimizers.get("representation") or self.backbone.minimizers.get("critic")
        if found is None:
            raise ConfigError(
                f"encoder=shared needs a loss that trains the encoder: agent={self.objective.cfg.name} has no "
                f"representation loss, and agent/backbone={self.backbone.cfg.name} no critic; accepted: encoder=own"
            )
        return found

    @acting()
    def act(self, obs: AnyObs, skill: Tensor | Array, mode: bool = False, /) -> Tensor:
        """[N, *O], [N, Z] -> actions [N, A] in [-1, 1]; `mode` selects the policy's mode instead of a sample.

        Tensors of the dtype in the specification (observations) and of float32 (skills) are used as they are. NumPy
        arrays and other dtypes are converted. An observation with an image and a vector is a dictionary of both.

        Raises:
            TypeError: obs or skill is neither a tensor nor an array of numbers.
            ValueError: an input that needs conversion has a wrong shape.
        """
        return (self._captured or self._act)(self._obs(obs, "obs"), self._skill(skill), mode)

    def capture(self, record: Recorder[Tensor] | None = None) -> None:
        """Replay acting as CUDA graphs from now on; requires a CUDA device.

        There is one graph for each number of worlds and each mode, recorded when it is first needed.

        Args:
            record: takes the place of `csf.core.compile.cuda_graph`.
        """
        self._captured = CapturedPolicy(self._act, self, record)

    def _act(self, obs: SomeObs, skill: Tensor, mode: bool = False, /) -> Tensor:
        return self.backbone.act(self.encode(obs), skill, mode, self.objective)

    def sample_skills(self, n: int) -> Tensor:
        """Sample skills [n, Z] from the method's prior.

        Raises:
            ValueError: n is not an integer of at least 0.
        """
        return self.objective.sample_skills(whole(n))

    @torch.no_grad()
    def goal_skill(self, obs: AnyObs, goal: AnyObs) -> Tensor | None:
        """The skill [N, Z] that leads from obs [N, *O] to goal [N, *O]; None if the method cannot infer one.

        Raises:
            TypeError, ValueError: as `act`.
        """
        here, there = self.encode(self._obs(obs, "obs")), self.encode(self._obs(goal, "goal"))
        return self.objective.goal_skill(here, there)

    @torch.no_grad()
    def represent(self, obs: AnyObs) -> Tensor | None:
        """The learned representation [N, Z] of observations [N, *O]; None if the method has none.

        Raises:
            TypeError, ValueError: as `act`.
        """
        return self.objective.represent(self.encode(self._obs(obs, "obs")))

    def encode(self, obs: Obs) -> Obs:
        """[N, *O] -> the observations of objective and backbone: features [N, F] if they share an encoder."""
        return obs if self.encoder is None else self.encoder.encode(obs)

    def encode_batch(self, batch: Transitions) -> Transitions:
        """Replace the observations of a Batch or a Rollout [B] by those of objective and backbone."""
        if self.encoder is None:
            return batch
        obs, next_obs = self.encoder.encode(cat_obs([batch.obs, batch.next_obs])).chunk(2)
        return cast(Transitions, batch._replace(obs=obs, next_obs=next_obs))

    def _obs(self, value: AnyObs, name: str) -> Obs:
        if isinstance(self._obs_kind, tuple):
            return self._rows(value, name, *self._obs_kind)
        if not isinstance(value, dict) or value.keys() != self._obs_kind.keys():
            raise TypeError(f"{name} is of type {type(value).__name__}; accepted: a dictionary of image and vector")
        return {key: self._rows(value[key], f"{name}[{key!r}]", *kind) for key, kind in self._obs_kind.items()}

    def _skill(self, value: Tensor | Array) -> Tensor:
        return self._rows(value, "skill", (self.objective.cfg.skill_dim,), torch.float32)

    def _rows(self, value: Any, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if fits(value, dtype):
            return cast(Tensor, value)
        return rows(value, name, shape, dtype, self.objective.device())

    def update(self, batch: Batch) -> Metrics:
        """Update objective and backbone once; shapes are fixed and there is no host sync, so it can be captured.

        A shared encoder encodes the batch once. Each loss is differentiated with respect to its own parameters only, so
        that the encoder receives the gradient of the one loss that trains it.
        """
        batch = self.encode_batch(batch)
        return {**self.objective.update(batch), **self.backbone.update(batch, self.objective)}

    def use_precision(self, precision: Precision) -> None:
        """Compute products of wide layers and convolutions in bfloat16; call it once, after the agent is on its device.

        Args:
            precision: "float32" changes nothing; "bf16" leaves out networks whose outputs are subtracted from each
                other, such as phi, with their encoder; "bf16_all" leaves out none.
        """
        if precision != "float32":
            make_copies(self, differences=precision == "bf16_all")

    def minimizers(self) -> dict[str, Minimizer]:
        """All optimizers of the agent by name."""
        parts = {"objective": self.objective.minimizers, "backbone": self.backbone.minimizers}
        return {f"{part}.{name}": m for part, found in parts.items() for name, m in found.items()}

    def written(self) -> list[Tensor]:
        """Every tensor that an update may write to: parameters, what products read for them, buffers, optimizers."""
        params = list(self.parameters())
        copies = [copy for param in params if (copy := computed_with(param)) is not param]
        state = [tensor for minimizer in self.minimizers().values() for tensor in minimizer.state()]
        return [*params, *copies, *self.buffers(), *state]

    def policy_state(self) -> dict[str, Tensor]:
        """State needed for acting: shared encoder, objective, and `policy_parts` of the backbone, such as the actor."""
        kept = ("encoder.", "objective.", *(f"backbone.{part}." for part in self.backbone.policy_parts))
        return {name: value for name, value in self.state_dict().items() if f"{name}.".startswith(kept)}

    def full_state(self) -> dict[str, Any]:
        """State of modules and optimizers, as tensors and plain numbers."""
        optim = {name: minimizer.full_state() for name, minimizer in self.minimizers().items()}
        return {"modules": self.state_dict(), "optim": optim}

    def load_full_state(self, state: dict[str, Any]) -> None:
        """Restore a state returned by `full_state`."""
        self.load_state_dict(state["modules"])
        refresh(self.parameters())
        for name, minimizer in self.minimizers().items():
            minimizer.load_full_state(state["optim"][name])


def _check_images(method: str, backbone: str, spec: EnvSpec, encoder: EncoderConfig) -> None:
    """Check that method and backbone accept images, or that no setting of encoders is changed without images."""
    if spec.has_image:
        parts: dict[str, Any] = {
            f"agent={method}": objectives[method],
            f"agent/backbone={backbone}": backbones[backbone],
        }
        for choice, part in parts.items():
            if not part.accepts_images:
                shapes = spec.obs_words()
                raise ConfigError(f"env={spec.id} has image observations {shapes}; {choice} accepts vectors only")
        return
    if encoder.name != OWN.name:
        raise ConfigError(f"encoder is {encoder.name}, but env={spec.id} has no images to encode; accepted: own")
    if encoder.channels != OWN.channels:
        raise ConfigError(
            f"encoder.channels is {[*encoder.channels]}, but env={spec.id} has no images to encode; "
            f"accepted: {[*OWN.channels]}"
        )
