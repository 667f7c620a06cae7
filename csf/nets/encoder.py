"""Encoders: what a network sees of an observation, chosen by `make_encoder` from what the environment shows.

A vector passes as it is. An image goes through convolutions as in the CSF paper's released program; a vector beside the
image is appended to their features. Every network has an encoder of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from csf.errors import ConfigError
from csf.types import EnvSpec, Obs

CHANNELS = (48, 96, 192, 384)  # of the convolutions, one number for each of them
KERNEL, STRIDE = 4, 2


class Encoder(nn.Module):
    """Maps observations [..., *O] to features [..., F], and joins to them what else a network takes."""

    out_dim: int  # F

    def encode(self, obs: Obs) -> Tensor:
        """[..., *O] -> [..., F]."""
        raise NotImplementedError

    def forward(self, obs: Obs, *more: Tensor) -> Tensor:
        """The input of a network: features, then each of `more` [..., M], such as skill and action; [..., F + M]."""
        features = self.encode(obs)
        if not more:
            return features
        lead = features.shape[:-1]  # of an ensemble's features one axis more than that of `more`
        rows = [each if each.shape[:-1] == lead else each.expand(*lead, -1) for each in more]
        return torch.cat([features, *rows], -1)


class VectorEncoder(Encoder):
    """The identity on vectors; it has no parameters."""

    def __init__(self, out_dim: int) -> None:
        """Take vectors [..., out_dim]."""
        super().__init__()
        self.out_dim = out_dim

    def encode(self, obs: Obs) -> Tensor:
        """[..., O] -> [..., O]."""
        assert isinstance(obs, Tensor)
        return obs


class ImageEncoder(Encoder):
    """Convolutions over an image; the vector beside it is appended to their features as it is."""

    def __init__(self, shape: Sequence[int], vector_dim: int, channels: Sequence[int]) -> None:
        """Take images [..., H, W, C] uint8 of `shape`, alone if `vector_dim` is 0.

        Raises:
            ConfigError: the images are too small for so many convolutions.
        """
        super().__init__()
        height, width, inputs = shape
        sides = [convolved(side, len(channels)) for side in (height, width)]
        if min(sides) < 1:
            least = smallest(len(channels))
            raise ConfigError(f"images are {height} x {width}; the encoder accepts at least {least} x {least}")
        layers: list[nn.Module] = []
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, KERNEL, STRIDE), nn.ELU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.out_dim = inputs * sides[0] * sides[1] + vector_dim

    def encode(self, obs: Obs) -> Tensor:
        """[..., H, W, C] uint8, or a dict of it and of a vector [..., V] -> [..., F]."""
        image = obs["image"] if isinstance(obs, dict) else obs
        lead = image.shape[:-3]
        pixels = image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2)
        features: Tensor = self.layers(pixels.float() / 255).reshape(*lead, -1)  # channels first, then rows, columns
        return torch.cat([features, obs["vector"]], -1) if isinstance(obs, dict) else features


class EnsembleEncoder(Encoder):
    """An encoder for each of E networks: [B, *O] -> [E, B, F]."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(encoders)
        self.out_dim = encoders[0].out_dim

    def encode(self, obs: Obs) -> Tensor:
        """[B, *O] -> [E, B, F]."""
        return torch.stack([member(obs) for member in self.members])


def make_encoder(spec: EnvSpec, heads: int | None = None, channels: Sequence[int] | None = None) -> Encoder:
    """The encoder of a network over what an environment shows.

    Args:
        spec: of the environment.
        heads: of an ensemble, each of which has an encoder of its own; None: a single network.
        channels: of the convolutions; None: `CHANNELS`.

    Raises:
        ConfigError: images that are too small.
    """
    if not spec.has_image:
        return VectorEncoder(spec.obs_dim)  # an ensemble shares what has no parameters
    shape, widths = spec.obs_shape, CHANNELS if channels is None else channels
    members = [ImageEncoder(shape, spec.vector_dim, widths) for _ in range(heads or 1)]
    return members[0] if heads is None else EnsembleEncoder(members)


def convolved(side: int, layers: int) -> int:
    """Pixels of a side after so many convolutions."""
    for _ in range(layers):
        side = (side - KERNEL) // STRIDE + 1
    return side


def smallest(layers: int) -> int:
    """The smallest side of an image of which so many convolutions leave a pixel."""
    side = 1
    for _ in range(layers):
        side = (side - 1) * STRIDE + KERNEL
    return side
