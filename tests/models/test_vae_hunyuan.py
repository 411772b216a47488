"""The Hunyuan video autoencoder: the numbers of the published code in float32, and what it promises beyond them."""

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import golden_io
import pytest
import torch
import torch.nn.functional as F
from autoencoder_contract import AutoencoderContract, clip
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from opensora.config import from_dict
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.models.vae_hunyuan.blocks import Downsample, FrameCausalAttention, ResnetBlock, Upsample, repeated
from opensora.models.vae_hunyuan.coder import MidBlock
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.nn import causal_conv
from opensora.nn.causal_conv import EdgeCausalConv3d

TOLERANCE, LAYER = 1e-5, 2e-6
VARIANT = 5e-5
MODES = {"none": (False, False), "spatial": (True, False), "temporal": (False, True), "both": (True, True)}
FULL = ("image", "video", "video_t5")
"""Cases of 1 + 4 n frames."""
SMALL = HunyuanVAEConfig(
    latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, scale_factor=0.5
)


def build(config: HunyuanVAEConfig = SMALL) -> AutoencoderKLCausal3D:
    torch.manual_seed(0)
    return AutoencoderKLCausal3D(config).eval()


@cache
def network(name: str, variant: str = "", compat: str = "published", mode: str = "none") -> AutoencoderKLCausal3D:
    meta = golden_io.load(f"v2/hunyuan_vae/{name}").meta
    meta = meta["variants"][variant] if variant else meta
    space, time = MODES[mode]
    ours = {"use_spatial_tiling": space, "use_temporal_tiling": time, "compat": compat}
    model = AutoencoderKLCausal3D(from_dict(HunyuanVAEConfig, meta["config"] | ours)).eval()
    filled(model, meta)
    return model


def filled(module: torch.nn.Module, meta: dict[str, Any]) -> torch.nn.Module:
    golden_io.fill(module, meta["salt"])
    assert golden_io.checksum(module) == meta["rule"]["weights_crc32"]
    return module


@pytest.mark.parametrize("compat, case", [("published", "odd"), *product(("published", "right"), FULL)])
@torch.inference_mode()
def test_encoding(compat: str, case: str) -> None:
    fixture, model = golden_io.load("v2/hunyuan_vae/encode"), network("encode", compat=compat)
    t, size = fixture.tensors, fixture.meta["latent_sizes"][case]
    moments = model.encode_moments(t[f"{case}.in.x"])
    golden_io.assert_within(moments, t[f"{case}.out.moments"], f"hunyuan encode {case} moments", TOLERANCE)
    golden_io.assert_within(model.encode(t[f"{case}.in.x"]), t[f"{case}.out.z"], f"hunyuan encode {case}", TOLERANCE)
    assert list(model.get_latent_size(size["input"])) == size["actual"] == list(moments.shape[2:])
    if case == "image":
        sample = model.normalize(DiagonalGaussianDistribution(moments).sample(noise=t["image.in.noise"]))
        golden_io.assert_within(sample, t["image.out.z_sampled"], "hunyuan encode image sampled", TOLERANCE)


@pytest.mark.parametrize("case", FULL)
@torch.inference_mode()
def test_decoding(case: str) -> None:
    t = golden_io.load("v2/hunyuan_vae/decode").tensors
    x = network("decode", compat="right").decode(t[f"{case}.in.z"])
    golden_io.assert_within(x, t[f"{case}.out.x"], f"hunyuan decode {case}", TOLERANCE)


