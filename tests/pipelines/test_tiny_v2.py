"""The small checkpoint of 2.0's design from a request to frames, as it will lie in ``assets/tiny-v2``: its own card and
T5, and networks of its kind with random weights. The autoencoder begins as a resampler, so that pictures survive it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.text_encoders import write_clip
from pipelines.bundles import fill
from torch import nn

from opensora import generate_video
from opensora.checkpoint import locate, safetensors_io
from opensora.config import load_config
from opensora.datasets.world.scene import random_scene, render
from opensora.models import presets, zoo
from opensora.models.mmdit.config import MMDiTConfig
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.vae_hunyuan.config import HunyuanVAEConfig
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D
from opensora.pipelines import bundle as bundle_module
from opensora.pipelines.build import release_models
from opensora.pipelines.bundle import find_bundle, load_bundle, of_preset
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult
from opensora.training import vae_init_hunyuan

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "configs" / "diffusion" / "train" / "tiny_v2.py"
VAE = HunyuanVAEConfig(
    latent_channels=12,
    block_out_channels=(12, 15, 18, 24),
    layers_per_block=1,
    norm_num_groups=3,
    scale_factor=1.0,
    use_spatial_tiling=False,
)
MMDIT = MMDiTConfig(
    in_channels=48,
    vec_in_dim=16,
    context_in_dim=192,
    hidden_size=48,
    num_heads=2,
    depth=1,
    depth_single_blocks=1,
    axes_dim=(8, 8, 8),
)
CLIP = render(random_scene(np.random.default_rng(4)), 96, 176, 33, seed=4)


def write_weights(folder: Path) -> None:
    """The networks beside the card that is there."""
    (folder / "bundle.json").write_bytes((ROOT / "assets" / "tiny-v2" / "bundle.json").read_bytes())
    torch.manual_seed(0)
    vae, mmdit = AutoencoderKLCausal3D(VAE), MMDiT(MMDIT)
    vae_init_hunyuan.prepare_for_training(vae)
    fill(mmdit, 1, 0.5)
    networks: tuple[tuple[str, nn.Module, Any], ...] = (("stdit", mmdit, MMDIT), ("vae", vae, VAE))
    for name, network, config in networks:
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(asdict(config)))
        safetensors_io.save(network, folder / name / "model.safetensors", {"family": "2.0", "role": name})
    write_clip(folder / "clip")


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of bundled checkpoints in which this one is complete."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "tiny").symlink_to(ROOT / "assets" / "tiny")
    (folder / "tiny-v2").mkdir()
    write_weights(folder / "tiny-v2")
    with pytest.MonkeyPatch.context() as patch:
        for module in (locate, zoo, bundle_module):
            patch.setattr(module, "assets_folder", lambda: folder)
        yield folder
    release_models()


def make(**settings: Any) -> GenerationResult:
    return generate_video(
        "a red ball", model="tiny-v2", seed=3, dtype="fp32", **{"steps": 1, "length": "9f", **settings}
    )


def decibels(frames: np.ndarray, given: np.ndarray) -> float:
    """PSNR of uint8 pictures."""
    return float(-10 * np.log10(np.mean((frames / 255.0 - given / 255.0) ** 2)))


def test_it_is_not_mentioned_as_long_as_its_weights_are_not_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (locate, zoo, bundle_module):
        monkeypatch.setattr(module, "assets_folder", lambda: tmp_path)
    assert "tiny-v2" not in zoo.PRESETS and "tiny-v2" not in list(zoo.PRESETS)
    assert len(zoo.PRESETS) == len(presets.PRESETS) - 1
    for ask in (
        lambda: zoo.find("tiny-v2"),
        lambda: zoo.find(None, "t2v", "128px"),
        lambda: zoo.find("tiny", "t2v", "4k"),
    ):
        with pytest.raises(zoo.PresetError) as caught:
            ask()
        words = str(caught.value).split("expected")[-1]
        assert "tiny-v2" not in words and "128px" not in words.partition("offered")[2]


def test_with_its_weights_it_is_offered_behind_the_first_checkpoint(assets: Path) -> None:
    assert list(zoo.PRESETS)[:2] == ["tiny", "tiny-v2"] and zoo.find().name == "tiny"
    assert zoo.find(None, "i2v", "128px").name == "tiny-v2"
    state = zoo.status(zoo.PRESETS["tiny-v2"])
    assert state.installed and state.where == assets / "tiny-v2" and not state.bytes_to_download
    by_folder = load_bundle(assets / "tiny-v2")
    assert by_folder.weights() == of_preset(zoo.PRESETS["tiny-v2"]).weights()
    assert by_folder.weights().text == assets / "tiny" / "t5"


def test_the_card_fits_the_recipe(assets: Path) -> None:
    card, recipe = find_bundle("tiny-v2").card, load_config(RECIPE)
    assert card.text_tokens == recipe.text_tokens and not card.clean_text
    assert card.time_shift == recipe.stages[-1].shift
    assert set(card.cond_types) == {name for name, _ in recipe.conditions} - {"t2v"}
    assert {bucket.frames for bucket in recipe.buckets} <= {1, *card.frames}
    from opensora.datasets.aspect import aspect_ratios, pixel_size

    sizes = {pixel_size("128px", ratio) for ratio in aspect_ratios("128px")}
    assert {(bucket.height, bucket.width) for bucket in recipe.buckets} <= sizes
    assert presets.PRESETS["tiny-v2"].defaults.frames == card.frames
    assert {recipe.vae, recipe.text, recipe.clip} <= {c.source for c in presets.PRESETS["tiny-v2"].components}


def test_a_clip_of_text_alone(assets: Path) -> None:
    result = make(aspect_ratio="9:16", length="5f")
    assert result.frames.shape == (5, 176, 96, 3)
    assert result.settings["texts"] == ["a red ball. 24 FPS."] and result.settings["resolution"] == "128px"


def test_given_first_and_last_images_come_back(assets: Path) -> None:
    first, last = CLIP[0], CLIP[-1]
    head, tail = make(reference_image=first, length="5f").frames, make(last_image=last, length="5f").frames
    loop = make(reference_image=first, last_image=last).frames
    assert (len(head), len(tail), len(loop)) == (5, 5, 9)
    for frames, at, given in ((head, 0, first), (tail, -1, last), (loop, 0, first), (loop, -1, last)):
        assert decibels(frames[at], given) > 18, "a resampler of eight pixels loses edges and keeps the picture"
        other = frames[len(frames) // 2 if frames is loop else -1 - at]
        assert decibels(frames[at], given) > decibels(other, given) + 3


def test_a_clip_is_extended_and_led_to(assets: Path) -> None:
    after = make(reference_video=CLIP, length="65f")
    before = make(reference_video=CLIP, length="65f", cond_type="v2v_tail")
    assert (after.settings["cond_type"], len(after.frames), len(before.frames)) == ("v2v_head", 65, 65)
    assert not np.array_equal(after.frames, before.frames)
    with pytest.raises(RequestError, match="nothing is left to make"):
        make(reference_video=CLIP, length="33f")


def test_longer_clips_than_it_knows_are_refused(assets: Path) -> None:
    with pytest.raises(RequestError, match="at most 65 frames at a time"):
        GenerationRequest("a ball", model="tiny-v2", length="69f").validated()
