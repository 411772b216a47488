"""Features of texts kept between runs: the same clip, byte for byte, whatever is in the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from opensora import generate_video
from opensora.models.text.t5 import T5Embedder
from opensora.pipelines.build import release_models
from opensora.pipelines.remembered import cache_folder
from opensora.pipelines.text_cache import text_cache

SETTINGS = {"length": 1, "steps": 1, "seed": 3, "dtype": "fp32", "device": "cpu", "negative_prompt": "snow"}


def make(folder: Path) -> np.ndarray:
    """A picture by networks that were loaded anew."""
    release_models()
    return generate_video("a red ball rolls", model=folder, **SETTINGS).videos[0]


def kept() -> list[Path]:
    return sorted((cache_folder() / "text").glob("*.safetensors"))


def test_a_picture_is_the_same_with_an_empty_a_filled_a_damaged_and_no_cache(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh = make(bundle_folder)
    assert len(kept()) == 2
    with monkeypatch.context() as patched:
        patched.setattr(T5Embedder, "embed", lambda self, texts: pytest.fail("encoded again"))
        filled = make(bundle_folder)
    for path in kept():
        path.write_bytes(path.read_bytes()[:-1])
    damaged = make(bundle_folder)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    without = make(bundle_folder)
    for picture in (filled, damaged, without):
        assert np.array_equal(picture, fresh)


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
