"""The autoencoder against the numbers of the published code, in float32."""

from dataclasses import replace
from functools import cache
from typing import Any

import golden_io
import pytest
import torch

from opensora.config import from_dict
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.models.vae_v13.blocks import (
    CausalAttention,
    Downsample2D,
    Downsample3D,
    ResBlock,
    Upsample2D,
    Upsample3D,
)
from opensora.models.vae_v13.normalization import STATISTICS
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.nn import causal_conv
from opensora.nn.causal_conv import CausalConv3d

CLIPS = golden_io.names("vae_v13_T*")
SHORTENED = {"vae_v13_T2", "vae_v13_T8_even", "vae_v13_T20_nooverlap_remainder", "vae_v13_T40_overlap_remainder"}
"""Clips of which the published code loses frames."""
DEFECTS = SHORTENED | {"vae_v13_T33_microframe_ignored"}

UNSET: dict[str, Any] = {
    "micro_frame_size": None,
    "micro_batch_size": None,
    "micro_batch_size_2d": None,
    "temporal_overlap": False,
    "use_tiled_conv3d": False,
    "normalization": None,
}


def config_of(meta: dict[str, Any], compat: str) -> VAEv13Config:
    """What the fixture's network was built from; the published constructor leaves most options out."""
    return from_dict(VAEv13Config, UNSET | meta["config"]["arch"] | meta["config"]["pipeline"] | {"compat": compat})


@cache
def network(name: str, compat: str) -> OpenSoraVAE_V1_3:
    meta = golden_io.load(name).meta
    model = OpenSoraVAE_V1_3(config_of(meta, compat)).eval()
    golden_io.fill(model, meta["salt"])
    return model


@pytest.mark.parametrize("name", CLIPS)
@torch.inference_mode()
def test_published_numbers(name: str) -> None:
    fixture, model = golden_io.load(name), network(name, "published")
    t = fixture.tensors
    moments = model.encode_moments(t["in.x"])
    posterior = DiagonalGaussianDistribution(moments)
    golden_io.assert_close(moments, t["out.moments"], f"{name} moments")
    golden_io.assert_close(model.normalize(posterior.mode()), t["out.z_mode"], f"{name} z")
    golden_io.assert_close(model.normalize(posterior.sample(noise=t["in.noise"])), t["out.z_sample"], f"{name} sample")
    golden_io.assert_close(model.decode(t["in.z"]), t["out.decode"], f"{name} decode")
    sizes = fixture.meta["get_latent_size"]
    assert list(model.get_latent_size(sizes["input"])) == sizes["output"]


@pytest.mark.parametrize("name", ["vae_v13_T1_micro", "vae_v13_T17_batch2", "vae_v13_T33_overlap"])
@torch.inference_mode()
def test_default_has_the_published_numbers_where_nothing_is_wrong(name: str) -> None:
    t, model = golden_io.load(name).tensors, network(name, "right")
    assert name not in DEFECTS
    golden_io.assert_close(model.encode_moments(t["in.x"]), t["out.moments"], f"{name} moments")
    golden_io.assert_close(model.decode(t["in.z"], num_frames=t["in.x"].shape[2]), t["out.decode"], f"{name} decode")


@pytest.mark.parametrize("name", sorted(SHORTENED))
@torch.inference_mode()
def test_default_gives_back_every_frame(name: str) -> None:
    x, model = golden_io.load(name).tensors["in.x"], network(name, "right")
    z = model.encode(x)
    assert z.shape[2:] == model.get_latent_size(x.shape[2:])
    assert model.decode(z, num_frames=x.shape[2]).shape == x.shape


@torch.inference_mode()
def test_default_honours_micro_frames_without_a_micro_batch_size() -> None:
    name = "vae_v13_T33_microframe_ignored"
    x, model = golden_io.load(name).tensors["in.x"], network(name, "right")
    moments = model.encode_moments(x)
    windows = [model.encode_moments(x[:, :, :17]), model.encode_moments(x[:, :, 16:])]
    assert moments.shape[2] == model.get_latent_size(x.shape[2:])[0] == 10
    torch.testing.assert_close(moments, torch.cat(windows, dim=2), rtol=0, atol=0)