@pytest.mark.parametrize("variant", ["t8", "noattn", "three_levels_4x4"])
@torch.inference_mode()
def test_variants(variant: str) -> None:
    fixture, model = golden_io.load("v2/hunyuan_vae/variants"), network("variants", variant, compat="right")
    t, meta = fixture.tensors, fixture.meta["variants"][variant]
    x = t[f"{variant}.in.x"]
    z = model.encode(x)
    moments = model.encode_moments(x)
    golden_io.assert_within(moments, t[f"{variant}.out.moments"], f"hunyuan variant {variant} moments", VARIANT)
    golden_io.assert_within(z, t[f"{variant}.out.z"], f"hunyuan variant {variant} z", VARIANT)
    golden_io.assert_within(model.decode(z), t[f"{variant}.out.rec"], f"hunyuan variant {variant} decode", VARIANT)
    assert list(model.get_latent_size(x.shape[2:])) == meta["get_latent_size"]
    assert model.config.space_tiles(encode=True).keep * 4 // 3 == meta["tile_latent_min_size"]
    assert sum(p.numel() for p in model.parameters()) == meta["n_params"]


@pytest.mark.parametrize("mode", MODES)
@torch.inference_mode()
def test_encoding_in_tiles(mode: str) -> None:
    t, model = golden_io.load("v2/hunyuan_vae/tiling_encode").tensors, network("tiling_encode", "", "right", mode)
    moments = model.encode_moments(t["in.x"])
    golden_io.assert_within(moments, t[f"{mode}.out.moments"], f"hunyuan tiles encode {mode} moments", TOLERANCE)
    z = model.normalize(DiagonalGaussianDistribution(moments).mode())
    golden_io.assert_within(z, t[f"{mode}.out.z"], f"hunyuan tiles encode {mode}", TOLERANCE)


@pytest.mark.parametrize("mode", ["spatial", "temporal", "both"])
@torch.inference_mode()
def test_decoding_in_tiles(mode: str) -> None:
    name = f"tiling_decode_{mode}"
    t, model = golden_io.load(f"v2/hunyuan_vae/{name}").tensors, network(name, "", "right", mode)
    golden_io.assert_within(model.decode(t["in.z"]), t["out.x"], f"hunyuan tiles decode {mode}", TOLERANCE)


LAYERS = {
    "causal_conv3d_k3": lambda: EdgeCausalConv3d(5, 7, 3),
    "causal_conv3d_k3_stride122": lambda: Downsample(4, (1, 2, 2)).conv,
    "causal_conv3d_k3_stride222": lambda: Downsample(4, (2, 2, 2)).conv,
    "upsample_222": lambda: Upsample(16, (2, 2, 2), None),
    "upsample_122": lambda: Upsample(16, (1, 2, 2), None),
    "upsample_222_T1": lambda: Upsample(16, (2, 2, 2), None),
    "resnet_shortcut": lambda: ResnetBlock(16, 32, 8, None),
    "mid_block": lambda: MidBlock(16, 8, True, None),
}
WIDER = {"causal_conv3d_k3_stride122": (1, 2, 2), "causal_conv3d_k3_stride222": (2, 2, 2)}
"""Convolutions that change the width as well, which no layer of the network does."""


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["planar", "channels_last"])
@pytest.mark.parametrize("case", LAYERS)
@torch.inference_mode()
def test_layers(case: str, layout: torch.memory_format) -> None:
    fixture = golden_io.load("v2/hunyuan_vae/pieces")
    layer = EdgeCausalConv3d(4, 6, 3, WIDER[case]) if case in WIDER else LAYERS[case]()
    filled(layer.eval(), fixture.meta["pieces"][case])
    x = fixture.tensors[f"{case}.in.x"].contiguous(memory_format=layout)
    before = x.clone()
    y = layer(x)
    golden_io.assert_within(y, fixture.tensors[f"{case}.out.y"], f"hunyuan layer {case}", LAYER)
    assert torch.equal(x, before)


@torch.inference_mode()
def test_frames_attend_to_those_before_them_and_to_themselves() -> None:
    """As with the dense mask of the published code."""
    mask = golden_io.load("v2/hunyuan_vae/pieces").tensors["causal_mask.out"]  # 3 frames of 4 positions
    layer, x = FrameCausalAttention(8, 4), clip(2, 8, 3, 2, 2)
    tokens = layer.group_norm(x).flatten(2).transpose(1, 2)
    dense = F.scaled_dot_product_attention(layer.to_q(tokens), layer.to_k(tokens), layer.to_v(tokens), mask)
    expected = x + layer.to_out[0](dense).transpose(1, 2).unflatten(2, (3, 2, 2))
    torch.testing.assert_close(layer(x), expected)


