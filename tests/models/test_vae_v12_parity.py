"""The 1.2 autoencoder against the numbers of the published code, in float32."""

from functools import cache
from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor, nn

from opensora.models.vae_v12.spatial import SCALE, SpatialVAE
from opensora.models.vae_v12.temporal import HalveFrames, ResBlock, TemporalVAE
from opensora.models.vae_v12.vae import OpenSoraVAE_V1_2, SpatialConfig, TemporalConfig, VAEv12Config
from opensora.nn.causal_conv import CausalConv3d

CLIPS = golden_io.names("vae_v12_T*")
TEMPORAL = golden_io.load("vae_v12_temporal")
WHOLE = sorted(case for case, about in TEMPORAL.meta["cases"].items() if "latent" in about)


def spatial_config(values: dict[str, Any], **others: Any) -> SpatialConfig:
    names = ("block_out_channels", "layers_per_block", "latent_channels", "norm_num_groups")
    return SpatialConfig(**{name: values[name] for name in names}, **others)


@cache
def network(name: str) -> OpenSoraVAE_V1_2:
    meta = golden_io.load(name).meta
    about = meta["config"]
    config = VAEv12Config(
        spatial=spatial_config(about["spatial"], micro_batch_size=about["micro_batch_size"]),
        temporal=TemporalConfig(**about["temporal"]),
        micro_frame_size=about["micro_frame_size"],
        shift=about["shift"],
        scale=about["scale"],
    )
    model = OpenSoraVAE_V1_2(config).eval()
    golden_io.fill(model, meta["salt"])
    return model


def frames_first(x: Tensor, batch: int) -> Tensor:
    """(BT, C, H, W) as (B, C, T, H, W)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def test_all_fixtures_are_here() -> None:
    assert len(CLIPS) == 7 and len(WHOLE) == 5


@pytest.mark.parametrize("name", CLIPS)
@torch.inference_mode()
def test_published_numbers(name: str) -> None:
    fixture, model = golden_io.load(name), network(name)
    t, batch = fixture.tensors, len(fixture.tensors["in.x"])
    posterior = model.frame_posterior(t["in.x"])
    for part, value in (("mean", posterior.mean), ("logvar", posterior.logvar)):
        golden_io.assert_close(value, frames_first(t[f"out.spatial_{part}"], batch), f"{name} spatial {part}")
    golden_io.assert_close(model.encode(t["in.x"]), t["out.z_mode"], f"{name} z")
    frames = SCALE * posterior.sample(noise=frames_first(t["in.noise_spatial"], batch))
    z = model.normalize(model.clip_posterior(frames).sample(noise=t["in.noise_temporal"]))
    golden_io.assert_close(z, t["out.z_sample"], f"{name} sample")
    sizes = fixture.meta["get_latent_size"]
    out = model.decode(t["in.z"], num_frames=sizes["input"][0])
    golden_io.assert_close(out, t["out.decode"], f"{name} decode")
    assert list(model.get_latent_size(sizes["input"])) == sizes["output"] == list(z.shape[2:])


@pytest.mark.parametrize("case", WHOLE)
@torch.inference_mode()
def test_clips_of_the_published_part(case: str) -> None:
    about, t = TEMPORAL.meta["cases"][case], TEMPORAL.tensors
    model = TemporalVAE(TemporalConfig(**about["config"])).eval()
    golden_io.fill(model, about["salt"])
    moments = model.encode_moments(t[f"{case}/in.x"])
    golden_io.assert_close(moments, t[f"{case}/out.moments"], f"vae_v12_temporal {case} moments")
    assert list(moments.shape[2:]) == about["latent"]
    decoded = model.decode(t[f"{case}/in.z"], about["call"]["num_frames"])
    golden_io.assert_close(decoded, t[f"{case}/out.decode"], f"vae_v12_temporal {case} decode")


LAYERS: dict[str, nn.Module] = {
    "causal_k3": CausalConv3d(4, 6, 3),
    "causal_k3_s2": HalveFrames(4, 6),
    "causal_k1": CausalConv3d(4, 6, 1, bias=False),
    "resblock": ResBlock(32, 64, 32),
}


@pytest.mark.parametrize("case", LAYERS)
@torch.inference_mode()
def test_layers(case: str) -> None:
    about, layer = TEMPORAL.meta["cases"][case], LAYERS[case]
    assert set(about["params"]) == {name for name, _ in layer.named_parameters()}
    golden_io.fill(layer, about["salt"])
    x = TEMPORAL.tensors[f"{case}/in.x"]
    before = x.clone()
    golden_io.assert_close(layer(x), TEMPORAL.tensors[f"{case}/out"], f"vae_v12_temporal {case}")
    assert torch.equal(x, before)


@pytest.mark.parametrize("case", ["a", "b"])
@torch.inference_mode()
def test_frames_of_the_published_part(case: str) -> None:
    fixture = golden_io.load("vae_v12_spatial")
    about, t = fixture.meta["cases"][case], fixture.tensors
    model = SpatialVAE(spatial_config(about["config"], micro_batch_size=about["micro_batch_size"])).eval()
    golden_io.fill(model, about["salt"])
    mean = model.encode_moments(t[f"{case}/in.x"]).chunk(2, dim=1)[0]
    golden_io.assert_close(SCALE * mean, t[f"{case}/out.z_mode"], f"vae_v12_spatial {case} z")
    golden_io.assert_close(
        model.decode(t[f"{case}/in.z"] / SCALE), t[f"{case}/out.decode"], f"vae_v12_spatial {case} decode"
    )


def test_tensors_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = OpenSoraVAE_V1_2(VAEv12Config())
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == golden_io.manifest(
        "vae_v12_pipeline"
    )
    assert sum(tensor.numel() for tensor in model.parameters()) == 393_341_007
    header = golden_io.load_json("manifests/vae_v12_pipeline")["header"]
    assert (list(model.config.shift), list(model.config.scale)) == (
        header["kwargs"]["shift"],
        header["kwargs"]["scale"],
    )
    assert model.config.temporal == TemporalConfig(**header["temporal_vae_config"])
    assert model.config.spatial == spatial_config(header["spatial_vae_config"])


def test_latent_sizes_of_the_published_code() -> None:
    with torch.device("meta"):
        models = {size: OpenSoraVAE_V1_2(VAEv12Config(micro_frame_size=size)) for size in (17, None)}
    for micro_frame_size, size, expected in golden_io.load_json("vae_v12_latent_size")["table"]:
        if 0 in expected:
            with pytest.raises(ValueError, match="smaller than a latent"):
                models[micro_frame_size].get_latent_size(size)
        else:
            assert list(models[micro_frame_size].get_latent_size(size)) == expected, (micro_frame_size, size)
