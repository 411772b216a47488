"""The deep-compression autoencoder: the numbers of the published code in float32, and what it promises beyond them."""

from dataclasses import replace
from functools import cache
from typing import Any

import golden_io
import pytest
import torch
from autoencoder_contract import AutoencoderContract, clip
from torch import nn

from opensora.config import from_dict
from opensora.models.dc_ae.blocks import GLUMBConv, LiteMLA, RMSNorm3d, block
from opensora.models.dc_ae.dc_ae import DCAE, DCAEConfig
from opensora.models.dc_ae.lengths import latent_frames
from opensora.models.dc_ae.resize import downsample, pixel_shuffle_3d, pixel_unshuffle_3d, upsample

TOLERANCE, LAYER = 1e-5, 2e-6
MODES = {"none": (False, False), "spatial": (True, False), "temporal": (False, True), "both": (True, True)}
LOSSY = {13: 49, 19: 73, 25: 97, 31: 121}
"""Latent frames of which the public code makes three frames too few, and how many it makes."""
SMALL = DCAEConfig(
    latent_channels=8,
    width_list=(8, 8, 16),
    block_type=("ResBlock", "EViTS5_GLU", "EViT_GLU"),
    encoder_depth_list=(1, 1, 1),
    decoder_depth_list=(1, 1, 1),
    temporal_downsample=(True, True, False),
    attention_dim=8,
    scaling_factor=0.5,
)


def build(config: DCAEConfig = SMALL) -> DCAE:
    torch.manual_seed(0)
    return DCAE(config).eval()


def filled(module: nn.Module, meta: dict[str, Any]) -> nn.Module:
    golden_io.fill(module, meta["salt"])
    assert golden_io.checksum(module) == meta["rule"]["weights_crc32"]
    return module.eval()


@cache
def network(name: str, compat: str, mode: str) -> DCAE:
    meta = golden_io.load(f"v2/dc_ae/{name}").meta
    theirs, space, time = meta["config"], *MODES[mode]
    same = ("in_channels", "latent_channels", "scaling_factor", "spatial_tile_size", "temporal_tile_size")
    encoder, decoder = theirs["encoder"], theirs["decoder"]
    ours = {key: theirs[key] for key in (*same, "tile_overlap_factor")} | {
        "width_list": encoder["width_list"],
        "block_type": encoder["block_type"],
        "encoder_depth_list": encoder["depth_list"],
        "decoder_depth_list": decoder["depth_list"],
        "temporal_downsample": encoder["temporal_downsample"],
        "use_spatial_tiling": space,
        "use_temporal_tiling": time,
        "compat": compat,
    }
    model = DCAE(from_dict(DCAEConfig, ours))
    filled(model, meta)
    return model


@pytest.mark.parametrize(
    "compat, case",
    [("right", "image"), ("right", "video"), ("published", "image"), ("published", "video_T_eq_half")],
)
@torch.inference_mode()
def test_published_numbers(compat: str, case: str) -> None:
    fixture, model = golden_io.load("v2/dc_ae/dc_ae"), network("dc_ae", compat, "none")
    t = fixture.tensors
    z = model.encode(t[f"{case}.in.x"])
    golden_io.assert_within(z, t[f"{case}.out.z"], f"dc_ae {case} encode", TOLERANCE)
    golden_io.assert_within(model.decode(z), t[f"{case}.out.rec"], f"dc_ae {case} decode", TOLERANCE)
    assert sum(p.numel() for p in model.parameters()) == fixture.meta["n_params"]


@pytest.mark.parametrize("mode", MODES)
@torch.inference_mode()
def test_encoding_in_tiles(mode: str) -> None:
    t = golden_io.load("v2/dc_ae/tiling_encode").tensors
    z = network("tiling_encode", "right", mode).encode(t["in.x"])
    golden_io.assert_within(z, t[f"{mode}.out.z"], f"dc_ae tiles encode {mode}", TOLERANCE)


