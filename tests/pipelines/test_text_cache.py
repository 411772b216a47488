"""Features of texts kept between runs: the same clip, byte for byte, whatever is in the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from opensora import generate_video
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.speed import cache_folder
from opensora.pipelines.text_cache import text_cache

SETTINGS = {"length": "2f", "steps": 2, "seed": 3, "dtype": "fp32", "device": "cpu", "negative_prompt": "snow"}


def make(folder: Path) -> np.ndarray:
    """A clip by networks that were loaded anew."""
    release_models()
    return generate_video("a red ball rolls", model=folder, **SETTINGS).videos[0]


def kept() -> list[Path]:
    return sorted((cache_folder() / "text").glob("*.safetensors"))


def test_a_clip_is_the_same_with_an_empty_a_filled_a_damaged_and_no_cache(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh = make(bundle_folder)
    written = kept()
    assert len(written) == 2
    encoder = build_models("t2v", "144p", True, model=bundle_folder, dtype="fp32", device="cpu").text_encoder
    monkeypatch.setattr(type(encoder.t5), "embed", lambda self, texts: pytest.fail("encoded again"))
    filled = make(bundle_folder)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = make(bundle_folder)
    for path in kept():
        path.write_bytes(path.read_bytes()[:-1])
    damaged = make(bundle_folder)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    without = make(bundle_folder)
    for clip in (filled, other, damaged, without):
        assert np.array_equal(clip, fresh)


def test_an_entry_belongs_to_weights_tokenizer_precision_and_device(bundle_folder: Path, tmp_path: Path) -> None:
    folder = bundle_folder / "t5"
    cpu = torch.device("cpu")
    plain = text_cache(folder, "a" * 64, "fp32", cpu)
    plain.put("snow", 8, torch.ones(2, 2))
    assert text_cache(folder, "a" * 64, "fp32", cpu).get("snow", 8) is not None
    assert text_cache(folder, "b" * 64, "fp32", cpu).get("snow", 8) is None
    assert text_cache(folder, "a" * 64, "bf16", cpu).get("snow", 8) is None
    assert text_cache(folder, "a" * 64, "fp32", torch.device("mps")).get("snow", 8) is None
    assert text_cache(tmp_path, "a" * 64, "fp32", cpu).get("snow", 8) is None
