"""Generation 2.0 with the autoencoder of high compression, from a request to frames, with tiny random networks."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import fill
from pipelines.bundles_v2 import MMDIT, write_bundle

from opensora import generate_video
from opensora.checkpoint import safetensors_io
from opensora.models.dc_ae.config import DCAEConfig
from opensora.models.dc_ae.dc_ae import DCAE
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.presets import PRESETS
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.bundle import load_bundle, of_preset
from opensora.pipelines.families import family_of
from opensora.pipelines.families.high_compression import HighCompression
from opensora.pipelines.families.v2 import latent_size
from opensora.pipelines.preflight import estimate, shape_of
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult

NETWORK = replace(MMDIT, in_channels=8, patch_size=1)
AUTOENCODER = DCAEConfig(
    latent_channels=8,
    width_list=(2, 4, 4, 4, 8, 16),
    block_type=("ResBlock", "ResBlock", "ResBlock", "ResBlock", "EViTS5_GLU", "EViT_GLU"),
    encoder_depth_list=(1,) * 6,
    decoder_depth_list=(1,) * 6,
    attention_dim=8,
)
PICTURE = np.full((120, 200, 3), (220, 30, 30), np.uint8)
PICTURE[30:60, 40:90] = 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("bundles") / "high"
    kinds = ["i2v_head", "i2v_tail", "i2v_loop"]
    made = write_bundle(place, high_compression=True, frames=[8, 12, 16], cond_types=kinds)
    networks = (("stdit", MMDiT(NETWORK), NETWORK), ("vae", DCAE(AUTOENCODER), AUTOENCODER))
    for seed, (name, network, config) in enumerate(networks):
        fill(network, seed, 1.5)
        (made / name / "config.json").write_text(json.dumps(asdict(config)))
        safetensors_io.save(network, made / name / "model.safetensors", {"role": name, "family": "2.0"})
    yield made
    release_models()


def make(folder: Path, prompt: str = "a red ball", seed: int = 3, **settings: Any) -> GenerationResult:
    return generate_video(prompt, model=folder, seed=seed, **{"steps": 2, "length": "8f", **settings})


@pytest.mark.parametrize(("length", "frames"), [("1f", 1), ("3f", 3), ("10f", 10)])
def test_a_clip_has_the_frames_that_were_asked_for_in_sides_of_multiples_of_32(
    folder: Path, length: str, frames: int
) -> None:
    result = make(folder, length=length)
    assert result.frames.shape == (frames, 192, 320, 3)
    assert (result.settings["height"], result.settings["width"]) == (192, 320)


def test_a_picture_gets_the_closest_of_the_sizes_in_multiples_of_32(folder: Path) -> None:
    picture = np.full((200, 126, 3), (220, 30, 30), np.uint8)  # of 16 it is closest to 2:3, which of 32 is 224 x 288
    request = GenerationRequest("a red ball", model=folder, length="8f", reference_image=picture).validated()
    assert (request.aspect_ratio, request.size()) == ("5:8", (320, 192))


def test_the_same_request_gives_the_same_frames_and_every_setting_changes_them(folder: Path) -> None:
    first = make(folder).frames
    for change in ({"seed": 4}, {"guidance": 1.5}, {"reference_image": PICTURE}):
        assert not np.array_equal(first, make(folder, **change).frames)
    assert np.array_equal(first, make(folder).frames)


def test_given_images_are_the_first_and_the_last_latent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Tensor, Any]] = []
    denoise = HighCompression.denoise

    def watched(self: HighCompression, models: Any, clip: Any, *rest: Any) -> torch.Tensor:
        seen.append((denoise(self, models, clip, *rest), clip.references))
        return seen[-1][0]

    monkeypatch.setattr(HighCompression, "denoise", watched)
    settings = make(folder, reference_image=PICTURE, last_image=PICTURE[:, ::-1], length="12f").settings
    assert settings["cond_type"] == "i2v_loop" and settings["num_frames"] == 12
    ((latents, (first, last)),) = seen
    assert latents.shape == (1, 8, 3, 6, 10) and first.shape == (1, 8, 1, 6, 10)
    assert torch.equal(latents[:, :, :1], first) and torch.equal(latents[:, :, 2:], last)


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"length": "20f"}, "length", "at most 16 frames at a time"),
        ({"reference_video": np.zeros((40, 64, 64, 3), np.uint8)}, "reference_video", "takes no reference video"),
        ({"cond_type": "v2v_head", "reference_image": PICTURE}, "cond_type", "was not made for v2v_head"),
        ({"last_image": PICTURE, "length": "10f"}, "length", "one of 8f, 12f, 16f"),
    ],
)
def test_what_cannot_be_is_a_sentence(folder: Path, settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        make(folder, **settings)
    assert caught.value.field == field


def test_what_is_counted_is_what_is_made(folder: Path) -> None:
    bundle, family = load_bundle(folder), family_of(load_bundle(folder))
    assert isinstance(family, HighCompression)
    request = GenerationRequest("a red ball", model=folder, length="12f", steps=2).validated()
    vae = build_models("t2v", "256px", model=folder).vae
    made = vae.get_latent_size((12, *request.size()))
    assert latent_size(family.configs(bundle)[1], shape_of(request, bundle)) == made == (3, 6, 10)
    short = estimate(GenerationRequest("a red ball", model=folder, length="8f", steps=2))
    long = estimate(GenerationRequest("a red ball", model=folder, length="16f", steps=2))
    assert long.seconds > short.seconds > 0 and long.bytes_memory > short.bytes_memory > 0


def test_the_published_networks_are_those_of_the_published_configuration() -> None:
    preset = PRESETS["opensora-2.0-high-compression"]
    bundle = of_preset(preset)
    network, vae = family_of(bundle).configs(bundle)  # type: ignore[attr-defined]
    with torch.device("meta"):
        sizes = [sum(t.numel() for t in n.state_dict().values()) for n in (MMDiT(network), DCAE(vae))]
    assert sizes == [component.parameters for component in preset.components[:2]]
    request = GenerationRequest("a cat", model=preset.name, length="128f").validated()
    assert request.size() == (576, 1024)
    assert latent_size(vae, shape_of(request, bundle)) == (32, 18, 32)  # 18432 tokens; 76032 at 768px without it
    compressed, usual = (
        estimate(GenerationRequest("a cat", model=name, resolution="768px", length=length))
        for name, length in ((preset.name, "128f"), ("opensora-2.0", "129f"))
    )
    assert compressed.stages["sampling"] < usual.stages["sampling"] / 5
    with pytest.raises(RequestError, match="at most 128 frames"):
        GenerationRequest("a cat", model=preset.name, length="129f").validated()


def test_a_card_of_high_compression_is_of_2_0_and_has_its_lengths(folder: Path, tmp_path: Path) -> None:
    card = json.loads((folder / "bundle.json").read_text())
    for change, words in (
        ({"family": "1.3", "frames": [17, 33]}, "high_compression is on for family 1.3"),
        ({"resolutions": ["144p"]}, "at 144p; it needs 2.0"),
        ({"frames": [5, 9]}, "multiples of 4 from 8 on"),
    ):
        (tmp_path / "bundle.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(ValueError, match=words):
            load_bundle(tmp_path)
