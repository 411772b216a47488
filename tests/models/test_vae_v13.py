"""What the autoencoder promises beyond the published numbers: sizes, layouts, memory, training, checkpoints."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from opensora.checkpoint.safetensors_io import CheckpointError, save
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.models.vae_v13.windows import frame_windows, latent_frames, latent_windows
from opensora.nn import causal_conv
from opensora.nn.causal_conv import CausalConv3d
from opensora.nn.streaming import norm_affine

SMALL = VAEv13Config(
    z_channels=4,
    ch=8,
    ch_mult=(1, 1, 2, 2),
    num_res_blocks=1,
    norm_groups=4,
    normalization_mean=(0.5, -0.25, 0.0, 1.0),
    normalization_std=(2.0, 0.5, 1.0, 1.5),
)


def build(config: VAEv13Config = SMALL) -> OpenSoraVAE_V1_3:
    torch.manual_seed(0)
    return OpenSoraVAE_V1_3(config).eval()


def clip(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("micro_frame_size", [None, 5, 17])
@torch.inference_mode()
def test_every_length_comes_back_whole(micro_frame_size: int | None, overlap: bool) -> None:
    model = build(replace(SMALL, micro_frame_size=micro_frame_size, temporal_overlap=overlap))
    for frames in (1, 2, 18, 20):
        x = torch.empty(1, 3, frames, 8, 16)
        z = model.encode(x)
        assert z.shape[2:] == model.get_latent_size(x.shape[2:]), frames
        assert model.decode(z, num_frames=frames).shape == x.shape, frames


@given(st.integers(1, 200), st.sampled_from([None, 5, 17]), st.booleans())
def test_windows_of_any_length(frames: int, micro_frame_size: int | None, overlap: bool) -> None:
    """Windows cover the clip without gaps, and latents are cut where the encoder joined them."""
    config = replace(SMALL, micro_frame_size=micro_frame_size, temporal_overlap=overlap)
    windows = frame_windows(frames, config)
    shared = int(overlap and micro_frame_size is not None)
    assert windows[0][0] == 0 and windows[-1][1] == frames
    assert all(b == a + shared for (a, _), (_, b) in zip(windows[1:], windows, strict=False))
    latents = [1 + -(-(stop - start - 1) // 4) for start, stop in windows]
    assert latent_frames(frames, config) == sum(latents)
    assert [stop - start for start, stop in latent_windows(sum(latents), config)] == latents


@pytest.mark.parametrize("height, width", [(8, 8), (9, 15), (28, 36), (23, 40), (70, 93)])
@torch.inference_mode()
def test_latent_size_of_odd_pixels(height: int, width: int) -> None:
    x = clip(1, 3, 1, height, width)
    model = build()
    assert model.encode(x).shape[2:] == model.get_latent_size((1, height, width))


def test_sizes_that_cannot_be_coded_are_refused() -> None:
    model = build()
    assert model.get_latent_size((None, 16, None)) == (None, 2, None)
    assert (model.patch_size, model.latent_channels) == ((4, 8, 8), 4)
    with pytest.raises(ValueError, match="positive"):
        model.get_latent_size((0, 16, 16))
    with pytest.raises(ValueError, match="smaller than a latent"):
        model.encode(clip(1, 3, 1, 16, 1))
    with pytest.raises(ValueError, match=r"shape \(3, 1, 16, 16\)"):
        model.encode(clip(3, 1, 16, 16))
    with pytest.raises(ValueError, match="4 channels"):
        model.decode(clip(1, 3, 1, 2, 2))
    with pytest.raises(ValueError, match="Asked for 6 frames, but 2 latent frames decode to 5"):
        model.decode(clip(1, 4, 2, 2, 2), num_frames=6)


@torch.inference_mode()
def test_frames_of_two_windows_are_their_mean() -> None:
    model = build(replace(SMALL, micro_frame_size=5))
    z = clip(1, 4, 4, 2, 2)
    first, second = model.decode_raw(z[:, :, :2]), model.decode_raw(z[:, :, 2:])
    joined = model.decode_raw(z)
    assert joined.shape[2] == 9
    torch.testing.assert_close(joined[:, :, 4], (first[:, :, 4] + second[:, :, 0]) / 2)
    torch.testing.assert_close(joined[:, :, 5:], second[:, :, 1:])


@torch.inference_mode()
def test_a_batch_is_its_samples() -> None:
    x = clip(3, 3, 5, 16, 16)
    one_by_one, together = build(), build(replace(SMALL, micro_batch_size=None, micro_batch_size_2d=None))
    z = together.encode(x)
    torch.testing.assert_close(one_by_one.encode(x), z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one_by_one.decode(z), together.decode(z), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.encode(x[1:2]), z[1:2], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_inputs_are_left_as_they_were() -> None:
    model, x = build(), clip(1, 3, 5, 16, 16)
    z = model.encode(x)
    copies = x.clone(), z.clone()
    model.encode(x)
    model.decode(z)
    assert torch.equal(x, copies[0]) and torch.equal(z, copies[1])


@torch.inference_mode()
def test_samples_follow_the_generator() -> None:
    model, x = build(), clip(1, 3, 1, 16, 16)
    draws = [model.encode(x, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(model.encode(x), model.normalize(model.posterior(x).mode()))


@torch.inference_mode()
def test_own_statistics() -> None:
    model, z = build(), clip(2, 4, 3, 2, 2)
    mean, std = (torch.tensor(v).view(1, 4, 1, 1, 1) for v in (SMALL.normalization_mean, SMALL.normalization_std))
    torch.testing.assert_close(model.normalize(z), (z - mean) / std)
    torch.testing.assert_close(model.denormalize(model.normalize(z)), z)
    assert model.normalize(z.bfloat16()).dtype == torch.bfloat16
    raw = build(replace(SMALL, normalization_mean=None, normalization_std=None, normalization=None))
    assert raw.normalize(z) is z
    unset = build(replace(SMALL, normalization_mean=None, normalization_std=None))
    with pytest.raises(ValueError, match="of 16 latent channels, this network has 4"):
        unset.encode(clip(1, 3, 1, 16, 16))
    assert unset.posterior(clip(1, 3, 1, 16, 16)).mean.shape == (1, 4, 1, 2, 2)


@pytest.mark.parametrize("frames", [1, 9])
def test_channels_last_changes_neither_numbers_nor_gradients(frames: int) -> None:
    planar, last = build(), build().to(memory_format=torch.channels_last_3d)
    conv = last.encoder.conv_in.conv.weight
    assert conv.is_contiguous(memory_format=torch.channels_last_3d) and not conv.is_contiguous()
    x = clip(2, 3, frames, 16, 16)
    for model in (planar, last):
        layout = torch.channels_last_3d if model is last else torch.contiguous_format
        posterior = model.posterior(x.contiguous(memory_format=layout))
        model.decode_raw(posterior.mode(), num_frames=frames).square().mean().backward()
    for (name, a), b in zip(planar.named_parameters(), last.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    with torch.no_grad():
        a, b = planar.encode(x), last.encode(x.contiguous(memory_format=torch.channels_last_3d))
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
        assert last.encoder.conv_in(x).is_contiguous(memory_format=torch.channels_last_3d)


def test_training_and_evaluation_compute_the_same() -> None:
    model, x = build(), clip(2, 3, 9, 16, 16)
    training = model.decode(model.encode(x), num_frames=9)
    assert training.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(model.decode(model.encode(x), num_frames=9), training, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_tiles_change_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    x = clip(1, 3, 17, 16, 16)
    model, whole = build(replace(SMALL, tile_size=2)), build(replace(SMALL, use_tiled_conv3d=False))
    z = whole.encode(x)
    expected = whole.decode(z)
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        model = model.to(memory_format=memory_format)
        torch.testing.assert_close(model.encode(x.contiguous(memory_format=memory_format)), z, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.decode(z), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_tiles_are_never_convolved_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 0)
    layer, seen = CausalConv3d(2, 3, 3, stride=(2, 1, 1), tile_size=2), []
    layer.conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2]))
    y = layer(clip(1, 2, 9, 4, 4))
    assert y.shape == (1, 3, 5, 4, 4)
    assert seen == [5, 5, 3]


def test_only_the_past_matters_to_a_convolution() -> None:
    x = clip(1, 2, 6, 5, 5).requires_grad_()
    layer = CausalConv3d(2, 2, 3)
    (gradient,) = torch.autograd.grad(layer(x)[:, :, 3].sum(), x)
    assert gradient[:, :, 4:].eq(0).all() and gradient[:, :, 1:4].abs().sum((0, 1, 3, 4)).gt(0).all()


@pytest.mark.parametrize("frames", [1, 4])
def test_silu_before_a_convolution(frames: int) -> None:
    layer = CausalConv3d(2, 3, 3).double()
    x = clip(2, 2, frames, 3, 3).double().requires_grad_()
    torch.testing.assert_close(layer.after_silu(x), layer(F.silu(x)))
    assert torch.autograd.gradcheck(layer.after_silu, (x,))


def test_a_single_frame_is_a_plane() -> None:
    layer, x = CausalConv3d(2, 3, 3, stride=(2, 2, 2)), clip(2, 2, 1, 7, 6)
    torch.testing.assert_close(layer(x), layer.conv(F.pad(x, (0, 0, 0, 0, 2, 0))))


@torch.inference_mode()
def test_statistics_of_a_normalisation_in_passes() -> None:
    norm = nn.GroupNorm(2, 6, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = clip(2, 6, 7, 4, 4) * torch.linspace(0.1, 3, 7).view(7, 1, 1) + 5
    scale, shift = norm_affine(norm, x, frames_at_once=3)
    torch.testing.assert_close(x * scale + shift, norm(x), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_half_precision_is_close() -> None:
    model, x = build(), clip(1, 3, 9, 16, 16)
    z = model.encode(x)
    decoded = model.decode(z)
    half = build().to(torch.bfloat16, memory_format=torch.channels_last_3d)
    assert half.encode(x.bfloat16()).dtype == torch.bfloat16
    error = (half.decode(z.bfloat16()).float() - decoded).norm() / decoded.norm()
    assert error < 0.05


@torch.inference_mode()
def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    model = build()
    save(model, tmp_path / "model.safetensors", {"family": "1.3", "role": "vae"})
    (tmp_path / "config.json").write_text(json.dumps(asdict(SMALL)))
    loaded = OpenSoraVAE_V1_3.from_pretrained(tmp_path)
    x = clip(1, 3, 5, 16, 16)
    assert loaded.config == SMALL and not loaded.training
    assert torch.equal(loaded.encode(x), model.encode(x))
    assert OpenSoraVAE_V1_3.from_pretrained(tmp_path, micro_frame_size=None).config.micro_frame_size is None
    with pytest.raises(CheckpointError, match="of another shape"):
        OpenSoraVAE_V1_3.from_pretrained(tmp_path, ch=16)
    save(model, tmp_path / "model.safetensors", {"family": "1.3", "role": "stdit"})
    with pytest.raises(ValueError, match="stdit"):
        OpenSoraVAE_V1_3.from_pretrained(tmp_path)


def test_configuration_of_the_hub_means_the_published_network(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["OpenSoraVAE_V1_3"], "model_type": "x"}))
    save(build(), tmp_path / "model.safetensors", {})
    with pytest.raises(CheckpointError, match=r"unexpected|missing|another shape"):
        OpenSoraVAE_V1_3.from_pretrained(tmp_path)  # builds the published network, which this is not


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"ch": 6}, "multiple of 4 groups"),
        ({"micro_frame_size": 16}, "micro_frame_size is 16"),
        ({"tile_size": 0}, "tile_size is 0"),
        ({"micro_batch_size": 0}, "micro_batch_size is 0"),
        ({"normalization": "videos"}, "'videos', expected one of video, video_5frames"),
        ({"normalization_std": None}, "together"),
        ({"normalization_mean": (0.0,)}, "1 values, expected one per latent channel"),
        ({"normalization_std": (1.0, 1.0, 0.0, 1.0)}, "positive"),
        ({"down_sampling_layer": (1, 3)}, "down_sampling_layer is"),
        ({"compat": "wrong"}, "compat is 'wrong'"),
    ],
)
def test_wrong_configurations(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)
