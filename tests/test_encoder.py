"""Encoders: the released program's numbers, the identity on vectors, and a network's own convolutions."""

from __future__ import annotations

import golden_map
import numpy as np
import pytest
import torch
from conftest import BOTH, IMAGE, SPEC, observe
from torch import nn

from csf.core.optim import Minimizer
from csf.errors import ConfigError
from csf.nets.actor import GaussianActor
from csf.nets.encoder import EnsembleEncoder, ImageEncoder, VectorEncoder, make_encoder, smallest
from csf.nets.mlp import EnsembleMLP, ObsMLP, mlp
from csf.types import map_obs

SMALL = (2, 3, 4, 5)


def close(found: torch.Tensor, want: np.ndarray) -> None:
    torch.testing.assert_close(found.detach(), torch.from_numpy(want), rtol=1e-5, atol=4e-6)


# ---- the released program's numbers


def test_features_are_the_released_ones_at_full_size() -> None:
    arrays = golden_map.read("pieces_encoder_cnn")
    encoder = make_encoder(BOTH)  # the default channels
    for i, param in enumerate(encoder.parameters()):
        k = torch.arange(param.numel(), dtype=torch.float64)
        param.data = (0.05 * (0.37 * k + i).sin()).float().reshape(param.shape)
    pixels = ((np.arange(2 * 64 * 64 * 9) * 7 + 13) % 256).reshape(2, -1)
    pixels[1] = pixels[1][::-1]
    image = torch.from_numpy(pixels.astype(np.uint8)).reshape(2, 64, 64, 9)
    found = encoder({"image": image, "vector": torch.from_numpy(arrays["full_state_tail"]).float()})
    close(found, arrays["full_output"])


def test_features_are_the_released_ones_layer_by_layer() -> None:
    arrays = golden_map.read("pieces_encoder_cnn")
    encoder = ImageEncoder((64, 64, 3), 0, (2, 4, 8, 16))
    convolutions = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    for layer, place in zip(convolutions, (0, 3, 6, 9), strict=True):
        layer.weight.data = torch.from_numpy(arrays[f"small/param/_conv_model.{place}.weight"])
        assert layer.bias is not None
        layer.bias.data = torch.from_numpy(arrays[f"small/param/_conv_model.{place}.bias"])
    maps = []
    for each in encoder.layers:
        each.register_forward_hook(lambda module, args, out: maps.append(out))
    found = encoder(torch.from_numpy(arrays["small/pixels_flat_hwc_uint8"]).reshape(2, 64, 64, 3))
    for i in (1, 2, 3):
        close(maps[2 * i + 1], arrays[f"small/after_elu{i}"])
    close(found, arrays["small/output"])


def test_convolutions_start_as_pytorch_starts_them() -> None:
    torch.manual_seed(0)
    init = golden_map.meta_of(golden_map.read("pieces_encoder_cnn"))["init"]
    for (name, want), param in zip(init.items(), make_encoder(IMAGE).parameters(), strict=True):
        bound = want["default_bound"] or want["absmax"]
        assert param.abs().max() <= bound * (1 + 1e-6 if want["default_bound"] else 1.1), name
        assert param.std().item() == pytest.approx(want["std"], rel=0.02 if param.dim() > 1 else 0.2), name


# ---- vectors


def test_vectors_pass_as_they_are_and_leave_no_key() -> None:
    encoder, x = make_encoder(SPEC), torch.randn(4, 3)
    assert encoder.out_dim == 3
    assert encoder(x) is x
    assert not list(encoder.state_dict())
    assert set(ObsMLP(encoder, [8, 2]).state_dict()) == set(mlp([3, 8, 2]).state_dict())
    assert not [name for name in GaussianActor([3, 8, 2]).state_dict() if "encoder" in name]


def test_what_is_joined_stands_behind_the_observation_in_the_order_given() -> None:
    x, skill, action = torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 5)
    assert torch.equal(VectorEncoder(3)(x, skill, action), torch.cat([x, skill, action], -1))


# ---- images


def test_a_vector_beside_an_image_is_appended_untouched() -> None:
    encoder, obs, skill = make_encoder(BOTH, channels=SMALL), observe(BOTH, 4), torch.randn(4, 2)
    found = encoder(obs, skill)
    assert encoder.out_dim == 5 * 2 * 2 + 3
    assert found.shape == (4, encoder.out_dim + 2)
    assert torch.equal(found[:, -5:], torch.cat([obs["vector"], skill], -1))
    assert torch.equal(found[:, :20], ImageEncoder.encode(encoder, obs)[:, :20])  # type: ignore[arg-type]


def test_an_image_is_encoded_alike_wherever_it_stands() -> None:
    encoder, obs = make_encoder(BOTH, channels=SMALL), observe(BOTH, 2, 3)
    found = encoder(obs)
    assert found.shape == (2, 3, encoder.out_dim)
    torch.testing.assert_close(found[1, 2], encoder(map_obs(lambda rows: rows[1, 2], obs)))


def test_every_head_of_an_ensemble_has_an_encoder_of_its_own() -> None:
    encoder, obs, more = make_encoder(BOTH, 2, SMALL), observe(BOTH, 4), torch.randn(4, 2)
    assert isinstance(encoder, EnsembleEncoder)
    net = EnsembleMLP(2, [encoder.out_dim + 2, 8, 1], encoder=encoder)
    found = net(obs, more)
    for head, member in enumerate(encoder.members):
        x = member(obs, more)
        x = (x @ net.weights[0][head] + net.biases[0][head]).relu()
        torch.testing.assert_close(found[head], x @ net.weights[1][head] + net.biases[1][head])
    first, second = (next(member.parameters()) for member in encoder.members)
    assert not torch.equal(first, second)


def test_an_image_that_is_too_small_is_refused() -> None:
    assert smallest(4) == 46
    assert ImageEncoder((46, 50, 3), 0, SMALL).out_dim == 5
    with pytest.raises(
        ConfigError, match=r"images are 45 x 64; accepted with the 4 convolutions of encoder\.channels: at least 46"
    ):
        ImageEncoder((45, 64, 3), 0, SMALL)


@pytest.mark.parametrize("spec", [IMAGE, BOTH])
def test_an_image_has_no_length(spec: object) -> None:
    with pytest.raises(ValueError, match=r"observations of test are images \(64, 64, 9\)"):
        _ = spec.obs_dim  # type: ignore[attr-defined]


def test_a_step_follows_the_gradient_of_convolutions() -> None:
    """Their memory order is the image's, which fused Adam does not look at."""
    torch.manual_seed(0)
    encoder, obs = make_encoder(IMAGE, channels=SMALL), observe(IMAGE, 4)
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    loss = encoder(obs).square().sum()
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True)
    Minimizer(encoder.parameters(), 1e-3).step(loss)
    for (name, value), gradient in zip(encoder.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(value - before[name], -1e-3 * gradient.sign(), rtol=1e-2, atol=1e-6, msg=name)
