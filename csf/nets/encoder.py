"""Encoders of observations; `make_encoder` chooses one for an environment.

Vectors are passed through. Images are encoded by the convolutions of the CSF paper's released program; an additional
vector is appended to their features. Every network has its own encoder, unless `Agent` shares one: see
`EncoderConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from csf.config.ranges import Before, Count
from csf.core import precision
from csf.errors import ConfigError
from csf.types import EnvSpec, Obs

CHANNELS = (48, 96, 192, 384)  # output channels of each convolution in the CSF paper
KERNEL, STRIDE = 4, 2


@dataclass(frozen=True)
class EncoderConfig:
    """The section "encoder": how networks encode image observations.

    With `own`, every network has an encoder. With `shared`, the agent has a single one, whose features are the
    observations of all networks, those of target networks included.
    """

    name: Annotated[Literal["own", "shared"], Before("own")]
    channels: Annotated[tuple[Count, ...], Before([*CHANNELS])]  # output channels of each convolution over images


OWN = EncoderConfig("own", CHANNELS)


@dataclass(frozen=True)
class NetworkSpec(EnvSpec):
    """The description of an environment for networks, with the settings of their image encoders."""

    channels: tuple[int, ...] = CHANNELS


class Encoder(nn.Module):
    """Maps observations [..., *O] to features [..., F], and concatenates additional inputs to them."""

    out_dim: int  # F
    small_differences = False  # whether outputs of two observations are subtracted: see csf.core.precision

    def encode(self, obs: Obs) -> Tensor:
        """[..., *O] -> [..., F]."""
        raise NotImplementedError

    def forward(self, obs: Obs, *more: Tensor) -> Tensor:
        """Concatenate features and each of `more` [..., M], such as skill and action: [..., F + M]."""
        features = self.encode(obs)
        if not more:
            return features
        lead = features.shape[:-1]  # an ensemble's features have one more axis than `more`
        rows = [each if each.shape[:-1] == lead else each.expand(*lead, -1) for each in more]
        return torch.cat([features, *rows], -1)


class VectorEncoder(Encoder):
    """The identity on vectors; it has no parameters."""

    def __init__(self, out_dim: int) -> None:
        """Accept vectors [..., out_dim]."""
        super().__init__()
        self.out_dim = out_dim

    def encode(self, obs: Obs) -> Tensor:
        """[..., O] -> [..., O]."""
        assert isinstance(obs, Tensor)
        return obs


class Convolution(nn.Conv2d):
    """A convolution that may run in bfloat16: see `csf.core.precision`."""

    def __init__(self, inputs: int, outputs: int, scale: float | None = None) -> None:
        """Create the kernels; inputs are multiplied by `scale`."""
        super().__init__(inputs, outputs, KERNEL, STRIDE)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H', W']."""
        return precision.convolve(x, self.weight, self.bias, self.stride, self.scale)

    def factors(self) -> list[Tensor]:
        """What it multiplies by."""
        return [self.weight]


class ImageEncoder(Encoder):
    """Convolutions over an image; an additional vector is appended to their features unchanged."""

    def __init__(self, shape: Sequence[int], vector_dim: int, channels: Sequence[int]) -> None:
        """Create the convolutions.

        Args:
            shape: (H, W, C) of the images, which are uint8.
            vector_dim: length of the additional vector; 0: observations are images only.
            channels: output channels of each convolution.

        Raises:
            ConfigError: the images are too small for this number of convolutions.
        """
        super().__init__()
        height, width, inputs = shape
        sides = [convolved(side, len(channels)) for side in (height, width)]
        if min(sides) < 1:
            least = smallest(len(channels))
            raise ConfigError(
                f"images are {height} x {width}; accepted with the {len(channels)} convolutions of encoder.channels: "
                f"at least {least} x {least}"
            )
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += [Convolution(inputs, outputs, None if layers else 1 / 255), nn.ELU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.out_dim = inputs * sides[0] * sides[1] + vector_dim

    def encode(self, obs: Obs) -> Tensor:
        """[..., H, W, C] uint8, or a dict of it and a vector [..., V] -> [..., F]."""
        image = obs["image"] if isinstance(obs, dict) else obs
        lead = image.shape[:-3]
        # The memory order stays that of images (channels-last), in which convolutions are faster.
        pixels = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
        features: Tensor = self.layers(pixels).float().reshape(*lead, -1)  # order: channel, row, column
        return torch.cat([features, obs["vector"]], -1) if isinstance(obs, dict) else features


class EnsembleEncoder(Encoder):
    """One encoder for each of E networks: [B, *O] -> [E, B, F]."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(encoders)
        self.out_dim = encoders[0].out_dim

    def encode(self, obs: Obs) -> Tensor:
        """[B, *O] -> [E, B, F]."""
        return torch.stack([member(obs) for member in self.members])


def make_encoder(spec: EnvSpec, heads: int | None = None, channels: Sequence[int] | None = None) -> Encoder:
    """Create an encoder for the observations of an environment.

    Args:
        spec: description of the environment; a `NetworkSpec` has the channels, which are otherwise `CHANNELS`.
        heads: number of networks in an ensemble, each with its own encoder; None: a single network.
        channels: output channels of each convolution; None: those of `spec`.

    Raises:
        ConfigError: images are too small.
    """
    if not spec.has_image:
        return VectorEncoder(spec.obs_dim)  # it has no parameters, so an ensemble can share it
    if channels is None:
        channels = spec.channels if isinstance(spec, NetworkSpec) else CHANNELS
    members = [ImageEncoder(spec.obs_shape, spec.vector_dim, channels) for _ in range(heads or 1)]
    return members[0] if heads is None else EnsembleEncoder(members)


def convolved(side: int, layers: int) -> int:
    """Side length of an image of side `side` after `layers` convolutions."""
    for _ in range(layers):
        side = (side - KERNEL) // STRIDE + 1
    return side


def smallest(layers: int) -> int:
    """The smallest side length of an image for which `layers` convolutions leave one pixel."""
    side = 1
    for _ in range(layers):
        side = (side - 1) * STRIDE + KERNEL
    return side
