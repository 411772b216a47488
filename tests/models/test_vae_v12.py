"""What the 1.2 autoencoder promises beyond the published numbers: lengths, windows, randomness, checkpoints."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from opensora.checkpoint.safetensors_io import CheckpointError, save
from opensora.config import to_dict
from opensora.models.vae_v12.vae import OpenSoraVAE_V1_2, SpatialConfig, TemporalConfig, VAEv12Config
from opensora.models.vae_v12.windows import decoded_frames, frame_windows, latent_frames, latent_windows

SMALL = VAEv12Config(
    spatial=SpatialConfig(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4),
    temporal=TemporalConfig(filters=8, num_res_blocks=1, num_groups=4),
)


def build(config: VAEv12Config = SMALL) -> OpenSoraVAE_V1_2:
    torch.manual_seed(0)
    return OpenSoraVAE_V1_2(config).eval()


def clip(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("micro_frame_size", [None, 5, 16, 17])
@torch.inference_mode()
def test_every_length_comes_back_whole(micro_frame_size: int | None) -> None:
    model = build(replace(SMALL, micro_frame_size=micro_frame_size))
    for frames in (1, 2, 17, 18, 20):
        x = clip(1, 3, frames, 8, 16)
        z = model.encode(x)
        assert z.shape[2:] == model.get_latent_size(x.shape[2:]), frames
        assert model.decode(z, num_frames=frames).shape == x.shape, frames


@given(st.integers(1, 200), st.sampled_from([None, 3, 5, 16, 17]))
def test_windows_of_any_length(frames: int, micro_frame_size: int | None) -> None:
    """Windows cover the clip without gaps; latents are cut where they were joined and decode to as many frames."""
    config = replace(SMALL, micro_frame_size=micro_frame_size)
    windows = frame_windows(frames, config)
    lengths = [stop - start for start, stop in windows]
    assert sum(lengths) == frames and all(b == a for (a, _), (_, b) in zip(windows[1:], windows, strict=False))
    latents = [-(-length // 4) for length in lengths]
    assert latent_frames(frames, config) == sum(latents)
    assert [stop - start for start, stop in latent_windows(sum(latents), config)] == latents
    assert decoded_frames(sum(latents), frames, config) == lengths
    assert decoded_frames(sum(latents), None, config)[:-1] == lengths[:-1]


@torch.inference_mode()
def test_a_longer_clip_is_cut() -> None:
    """48 frames have 14 latent frames; of 15, those of 51, they are the first."""
    model, z = build(), clip(1, 4, 15, 1, 1)
    whole = model.decode(z)
    assert whole.shape[2] == 51
    torch.testing.assert_close(model.decode(z, num_frames=48), whole[:, :, :48], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="Asked for 0 frames"):
        model.decode(z, num_frames=0)
    with pytest.raises(ValueError, match="Asked for 52 frames, but 15 latent frames are those of 51"):
        model.decode(z, num_frames=52)


@torch.inference_mode()
def test_windows_know_nothing_of_each_other() -> None:
    model, x = build(replace(SMALL, micro_frame_size=5)), clip(1, 3, 8, 16, 16)
    z = model.encode(x)
    parts = [model.encode(x[:, :, a:b]) for a, b in ((0, 5), (5, 8))]
    torch.testing.assert_close(z, torch.cat(parts, dim=2), rtol=1e-4, atol=1e-5)
    back = [model.decode(z[:, :, :2], num_frames=5), model.decode(z[:, :, 2:], num_frames=3)]
    torch.testing.assert_close(model.decode(z, num_frames=8), torch.cat(back, dim=2), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_batch_is_its_samples_and_inputs_are_left_alone() -> None:
    model, x = build(), clip(2, 3, 5, 16, 16)
    before = x.clone()
    z = model.encode(x)
    torch.testing.assert_close(model.encode(x[1:]), z[1:], rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before)


@torch.inference_mode()
def test_samples_follow_the_generator_alone() -> None:
    model, x = build(), clip(1, 3, 5, 16, 16)
    state = torch.get_rng_state()
    draws = [model.encode(x, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(model.encode(x), model.normalize(model.posterior(x).mode()))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="needs the generator"):
        model.encode(x, sample=True)


@torch.inference_mode()
def test_statistics() -> None:
    model, z = build(), clip(2, 4, 3, 2, 2)
    mean, deviation = (torch.tensor(v).view(1, 4, 1, 1, 1) for v in (SMALL.shift, SMALL.scale))
    torch.testing.assert_close(model.normalize(z), (z - mean) / deviation)
    torch.testing.assert_close(model.denormalize(model.normalize(z)), z)
    assert model.normalize(z.bfloat16()).dtype is torch.bfloat16


def test_training_computes_the_same_and_reaches_every_weight() -> None:
    model, x = build(), clip(1, 3, 5, 16, 16)
    training = model.decode(model.encode(x, sample=True, generator=torch.Generator().manual_seed(0)), num_frames=5)
    training.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    with torch.no_grad():
        z = model.encode(x, sample=True, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(model.decode(z, num_frames=5), training, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_layout_and_precision_change_little() -> None:
    x, planar = clip(1, 3, 9, 16, 16), build()
    last = build().to(memory_format=torch.channels_last_3d)
    assert last.temporal_vae.encoder.conv_in.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    z = planar.encode(x)
    decoded = planar.decode(z, num_frames=9)
    torch.testing.assert_close(last.encode(x), z, rtol=1e-4, atol=1e-5)
    half = last.to(torch.bfloat16)
    error = (half.decode(z.bfloat16(), num_frames=9).float() - decoded).norm() / decoded.norm()
    assert half.encode(x.bfloat16()).dtype is torch.bfloat16 and error < 0.05


def test_wrong_inputs_are_refused() -> None:
    model = build()
    assert (model.patch_size, model.latent_channels) == ((4, 8, 8), 4)
    assert model.get_latent_size((None, 23, None)) == (None, 2, None)
    for wrong, message in ((clip(3, 1, 16, 16), "pixels"), (clip(1, 3, 1, 16, 7), "smaller than a latent")):
        with pytest.raises(ValueError, match=message):
            model.encode(wrong)
    with pytest.raises(ValueError, match="expected latents"):
        model.decode(clip(1, 3, 1, 2, 2))
    with pytest.raises(ValueError, match="positive"):
        model.get_latent_size((0, 16, 16))


@torch.inference_mode()
def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    model, x = build(), clip(1, 3, 5, 16, 16)
    save(model, tmp_path / "model.safetensors", {"family": "1.2", "role": "vae"})
    (tmp_path / "config.json").write_text(json.dumps(to_dict(SMALL)))
    loaded = OpenSoraVAE_V1_2.from_pretrained(tmp_path)
    assert loaded.config == SMALL and not loaded.training
    assert torch.equal(loaded.encode(x), model.encode(x))
    with pytest.raises(ValueError, match="set scale to the checkpoint's"):
        OpenSoraVAE_V1_2.from_pretrained(tmp_path, scale=(1.0, 1.0, 1.0, 1.0))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "VideoAutoencoderPipeline"}))
    with pytest.raises(CheckpointError, match="of another shape"):  # the published network, which this is not
        OpenSoraVAE_V1_2.from_pretrained(tmp_path)
    save(model, tmp_path / "model.safetensors", {"family": "1.3", "role": "vae"})
    with pytest.raises(ValueError, match=r"family 1\.3; 1\.2 is needed"):
        OpenSoraVAE_V1_2.from_pretrained(tmp_path)


def test_diffusers_is_imported_when_one_is_built() -> None:
    code = "import sys, opensora.models.vae_v12.vae; print('diffusers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("part", "wrong", "message"),
    [
        (SMALL.spatial, {"block_out_channels": (8, 6)}, r"6 channels, expected a multiple of norm_num_groups \(4\)"),
        (SMALL.spatial, {"micro_batch_size": 0}, "micro_batch_size is 0"),
        (SMALL.temporal, {"filters": 6}, "6 channels, expected a multiple of num_groups"),
        (SMALL.temporal, {"temporal_downsample": (True,)}, "has 1 entries for 4 levels"),
        (SMALL.temporal, {"num_res_blocks": 0}, "num_res_blocks is 0"),
        (SMALL, {"micro_frame_size": 0}, "micro_frame_size is 0"),
        (SMALL, {"shift": (0.0,)}, "shift has 1 values, expected one of 4 channels"),
        (SMALL, {"scale": (1.0, 1.0, 0.0, 1.0)}, "positive"),
        (SMALL, {"temporal": TemporalConfig(in_out_channels=8)}, "expected the same"),
    ],
)
def test_wrong_configurations(part: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(part, **wrong)
