"""Generation 1.2 from a request to frames, with tiny networks of random weights."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import fill, write_text_encoder
from torch import Tensor, nn

from opensora import generate_video
from opensora.checkpoint import safetensors_io
from opensora.models.stdit.stdit3_v12 import STDiT3V12, STDiT3V12Config
from opensora.models.vae_v12.config import SpatialConfig, TemporalConfig, VAEv12Config
from opensora.models.vae_v12.vae import OpenSoraVAE_V1_2
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.families.v1 import V12
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult

STDIT = STDiT3V12Config(hidden_size=24, depth=2, num_heads=2, caption_channels=16, model_max_length=40)
VAE = VAEv12Config(
    spatial=SpatialConfig(block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2),
    temporal=TemporalConfig(filters=4, num_res_blocks=1, channel_multipliers=(1, 1, 1, 1), num_groups=2),
)
PICTURE = np.full((100, 160, 3), (200, 60, 20), np.uint8)
PICTURE[40:60, 50:90] = 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of random networks."""
    place = tmp_path_factory.mktemp("bundles") / "v12"
    networks: tuple[tuple[str, nn.Module, dict[str, object]], ...] = (
        ("stdit", STDiT3V12(STDIT), asdict(STDIT)),
        ("vae", OpenSoraVAE_V1_2(VAE), asdict(VAE)),
    )
    for seed, (name, network, config) in enumerate(networks):
        fill(network, seed, 1.5)
        (place / name).mkdir(parents=True)
        (place / name / "config.json").write_text(json.dumps(config))
        safetensors_io.save(network, place / name / "model.safetensors", {"family": "1.2", "role": name})
    torch.manual_seed(0)
    write_text_encoder(place / "t5", family="1.2")
    card = {
        "name": "random-1.2",
        "family": "1.2",
        "frames": [17, 34, 51],
        "default_steps": 2,
        "default_guidance": 3.0,
        "default_aesthetic_score": 6.5,
        "cond_types": ["i2v_head", "i2v_tail", "i2v_loop"],
    }
    (place / "bundle.json").write_text(json.dumps(card))
    yield place
    release_models()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Latents of every part that is denoised, in order."""
    seen: list[Tensor] = []
    run = V12._run

    def watched(*args: Any) -> Tensor:
        seen.append(run(*args))
        return seen[-1]

    monkeypatch.setattr(V12, "_run", watched)
    return seen


def make(folder: Path, prompt: str = "a red ball", seed: int = 3, **settings: Any) -> GenerationResult:
    return generate_video(prompt, model=folder, seed=seed, **{"steps": 2, "length": "17f", **settings})


@pytest.mark.parametrize(("length", "frames", "runs"), [(1, 1, 1), (10, 10, 1), (34, 34, 1), (60, 60, 2)])
def test_a_clip_has_exactly_the_frames_that_were_asked_for(
    folder: Path, parts: list[Tensor], length: int, frames: int, runs: int
) -> None:
    result = make(folder, length=length)
    assert result.frames.shape == (frames, 144, 256, 3) and len(parts) == runs
    assert result.settings["texts"][0] == "a red ball aesthetic score: 6.5."


def test_parts_continue_each_other_and_the_same_request_gives_the_same_frames(
    folder: Path, parts: list[Tensor]
) -> None:
    first = make(folder, length=60, motion_score=4)
    assert torch.equal(parts[0][:, :, -5:], parts[1][:, :, :5])
    assert np.array_equal(make(folder, length=60, motion_score=4).frames, first.frames)
    assert not np.array_equal(make(folder, length=60, seed=4, motion_score=4).frames, first.frames)
    assert first.settings["texts"][0] == "a red ball aesthetic score: 6.5. motion score: 4.0."


def test_given_images_stand_at_their_places(folder: Path, parts: list[Tensor]) -> None:
    make(folder, reference_image=PICTURE)
    make(folder, reference_image=PICTURE, seed=8)
    make(folder, last_image=PICTURE)
    head, again, tail = parts
    assert torch.equal(head[:, :, :1], again[:, :, :1]) and not torch.equal(head, again)
    assert torch.equal(tail[:, :, -1:], head[:, :, :1])


def test_the_cost_is_known_before_and_networks_are_loaded_once(folder: Path) -> None:
    small, large = (estimate(GenerationRequest("a ball", model=folder, length=n)) for n in (17, 51))
    assert large.seconds > small.seconds > 0 and large.bytes_memory > small.bytes_memory > 0
    assert build_models("t2v", "144p", model=folder).stdit is build_models("i2v", "144p", model=folder).stdit


def test_the_published_weights_are_offered_with_their_cost() -> None:
    cost = estimate(GenerationRequest("a cat", model="opensora-1.2", length="51f", resolution="480p"))
    assert (cost.height, cost.width, cost.frames) == (480, 848, 51)
    assert 20e9 < cost.download_bytes < 30e9 and cost.bytes_memory > 10e9