@torch.inference_mode()
def test_decoding_in_tiles() -> None:
    t = golden_io.load("v2/dc_ae/tiling_decode_both").tensors
    x = network("tiling_decode_both", "right", "both").decode(t["in.z"])
    golden_io.assert_within(x, t["out.x"], "dc_ae tiles decode both", TOLERANCE)


LAYERS = {
    "resblock": lambda: block("ResBlock", 32, 32),
    "evits5_glu": lambda: block("EViTS5_GLU", 32, 32),
    "evit_glu": lambda: block("EViT_GLU", 32, 32),
    "litemla": lambda: LiteMLA(64),
    "glumbconv": lambda: GLUMBConv(16),
    "rmsnorm3d": lambda: RMSNorm3d(16),
    "down_conv_avg": lambda: downsample(16, 32, (1, 2, 2)),
    "down_conv_avg_temporal": lambda: downsample(16, 32, (2, 2, 2)),
    "down_conv_avg_temporal_T1": lambda: downsample(16, 32, (2, 2, 2)),
    "up_interp_dup": lambda: upsample(32, 16, (1, 2, 2)),
    "up_interp_dup_temporal": lambda: upsample(32, 16, (2, 2, 2)),
    "up_interp_dup_temporal_T1": lambda: upsample(32, 16, (2, 2, 2)),
}


@pytest.mark.parametrize("case", LAYERS)
@torch.inference_mode()
def test_layers(case: str) -> None:
    fixture, layer = golden_io.load("v2/dc_ae/pieces"), LAYERS[case]()
    meta = fixture.meta["pieces"][case]
    assert {name: list(tensor.shape) for name, tensor in layer.state_dict().items()} == meta["state_dict"]
    filled(layer, meta)
    y = layer(fixture.tensors[f"{case}.in.x"])
    golden_io.assert_within(y, fixture.tensors[f"{case}.out.y"], f"dc_ae layer {case}", LAYER)


def test_pixels_to_channels_and_back() -> None:
    t = golden_io.load("v2/dc_ae/pieces").tensors
    for name, move, back in (
        ("pixel_unshuffle_3d", pixel_unshuffle_3d, pixel_shuffle_3d),
        ("pixel_shuffle_3d", pixel_shuffle_3d, pixel_unshuffle_3d),
    ):
        x = t[f"{name}.in.x"]
        assert torch.equal(move(x, (2, 2, 2)), t[f"{name}.out.y"])
        assert torch.equal(back(move(x, (2, 2, 2)), (2, 2, 2)), x)


@torch.inference_mode()
def test_lengths_in_temporal_tiles() -> None:
    table = golden_io.load_json("v2/dc_ae/lengths_temporal_tiling")
    published, right = (build(replace(SMALL, compat=compat)) for compat in ("published", "right"))
    for frames, expected in table["encode"].items():
        x = torch.zeros(1, 3, int(frames), 4, 4)
        if isinstance(expected, str):
            with pytest.raises(ValueError, match=f"Got {frames} frames; .* 1, 2 or a multiple of 4"):
                published.encode(x)
        else:
            assert published.encode(x).shape[2] == expected == published.get_latent_size(x.shape[2:])[0], frames
    for latents, expected in table["decode"].items():
        z = torch.zeros(1, 8, int(latents), 1, 1)
        assert published.decode(z).shape[2] == expected["frames"] == LOSSY.get(int(latents), expected["expected"])
        assert right.decode(z).shape[2] == expected["expected"], latents
    assert {int(latents) for latents in table["decode_mismatches"]} == set(LOSSY)


