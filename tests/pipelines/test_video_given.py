"""Clips that 1.3 continues or leads to, with tiny networks of random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import write_bundle
from torch import Tensor

from opensora import generate_video
from opensora.models.presets import PRESETS
from opensora.pipelines.build import release_models
from opensora.pipelines.bundle import of_preset
from opensora.pipelines.families.v1 import V13
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult

CLIP = np.random.default_rng(0).integers(0, 256, (20, 72, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    kinds = ["i2v_head", "v2v_head", "v2v_tail"]
    yield write_bundle(tmp_path_factory.mktemp("bundles") / "random", cond_types=kinds)
    release_models()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Latents of every clip with those that it was given."""
    seen: list[tuple[Tensor, Tensor]] = []
    denoise = V13.denoise

    def watched(self: V13, models: Any, clip: Any, *rest: Any) -> Tensor:
        result = denoise(self, models, clip, *rest)
        seen.append((result, *clip.references))
        return result

    monkeypatch.setattr(V13, "denoise", watched)
    return seen


def make(folder: Path, **settings: Any) -> GenerationResult:
    return generate_video("a red ball", model=folder, seed=3, reference_video=CLIP, **{"steps": 1, **settings})


def test_a_clip_goes_on_from_the_last_17_frames_of_another_or_leads_to_its_first(
    folder: Path, made: list[tuple[Tensor, Tensor]]
) -> None:
    after, before = make(folder, length="33f"), make(folder, length="33f", cond_type="v2v_tail")
    assert after.settings["cond_type"] == "v2v_head" and len(after.frames) == len(before.frames) == 33
    assert after.settings["reference_sha256"] != before.settings["reference_sha256"]
    (head, end), (tail, beginning) = made
    assert end.shape[2] == beginning.shape[2] == 5
    assert torch.equal(head[:, :, :5], end) and torch.equal(tail[:, :, -5:], beginning)
    assert not torch.equal(head[:, :, 5:], tail[:, :, 5:])


def test_the_same_request_twice_checked_is_the_same(folder: Path) -> None:
    once = GenerationRequest("a ball", model=folder, reference_video=CLIP, length="33f").validated()
    assert isinstance(once.reference_video, np.ndarray) and len(once.reference_video) == 17
    assert np.array_equal(once.validated().reference_video, once.reference_video)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"reference_video": CLIP[:16]}, "reference_video", "at least 17 frames; this one has 16"),
        ({"length": "17f"}, "length", "takes 17 frames of the reference video, and the clip has 17"),
        ({"length": "17f", "loops": 2}, "length", "nothing is left to make"),
        ({"length": "49f", "cond_type": "v2v_tail"}, "length", "the clip has 33: nothing is left"),
    ],
    ids=str,
)
def test_what_cannot_be_is_a_sentence(folder: Path, settings: dict[str, Any], field: str, words: str) -> None:
    asked = {"model": folder, "reference_video": CLIP, "length": "33f", **settings}
    with pytest.raises(RequestError, match=words) as caught:
        GenerationRequest("a ball", **asked).validated()
    assert caught.value.field == field


def test_published_weights_of_every_generation_take_clips_but_those_of_high_compression() -> None:
    for name, preset in PRESETS.items():
        kinds = of_preset(preset).card.cond_types
        wanted = name != "opensora-2.0-high-compression"
        assert preset.bundled or "i2v" not in preset.modes or ("v2v_head" in kinds) == wanted, name