class Largest(TorchDispatchMode):
    """Notes the elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_attention_makes_no_mask_of_all_pairs(backend: SDPBackend) -> None:
    """Even where all scores are held, they are those of one frame."""
    layer, x = FrameCausalAttention(4, 4), clip(1, 4, 16, 6, 6)
    positions = 16 * 36
    with torch.no_grad(), sdpa_kernel(backend), Largest() as largest:
        layer(x)
    assert largest.elements <= 36 * positions < positions**2


def test_distribution() -> None:
    t = golden_io.load("v2/hunyuan_vae/pieces").tensors
    parameters, noise = t["gauss.in.params"], t["gauss.in.noise"]
    posterior = DiagonalGaussianDistribution(parameters)
    other = DiagonalGaussianDistribution(t["gauss.in.other_params"])
    by_column = DiagonalGaussianDistribution(parameters.movedim(4, 1).flatten(0, 1))  # the published sum leaves W out
    values = {
        "kl": posterior.kl(),
        "kl_other": posterior.kl(other),
        "mode": posterior.mode(),
        "sample": posterior.sample(noise=noise),
        "nll": by_column.nll(noise.movedim(4, 1).flatten(0, 1)).view(2, 2),
    }
    for name, value in values.items():
        golden_io.assert_within(value, t[f"gauss.out.{name}"], f"hunyuan distribution {name}", LAYER)


def test_sizes_of_latents() -> None:
    model, right = build(replace(SMALL, compat="published")), build()
    for case in golden_io.load_json("v2/hunyuan_vae/get_latent_size_full")["cases"]:
        assert list(model.get_latent_size(case["input"])) == case["latent"]
        if case["input"][0] % 4 == 1:
            assert list(right.get_latent_size(case["input"])) == case["latent"]


@torch.inference_mode()
def test_lengths_in_temporal_tiles() -> None:
    table = golden_io.load_json("v2/hunyuan_vae/lengths_temporal_tiling")
    tiles = {"sample_size": 32, "sample_tsize": 16, "use_temporal_tiling": True}
    small = replace(SMALL, **tiles, block_out_channels=(4,) * 4, norm_num_groups=2, mid_block_add_attention=False)
    published, right = (build(replace(small, compat=compat)) for compat in ("published", "right"))
    for frames, expected in table["encode_T"].items():
        x = torch.zeros(1, 3, int(frames), 8, 8)
        assert published.encode(x).shape[2] == expected["encoded_T"] == published.latent_frames(int(frames)), frames
    for latents, frames in table["decode_T"].items():
        z = torch.zeros(1, 4, int(latents), 1, 1)
        assert published.decode(z).shape[2] == frames, latents
    for frames in (17, 18, 25, 26, 29, 30, 44):
        z = right.encode(torch.zeros(1, 3, frames, 8, 8))
        assert z.shape[2] == right.latent_frames(frames), frames
        assert right.decode(z, num_frames=frames).shape[2] == frames


def test_tensors_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        model = AutoencoderKLCausal3D(HunyuanVAEConfig())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == golden_io.manifest("v2/hunyuan_vae")
    assert sum(tensor.numel() for tensor in model.parameters()) == 246_478_803


class TestContract(AutoencoderContract):
    network = AutoencoderKLCausal3D
    small = SMALL
    other = {"layers_per_block": 2}  # noqa: RUF012
    shape = (5, 16, 24)


@torch.inference_mode()
def test_frames_left_over_come_back() -> None:
    """The published code makes two latents of six frames, from which five come back."""
    model, x = build(), clip(1, 3, 6, 16, 16)
    z = model.encode(x)
    assert z.shape[2] == model.get_latent_size((6, 16, 16))[0] == 3
    assert model.decode(z, num_frames=6).shape[2] == 6
    filled_up = torch.cat([x, x[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    torch.testing.assert_close(z, model.encode(filled_up))
    published = build(replace(SMALL, compat="published"))
    z = published.encode(x)
    assert z.shape[2] == 2 and published.decode(z, num_frames=6).shape[2] == 5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["planar", "channels_last"])
@torch.inference_mode()
def test_convolution_tiles_change_no_numbers(layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    model = network.__wrapped__("encode", compat="right").to(memory_format=layout)
    assert model.config.conv_tile == 4
    t, x = golden_io.load("v2/hunyuan_vae/encode").tensors, golden_io.load("v2/hunyuan_vae/decode").tensors
    z = model.encode(t["video.in.x"].contiguous(memory_format=layout))
    golden_io.assert_within(z, t["video.out.z"], "hunyuan convolution tiles encode", TOLERANCE)
    y = model.decode(x["video.in.z"].contiguous(memory_format=layout))
    golden_io.assert_within(y, x["video.out.x"], "hunyuan convolution tiles decode", TOLERANCE)


def test_convolutions_repeat_the_edge() -> None:
    """A constant clip stays constant, to its border and from its first frame on."""
    layer = EdgeCausalConv3d(1, 1).double()
    for frames in (1, 4):
        y = layer(torch.ones(1, 1, frames, 5, 5, dtype=torch.float64))
        torch.testing.assert_close(y, (layer.conv.weight.sum() + layer.conv.bias).expand_as(y))


def test_repeating_the_edge_is_padding_by_replication() -> None:
    x = clip(2, 3, 4, 5, 6)
    for space, frames in ((1, 2), (1, 0), (0, 2), (2, 1), (0, 0)):
        expected = F.pad(x, (space, space, space, space, frames, 0), mode="replicate")
        assert torch.equal(causal_conv.repeat_edge(x, space, frames), expected)
        with torch.no_grad():
            assert torch.equal(causal_conv.repeat_edge(x, space, frames), expected)


@torch.inference_mode()
def test_padding_and_repetition_keep_the_memory_layout() -> None:
    x = clip(2, 3, 4, 5, 6)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        x = x.contiguous(memory_format=layout)
        for y in (causal_conv.repeat_edge(x, 1, 2), repeated(x, (2, 2, 2)), repeated(x, (1, 2, 2))):
            assert y.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2)])
def test_repetition_of_large_clips_is_done_by_frames(
    factors: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = clip(1, 2, 4, 3, 2).requires_grad_()
    y = repeated(x, factors)
    frames = [0, 1, 1, 2, 2, 3, 3] if factors[0] == 2 else [0, 1, 2, 3]
    assert torch.equal(y[..., ::2, 1::2], x[:, :, frames])
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    with torch.no_grad():
        assert torch.equal(repeated(x, factors), y)


def test_a_convolution_of_one_frame_is_that_of_a_still_clip() -> None:
    layer, x = EdgeCausalConv3d(2, 3, 3, (2, 2, 2)), clip(2, 2, 1, 7, 6)
    torch.testing.assert_close(layer(x), layer(x.expand(-1, -1, 3, -1, -1))[:, :, :1])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"block_out_channels": (6, 8, 16, 16)}, r"holds 6, expected multiples of norm_num_groups \(4\)"),
        ({"time_compression_ratio": 3}, "time_compression_ratio is 3, expected a power of 2 up to 8"),
        ({"spatial_compression_ratio": 16}, "spatial_compression_ratio is 16"),
        ({"conv_tile": 0}, "conv_tile is 0"),
        ({"scale_factor": 0.0}, "scale_factor is 0"),
        ({"sample_size": 250}, "sample_size is 250, expected a multiple of 8"),
        ({"tile_overlap_factor": 1.0}, "tile_overlap_factor is 1"),
        ({"tile_overlap_factor": 0.3}, "cannot overlap by 0.3"),
        ({"compat": "wrong"}, "compat is 'wrong'"),
    ],
)
def test_wrong_configurations(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)