@pytest.mark.parametrize("tile_size", [3, 4])
@torch.inference_mode()
def test_tiles_do_not_change_the_numbers(tile_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    name = "vae_v13_T17_tiled"
    fixture = golden_io.load(name)
    model = OpenSoraVAE_V1_3(replace(config_of(fixture.meta, "right"), tile_size=tile_size)).eval()
    golden_io.fill(model, fixture.meta["salt"])
    t = fixture.tensors
    golden_io.assert_close(model.encode_moments(t["in.x"]), t["out.moments"], f"{name} moments, tile {tile_size}")
    golden_io.assert_close(model.decode(t["in.z"]), t["out.decode"], f"{name} decode, tile {tile_size}")


LAYERS = {
    "causal_k3": lambda: CausalConv3d(4, 6, 3),
    "causal_k3_s222": lambda: CausalConv3d(4, 6, 3, (2, 2, 2)),
    "causal_k1": lambda: CausalConv3d(4, 6, 1),
    "resblock_same": lambda: ResBlock(32, 32, 32, None),
    "resblock_diff": lambda: ResBlock(32, 64, 32, None),
    "attn": lambda: CausalAttention(32, 32),
    "down2d": lambda: Downsample2D(8, None),
    "down3d": lambda: Downsample3D(8),
    "up2d": lambda: Upsample2D(8, 2),
    "up3d": lambda: Upsample3D(32, 32, None),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["planar", "channels_last"])
@pytest.mark.parametrize("case", LAYERS)
@torch.inference_mode()
def test_layers(case: str, layout: torch.memory_format) -> None:
    fixture, layer = golden_io.load("vae_v13_layers"), LAYERS[case]().eval()
    described = fixture.meta["cases"][case]
    assert {name: list(p.shape) for name, p in layer.named_parameters()} == described["params"]
    golden_io.fill(layer, described["salt"])
    x = fixture.tensors[f"{case}/in.x"].contiguous(memory_format=layout)
    before = x.clone()
    golden_io.assert_close(layer(x), fixture.tensors[f"{case}/out"], f"vae_v13_layers {case}")
    assert torch.equal(x, before), "the published blocks write into their input; ours must not"


@torch.inference_mode()
def test_tiled_convolution_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published tiled layer has no padding; inside a clip a causal one computes the same."""
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    fixture = golden_io.load("vae_v13_layers")
    layer = CausalConv3d(4, 6, 3, tile_size=4)
    golden_io.fill(layer.conv, fixture.meta["cases"]["tiled_conv3d"]["salt"])
    y = layer(fixture.tensors["tiled_conv3d/in.x"])
    golden_io.assert_close(y[:, :, 2:, 1:-1, 1:-1], fixture.tensors["tiled_conv3d/out"], "vae_v13_layers tiled_conv3d")


def test_distribution() -> None:
    t = golden_io.load("gaussian_v13").tensors
    posterior = DiagonalGaussianDistribution(t["in.parameters"])
    values = {
        "kl": posterior.kl(),
        "logvar": posterior.logvar,
        "mode": posterior.mode(),
        "sample": posterior.sample(noise=t["in.noise"]),
        "nll": posterior.nll(t["out.sample"]),
    }
    for name, value in values.items():
        golden_io.assert_close(value, t[f"out.{name}"], f"gaussian_v13 {name}")


def test_latent_sizes_of_the_published_code() -> None:
    table = golden_io.load_json("vae_v13_latent_size")
    models = {}
    with torch.device("meta"):
        for pipeline, options in table["pipelines"].items():
            config = VAEv13Config(ch=32, num_res_blocks=1, compat="published")
            models[pipeline] = OpenSoraVAE_V1_3(replace(config, **UNSET | options))
    for pipeline, size, expected in table["table"]:
        assert list(models[pipeline].get_latent_size(size)) == expected, (pipeline, size)


def test_statistics() -> None:
    published = golden_io.load_json("vae_v13_stats")
    for name, (mean, std) in STATISTICS.items():
        for ours, theirs in ((mean, published[name]["mean"]), (std, published[name]["std"])):
            assert torch.equal(torch.tensor(ours).squeeze(1), torch.tensor(theirs)), name


def test_tensors_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = OpenSoraVAE_V1_3(VAEv13Config())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == golden_io.manifest("vae_v13")
    assert sum(tensor.numel() for tensor in model.parameters()) == 259_163_811