@torch.inference_mode()
def test_a_lone_last_latent_is_decoded_with_the_tile_before_it() -> None:
    """And everything before it is as published."""
    published, right = (build(replace(SMALL, compat=compat)) for compat in ("published", "right"))
    z = clip(1, 8, 13, 1, 1)
    x = right.decode(z)
    torch.testing.assert_close(x[:, :, :48], published.decode(z)[:, :, :48])
    torch.testing.assert_close(x[:, :, 48:], right.decode(z[:, :, 6:])[:, :, 24:])
    apart = build(replace(SMALL, tile_overlap_factor=0.0))
    assert apart.decode(clip(1, 8, 17, 1, 1)).shape[2] == 68


@pytest.mark.parametrize("frames, latents", [(1, 1), (2, 2), (4, 2), (5, 2), (8, 2), (9, 3), (37, 10)])
@torch.inference_mode()
def test_every_length_comes_back_whole(frames: int, latents: int) -> None:
    model, x = build(), clip(1, 3, frames, 8, 8)
    z = model.encode(x)
    assert z.shape[2] == model.get_latent_size(x.shape[2:])[0] == latents
    assert model.decode(z, num_frames=frames).shape == x.shape
    missing = 4 * latents - frames if frames > 1 else 0
    filled_up = torch.cat([x, x[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)
    assert torch.equal(z, model.encode(filled_up))


def test_lengths_that_the_public_code_takes() -> None:
    config = replace(SMALL, compat="published")
    assert [latent_frames(frames, config) for frames in (1, 2, 4, 8)] == [1, 1, 1, 2]
    with pytest.raises(ValueError, match="Got 6 frames"):
        latent_frames(6, config)


def test_sides_that_are_no_whole_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="Got 30 rows and 32 columns; expected multiples of 4"):
        build().encode(clip(1, 3, 1, 30, 32))


@torch.inference_mode()
def test_linear_attention_is_attention_with_a_product_of_positive_parts() -> None:
    q, k, v = (clip(2, 3, 4, 5) for _ in range(3))
    scores = q.relu().transpose(2, 3) @ k.relu()
    expected = v @ (scores / (scores.sum(3, keepdim=True) + 1e-15)).transpose(2, 3)
    torch.testing.assert_close(LiteMLA(4, 4).attend(q, k, v), expected)


def test_a_new_network_has_gains_of_one() -> None:
    """The public code draws them around zero."""
    gains = [module.weight for module in build().modules() if isinstance(module, RMSNorm3d)]
    assert gains and all(bool((gain == 1).all()) for gain in gains)


def test_tile_sizes_of_latents_follow_those_of_pixels() -> None:
    """In the public code they stay 8 and 8 when a configuration changes the pixels' ones."""
    config = DCAEConfig(spatial_tile_size=128, temporal_tile_size=16)
    assert config.space_tiles(encode=False).size == config.time_tiles(encode=False).size == 4


def test_tensors_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = DCAE(DCAEConfig())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == golden_io.manifest("v2/dc_ae_f32t4c128")
    assert sum(tensor.numel() for tensor in model.parameters()) == 459_462_147


class TestContract(AutoencoderContract):
    network = DCAE
    small = SMALL
    other = {"encoder_depth_list": (2, 1, 1)}  # noqa: RUF012
    shape = (8, 16, 24)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"width_list": (8, 16)}, "block_type has 3 entries, width_list has 2"),
        ({"temporal_downsample": (True, True, True)}, "temporal_downsample ends with True"),
        ({"decoder_depth_list": (1, 0, 1)}, "at least one block a level"),
        ({"block_type": ("ResBlock", "ViT", "ResBlock")}, "block_type holds 'ViT'"),
        ({"attention_dim": 3}, "expected a multiple of 3"),
        ({"latent_channels": 5}, "latent_channels is 5, expected a divisor of the last width 16"),
        ({"spatial_tile_size": 30}, "spatial_tile_size is 30, expected a multiple of 4"),
        ({"tile_overlap_factor": -0.1}, "tile_overlap_factor is -0.1"),
        ({"scaling_factor": 0.0}, "scaling_factor is 0"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0"),
        ({"compat": "wrong"}, "compat is 'wrong'"),
    ],
)
def test_wrong_configurations(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)
