"""The image autoencoder of Flux: the numbers of the published code in float32, and what it promises beyond them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import golden_io
import pytest
import torch
from autoencoder_contract import AutoencoderContract, clip
from torch import nn

from opensora.checkpoint.safetensors_io import CheckpointError, save
from opensora.config import from_dict
from opensora.models.autoencoder_2d.autoencoder import (
    AttnBlock,
    AutoEncoder,
    AutoEncoderConfig,
    DiagonalGaussianDistribution,
)
from opensora.models.autoencoder_2d.blocks import Downsample, ResnetBlock, Upsample

TOLERANCE, LAYER = 1e-5, 2e-6
SMALL = AutoEncoderConfig(ch=32, ch_mult=(1, 1, 2), num_res_blocks=1, z_channels=4)


def build(config: AutoEncoderConfig = SMALL) -> AutoEncoder:
    torch.manual_seed(0)
    return AutoEncoder(config).eval()


def filled(module: nn.Module, meta: dict[str, Any]) -> nn.Module:
    golden_io.fill(module, meta["salt"])
    assert golden_io.checksum(module) == meta["rule"]["weights_crc32"]
    return module.eval()


@cache
def network() -> AutoEncoder:
    meta = golden_io.load("v2/autoencoder_2d/autoencoder_2d").meta
    model = AutoEncoder(from_dict(AutoEncoderConfig, meta["config"] | {"sample": False}))
    filled(model, meta)
    return model


@pytest.mark.parametrize("case", ["img", "vid", "odd"])
@torch.inference_mode()
def test_encoding(case: str) -> None:
    t, model = golden_io.load("v2/autoencoder_2d/autoencoder_2d").tensors, network()
    x = t[f"{case}.in.x"]
    moments = model.encode_moments(x)
    posterior = DiagonalGaussianDistribution(moments)
    values = {"params": moments, "mean": posterior.mean, "logvar": posterior.logvar, "std": posterior.std}
    for name, value in {**values, "z": model.encode(x)}.items():
        golden_io.assert_within(value, t[f"{case}.out.{name}"], f"autoencoder_2d {case} {name}", TOLERANCE)
    assert model.get_latent_size(x.shape[2:]) == moments.shape[2:]


@pytest.mark.parametrize("case", ["dec_img", "dec_vid"])
@torch.inference_mode()
def test_decoding(case: str) -> None:
    t = golden_io.load("v2/autoencoder_2d/autoencoder_2d").tensors
    x = network().decode(t[f"{case}.in.z"])
    golden_io.assert_within(x, t[f"{case}.out.x"], f"autoencoder_2d {case}", TOLERANCE)


LAYERS = {
    "attn_block": lambda: AttnBlock(64),
    "resnet_block_shortcut": lambda: ResnetBlock(64, 128),
    "resnet_block_same": lambda: ResnetBlock(64, 64),
    "downsample": lambda: Downsample(64),
    "upsample": lambda: Upsample(64),
}


@pytest.mark.parametrize("case", LAYERS)
@torch.inference_mode()
def test_layers(case: str) -> None:
    fixture = golden_io.load("v2/autoencoder_2d/pieces")
    layer = filled(LAYERS[case](), fixture.meta["pieces"][case])
    y = layer(fixture.tensors[f"{case}.in.x"])
    golden_io.assert_within(y, fixture.tensors[f"{case}.out.y"], f"autoencoder_2d {case}", LAYER)


def test_distribution() -> None:
    t = golden_io.load("v2/autoencoder_2d/pieces").tensors
    parameters = t["gauss.in.params"]
    posterior = DiagonalGaussianDistribution(parameters)
    # The published divergence is that of every frame of the batch.
    frames, others = (
        DiagonalGaussianDistribution(x.transpose(1, 2).flatten(0, 1)) for x in (parameters, t["gauss.in.other_params"])
    )
    values = {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "var": posterior.var,
        "mode": posterior.mode(),
        "sample": posterior.sample(noise=t["gauss.in.noise"]),
        "deterministic_sample": DiagonalGaussianDistribution(parameters, deterministic=True).sample(),
        "kl": frames.kl(),
        "kl_other": frames.kl(others),
    }
    for name, value in values.items():
        golden_io.assert_within(value, t[f"gauss.out.{name}"], f"autoencoder_2d distribution {name}", LAYER)


def test_a_distribution_without_variance() -> None:
    posterior = DiagonalGaussianDistribution(clip(2, 4, 3), deterministic=True)
    assert torch.equal(posterior.sample(torch.Generator()), posterior.mode())
    assert not posterior.std.any() and not posterior.var.any()
    assert torch.equal(posterior.kl(), torch.zeros(2)) and torch.equal(posterior.nll(posterior.mean), torch.zeros(2))
    with pytest.raises(ValueError, match="equal number"):
        DiagonalGaussianDistribution(clip(2, 3, 3))


def test_divergence_from_oneself_is_zero_and_from_the_standard_normal_is_the_default() -> None:
    posterior = DiagonalGaussianDistribution(clip(2, 4, 3, 5))
    torch.testing.assert_close(posterior.kl(posterior), torch.zeros(2))
    torch.testing.assert_close(posterior.kl(DiagonalGaussianDistribution(torch.zeros(2, 4, 3, 5))), posterior.kl())


def test_tensors_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = AutoEncoder(AutoEncoderConfig())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == golden_io.manifest("v2/flux_autoencoder_2d")
    assert sum(tensor.numel() for tensor in model.parameters()) == 83_819_683


class TestContract(AutoencoderContract):
    network = AutoEncoder
    small = SMALL
    other = {"num_res_blocks": 2}  # noqa: RUF012
    shape = (2, 16, 24)


@torch.inference_mode()
def test_a_generator_means_a_sample_where_the_configuration_says_so() -> None:
    x = clip(1, 3, 1, 16, 16)
    model = build()
    likeliest = model.encode(x)
    sample = model.encode(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sample, model.encode(x, sample=True, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model.encode(x, sample=False, generator=torch.Generator()), likeliest)
    assert not torch.equal(sample, likeliest)
    model.config = replace(SMALL, sample=False)
    assert torch.equal(model.encode(x, generator=torch.Generator()), likeliest)


@torch.inference_mode()
def test_frames_know_nothing_of_each_other() -> None:
    model, x = build(), clip(2, 3, 2, 16, 16)
    z = model.encode(x)
    torch.testing.assert_close(model.encode(x[:, :, 1:]), z[:, :, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("height, width", [(8, 8), (9, 15), (27, 36)])
@torch.inference_mode()
def test_sizes_of_odd_pictures(height: int, width: int) -> None:
    model = build()
    size = model.get_latent_size((1, height, width))
    assert model.encode(clip(1, 3, 1, height, width)).shape[2:] == size


def test_a_picture_smaller_than_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"smaller than a latent, \(1, 4, 4\)"):
        build().encode(clip(1, 3, 1, 3, 16))


def test_the_weights_that_a_configuration_names(tmp_path: Path) -> None:
    model = build()
    save(model, tmp_path / "flux.safetensors", {})
    config = replace(SMALL, from_pretrained=str(tmp_path / "flux.safetensors"))
    loaded = AutoEncoder.from_config(config)
    assert loaded.config == config and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert not AutoEncoder.from_config(SMALL).training
    with pytest.raises(CheckpointError, match="of another shape"):
        AutoEncoder.from_config(replace(config, z_channels=8))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"ch": 24}, "24 channels, expected a multiple of 32"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"scale_factor": 0.0}, "scale_factor is 0"),
    ],
)
def test_wrong_configurations(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)
