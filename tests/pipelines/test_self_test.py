"""The self-test: what counts as the recorded clip, what is said where there is none, and the bundled record itself."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from opensora.checkpoint.identity import fingerprint
from opensora.datasets.video_io import write_mp4
from opensora.models import zoo
from opensora.models.presets import Component, Preset
from opensora.pipelines import self_test
from opensora.pipelines.self_test import Finding, Record, examine, load, psnr, save, taken

OTHERS = Preset("other", "Other", "1.3", ("t2v",), ("360p",), (Component("stdit", "someone/other", 1),))
AGAIN = "python -m opensora models --self-test tiny --record"


def record(seed: int = 0, noise: float = 0.0, weights: str = "a") -> Record:
    """Frames of a ramp with noise, as if made by weights of a hash."""
    drawn = np.random.default_rng(seed).normal(0, noise, (3, 8, 16, 3)) if noise else 0.0
    ramp = np.broadcast_to(np.linspace(40, 200, 16)[None, None, :, None], (3, 8, 16, 3))
    frames = np.clip(np.round(ramp + drawn), 0, 255).astype(np.uint8)
    return Record(frames, f"{seed} {noise} {weights}", {"stdit": weights}, "a processor, fp32")


def test_the_ratio_is_that_of_its_definition() -> None:
    zeros = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(zeros, zeros) == math.inf
    assert psnr(zeros, zeros + np.uint8(255)) == 0
    assert psnr(zeros, zeros + np.uint8(51)) == pytest.approx(20 * math.log10(5))
    assert psnr(zeros, zeros[:1]) == 0


def test_a_record_comes_back_as_it_was_and_a_damaged_one_is_a_sentence(tmp_path: Path) -> None:
    made = record(noise=20)
    save(made, tmp_path / "record.png")
    found = load(tmp_path / "record.png")
    assert np.array_equal(found.frames, made.frames)
    assert (found.sha256, found.weights, found.made_on) == (made.sha256, made.weights, made.made_on)
    (tmp_path / "record.png").write_bytes((tmp_path / "record.png").read_bytes()[:200])
    with pytest.raises(ValueError, match="record it anew"):
        load(tmp_path / "record.png")


def test_a_clip_is_compared_by_three_small_frames_of_its_file(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(0, 170, 10, dtype=np.uint8), 64 * 256 * 3).reshape(17, 64, 256, 3)
    write_mp4(tmp_path / "clip.mp4", frames, 24, {})
    made = taken(tmp_path / "clip.mp4", {"weights": {"stdit": "a"}, "device_name": "a processor", "dtype": "bf16"})
    assert made.frames.shape == (3, 32, 128, 3) and made.made_on == "a processor, bf16"
    assert np.abs(made.frames.mean((1, 2, 3)) - [0, 80, 160]).max() < 3


def test_a_bundled_model_is_held_against_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(self_test, "record_place", lambda preset: tmp_path / "record.png")
    tiny = zoo.PRESETS["tiny"]
    save(record(), tmp_path / "record.png")
    found = examine(tiny, record())
    assert (found.finding, found.decibels, found.equal) == (Finding.AS_RECORDED, math.inf, None)
    assert found.passed and "no difference (at least 30 dB wanted)" in found.text()
    found = examine(tiny, record(seed=1, noise=2))
    assert found.finding is Finding.AS_RECORDED and 40 < (found.decibels or 0) < 44 and found.equal is False
    assert examine(tiny, record(seed=1, noise=2)).equal is True
    found = examine(tiny, record(noise=30))
    assert found.finding is Finding.OTHER and not found.passed and "is not the recorded one" in found.text()
    found = examine(tiny, record(weights="b"))
    assert (found.finding, found.decibels, found.equal) == (Finding.STALE, None, None) and not found.passed


def test_the_first_clip_of_a_model_without_record_proves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = examine(OTHERS, record())
    assert found.finding is Finding.FIRST and found.passed and "whether it is right is not known" in found.text()
    found = examine(OTHERS, record())
    assert (found.finding, found.equal) == (Finding.AS_BEFORE, True) and "to the byte" in found.text()
    assert examine(OTHERS, record(noise=30)).finding is Finding.CHANGED
    assert examine(OTHERS, record(weights="b")).finding is Finding.FIRST
    assert examine(OTHERS, record(weights="b")).finding is Finding.AS_BEFORE


def test_the_bundled_record_is_small_and_belongs_to_the_bundled_weights() -> None:
    tiny = zoo.PRESETS["tiny"]
    place = self_test.record_place(tiny)
    assert place is not None and place.stat().st_size <= 100_000
    hashes = {role: fingerprint(path) for role, path in zoo.weights(tiny).paths().items()}
    assert dict(load(place).weights) == hashes, f"the weights were replaced; record their clip with: {AGAIN}"
    assert self_test.record_place(dataclasses.replace(OTHERS)) is None


def test_the_bundled_model_makes_the_recorded_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = examine(zoo.PRESETS["tiny"], self_test.run("tiny"))
    assert found.finding is Finding.AS_RECORDED, found.text()
